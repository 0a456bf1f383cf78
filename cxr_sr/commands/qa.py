"""`cxr-sr qa`: a model against objects whose truth is known."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_sr.options import print_json


@click.command(epilog="Example: cxr-sr qa --model srgan --out qa/ --data radiographs/")
@click.option(
    "--model",
    "model_name",
    default="srgan",
    show_default=True,
    metavar="NAME",
    help="Shipped model, or a path.",
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for report.md, report.json and the plots.",
)
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of radiographs with its SOURCES.csv, to plant findings in (`dev` patients only).",
)
@click.option("--images", default=4, show_default=True, type=click.IntRange(1, 100), help="How many of them.")
@click.option("--scale", type=click.Choice(("2", "4")), default="4", show_default=True)
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON instead of the summary.")
def qa(
    model_name: str, out: Path, data: Path | None, images: int, scale: str, device: str, as_json: bool
) -> None:
    """Test a model with edges, bars, discs, noise, markers, and findings planted into radiographs.

    Each object is reduced as a detector with larger pixels would see it and enlarged by the model and by
    bicubic. The report tells how much survives and how much is added. Without `--data` nothing is planted.
    """
    from tqdm import tqdm

    from enhancer.model import load
    from enhancer.qa import report
    from enhancer.qa.assess import STEPS, assess, pictures

    chosen = [] if data is None else pictures(data, images)
    model = load(model_name, device)
    with tqdm(total=2 * STEPS, unit="test", disable=None, ncols=80) as bar:
        found = assess(model, chosen, int(scale), step=bar.update)
    page = report.write(found, out)
    if as_json:
        print_json(found.to_dict())
    else:
        click.echo(report.summary(found))
    click.echo(f"cxr-sr: the report is {page}", err=True)
