"""The whole node shown at work: sample radiographs out to it, enhanced series back into an archive, pictures
of both.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

import click

from cxr_sr import loopback, pictures, supervisor
from cxr_sr.failure import Failure

SAMPLES = Path(__file__).parent / "samples"
IMAGE_SECONDS = 600.0
"""Longest wait for the last image, on the slowest machine we have in mind."""


def run_demo(folder: Path, samples: Path, *, once: bool, stop: threading.Event) -> bool:
    """Start the node in `folder`, push `samples`, wait for the results; True when every one came back.

    Without `once` the node goes on until `stop` is set. Says what it does on stderr, one line an image on
    stdout.
    """
    files = sorted(samples.glob("*.dcm"))
    if not files:
        raise Failure(f"{samples} holds no sample; give a folder of DICOM files")
    began = time.monotonic()
    click.echo(f"Starting the node; its log will be {folder / loopback.LOG}", err=True)
    with loopback.node(folder, usual_ports=True) as here:
        _introduce(here)
        missing = 0
        for fate in loopback.follow(here, files, seconds=IMAGE_SECONDS, stop=stop):
            if fate.result is None:
                missing += 1
                click.echo(f"{fate.file.name}: {fate.trouble}", err=True)
            else:
                _tell(here, fate, fate.result, folder)
        how = "All is back" if not missing else f"{missing} of {len(files)} did not come back"
        click.echo(f"{how} after {time.monotonic() - began:.0f} s.", err=True)
        if not once and not stop.is_set():
            click.echo("The node goes on; send it images of your own. Ctrl-C ends it.", err=True)
            stop.wait()
    return not missing


def _introduce(here: loopback.Loopback) -> None:
    click.echo(f"Pages: {supervisor.web_url(here.settings)}", err=True)
    if here.administrator is not None:
        click.echo("Log in as {} with the password {}".format(*here.administrator), err=True)
    dicom = here.settings.dicom
    click.echo(f"DICOM: {dicom.ae_title} at {dicom.host}:{dicom.port}", err=True)


def _tell(here: loopback.Loopback, fate: loopback.Fate, result: Path, folder: Path) -> None:
    picture = folder / f"{fate.file.stem}.png"
    pictures.write_before_after(fate.file, result, picture, model=fate.model)
    page = f"{supervisor.web_url(here.settings)}jobs/{fate.job_id}"
    sizes = f"{fate.source_size} -> {fate.result_size}"
    click.echo(f"{fate.file.name}  {sizes}  {fate.seconds:.1f} s  {page}  {picture}")
