"""`cxr-sr enhance`: files without a service."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(epilog="Example: cxr-sr enhance chest.dcm enhanced.dcm --scale 4")
@click.argument("source", metavar="INPUT", type=click.Path(exists=True, path_type=Path))
@click.argument("target", metavar="OUTPUT", type=click.Path(path_type=Path))
@click.option("--scale", type=click.Choice(("2", "4", "auto")), default="auto", show_default=True)
@click.option(
    "--model",
    "model_name",
    default="srgan",
    show_default=True,
    metavar="NAME",
    help="Shipped model, or a path.",
)
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto", show_default=True)
def enhance(source: Path, target: Path, scale: str, model_name: str, device: str) -> None:
    """Enhance one file, or every file of a folder.

    DICOM in, derived DICOM out. PNG, JPEG or TIFF in, PNG out, of 16 bits where the input had more than 8.
    The paths written are printed.
    """
    raise NotImplementedError
