"""`cxr-sr train`: the generator and the discriminator, from a recipe."""

from __future__ import annotations

import signal
from pathlib import Path

import click


@click.command(epilog="Example: cxr-sr train --config enhancer/configs/srresnet.toml --resume")
@click.option(
    "--config",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The recipe: data, network, schedule, where to save.",
)
@click.option("--resume", is_flag=True, help="Go on where the run was broken off.")
def train(config: Path, resume: bool) -> None:
    """Train as the recipe says; the path of the last checkpoint is printed at the end.

    The recipe's `data` is a folder with a SOURCES.csv, or one of a hospital's own images (DICOM by its stored
    values, PNG, TIFF, ...): one in ten patients of such a folder is kept apart to measure on.
    """
    from cxr_sr.stored import STORED_SUFFIXES, StoredReader
    from enhancer.train import train as run

    # a shell ignores SIGINT for what runs in the background, and SIGTERM would lose minutes of work
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with StoredReader() as reader:
        outcome = run(config, resume=resume, reader=reader, suffixes=STORED_SUFFIXES)
    figures = ", ".join(f"{name} {value:.3f}" for name, value in outcome.figures.items())
    click.echo(f"{outcome.iterations} iterations in {outcome.minutes:.1f} minutes; {figures}", err=True)
    click.echo(str(outcome.checkpoint))
