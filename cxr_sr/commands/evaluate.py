"""`cxr-sr evaluate`: image quality with figures."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_sr.failure import Failure
from cxr_sr.options import json_option


@click.command(
    epilog="Example: cxr-sr evaluate --data radiographs/ --protocol native --limit 50 --csv images.csv"
)
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of radiographs (pictures, .dcm); each folder below it is a data set of its own.",
)
@click.option("--protocol", type=click.Choice(("native", "seed")), default="native", show_default=True)
@click.option(
    "--model",
    "model_names",
    multiple=True,
    default=("srgan",),
    show_default=True,
    metavar="NAME",
    help="Shipped model, or a path; more than one are measured in one pass.",
)
@click.option("--scale", type=click.Choice(("2", "4")), default="4", show_default=True)
@click.option(
    "--side",
    type=click.IntRange(64, 4096),
    default=256,
    show_default=True,
    help="Side of the truth in pixels; smaller images are left out.",
)
@click.option(
    "--dose",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the dose, e.g. 0.25: simulated noise goes onto the image before it is reduced.",
)
@click.option("--dataset", "datasets", multiple=True, metavar="NAME", help="Only this data set; repeatable.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many images of each data set.")
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto", show_default=True)
@click.option(
    "--split",
    type=click.Choice(("all", "val", "dev", "report")),
    default="all",
    show_default=True,
    help="All images; those that SOURCES.csv lists for validation; one half of their patients.",
)
@click.option("--judge/--no-judge", default=True, help="Distances by the judging network. [default: judge]")
@click.option("--csv", "table", type=click.Path(dir_okay=False, path_type=Path), help="Write a row an image.")
@click.option(
    "--worst",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a picture of the ten images where the first model gains least over bicubic.",
)
@json_option
def evaluate(
    data: Path,
    protocol: str,
    model_names: tuple[str, ...],
    scale: str,
    side: int,
    dose: float | None,
    datasets: tuple[str, ...],
    limit: int | None,
    device: str,
    split: str,
    judge: bool,
    table: Path | None,
    worst: Path | None,
    as_json: bool,
) -> None:
    """Reduce a folder's images, enlarge them again, and measure the result beside bicubic and Lanczos.

    `native` reduces the image to 256x256 (the truth) and that by the scale (the input). `seed` first enlarges
    a reduced image, which flatters every method. DICOM is measured at its stored values. Intervals are
    of 95 %, by bootstrap over patients.
    """
    from cxr_sr.stored import STORED_SUFFIXES, StoredReader
    from enhancer.evaluate import measure
    from enhancer.evaluation.report import as_csv
    from enhancer.model import load
    from enhancer.noise import simulate

    if split == "report":
        click.echo("cxr-sr: `report` is read once a release, for the card; choose by `dev`", err=True)
    noise = None if dose is None else (simulate, dose)
    with StoredReader() as reader:
        found = measure(
            data,
            [load(name, device) for name in model_names],
            protocol=protocol,
            scale=int(scale),
            side=side,
            split=split,
            limit=limit,
            datasets=datasets,
            noise=noise,
            judge=judge,
            reader=reader,
            suffixes=STORED_SUFFIXES,
        )
    if table is not None:
        table.write_text(as_csv(found.images), encoding="utf-8")
    if worst is not None:
        try:
            found.worst.picture().save(worst)
        except ValueError as error:  # Pillow does not know the suffix
            raise Failure(f"{worst} cannot be written: {error}") from error
    report = found.report()
    click.echo(report.as_json() if as_json else report.table())
