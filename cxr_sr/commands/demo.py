"""`cxr-sr demo`: the whole node at work, on this machine alone."""

from __future__ import annotations

import threading
from pathlib import Path

import click

from cxr_sr.failure import Failure

FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command(epilog="Example: cxr-sr demo --once")
@click.option(
    "--once", is_flag=True, help="End when the last image has come back: 0 when none is missing, else 1."
)
@click.option(
    "--folder",
    type=FOLDER,
    default=Path("var/demo"),
    show_default=True,
    help="Where it writes; emptied first.",
)
@click.option("--samples", type=FOLDER, help="DICOM files to push in place of the shipped ones.")
def demo(once: bool, folder: Path, samples: Path | None) -> None:
    """Start the node on loopback, push sample radiographs, wait for the enhanced ones in a demo archive.

    Prints one line an image (source size, result size, seconds, its page, its picture) and writes a
    before/after PNG of each into var/demo/. Then the pages stay up until Ctrl-C.
    """
    from cxr_sr.demo import SAMPLES, run_demo
    from cxr_sr.roles import stop_on_signals

    stop = threading.Event()
    stop_on_signals(stop)
    if not run_demo(folder, samples or SAMPLES, once=once, stop=stop):
        raise Failure(f"not every image came back; the reason is above or in {folder / 'node.log'}")
