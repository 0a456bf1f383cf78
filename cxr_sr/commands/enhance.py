"""`cxr-sr enhance`: files without a service."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import click

from cxr_sr.failure import Failure


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
    The paths written are printed. Of a folder, what cannot be enhanced is named and left out; the exit status
    is then 1.
    """
    import enhancer
    from pacs_node.files import Failed, enhance_path

    model = enhancer.load(model_name, device=device)
    wanted: Literal["auto"] | int = "auto" if scale == "auto" else int(scale)
    failed = 0
    with _progress() as progress:
        for done in enhance_path(source, target, scale=wanted, model=model, progress=progress):
            if isinstance(done, Failed):
                failed += 1
                click.echo(f"cxr-sr: {done.source}: {done.reason}", err=True)
                continue
            sizes = f"{'x'.join(map(str, done.source_size))} -> {'x'.join(map(str, done.result_size))}"
            click.echo(f"{done.source.name}: {sizes}, {done.seconds:.1f} s", err=True)
            click.echo(str(done.target))
    if failed:
        raise Failure(f"{failed} of the files were not enhanced; the reasons are above")


@contextmanager
def _progress() -> Iterator[Callable[[float], None] | None]:
    """A line on a terminal that tells the share done; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return

    def show(share: float) -> None:
        click.echo("\r\x1b[K" if share >= 1 else f"\r{share:4.0%}", nl=False, err=True)

    yield show
