"""`cxr-sr evaluate`: image quality with figures."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_sr.options import json_option


@click.command(epilog="Example: cxr-sr evaluate --data radiographs/ --protocol native --limit 50")
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of radiographs; each folder below it is a data set of its own.",
)
@click.option("--protocol", type=click.Choice(("native", "seed")), default="native", show_default=True)
@click.option(
    "--model",
    "model_name",
    default="srgan",
    show_default=True,
    metavar="NAME",
    help="Shipped model, or a path.",
)
@click.option("--scale", type=click.Choice(("2", "4")), default="4", show_default=True)
@click.option("--limit", type=click.IntRange(min=1), help="At most so many images of each data set.")
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto", show_default=True)
@click.option(
    "--patients",
    type=click.Choice(("all", "dev", "report")),
    default="all",
    show_default=True,
    help="All images, or one half of the validation patients.",
)
@json_option
def evaluate(
    data: Path,
    protocol: str,
    model_name: str,
    scale: str,
    limit: int | None,
    device: str,
    patients: str,
    as_json: bool,
) -> None:
    """Reduce a folder's images, enlarge them again, and measure the result beside bicubic and Lanczos.

    `native` reduces the image to 256x256 (the truth) and that by the scale (the input). `seed` first enlarges
    a reduced image, which flatters every method.
    """
    from enhancer.evaluate import evaluate as measure

    report = measure(
        data,
        protocol=protocol,
        model_name=model_name,
        scale=int(scale),
        limit=limit,
        device=device,
        patients=patients,  # type: ignore[arg-type]
    )
    click.echo(report.as_json() if as_json else report.table())
