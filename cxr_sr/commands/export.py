"""`cxr-sr export`: results without whose they are, for research."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cxr_sr.failure import Failure
from cxr_sr.options import actor, config_option, load, open_database

if TYPE_CHECKING:
    from db import Database
    from db.objects import ObjectStore
    from pacs_node.deidentify import Deidentifier

OFF = (
    "de-identified export is off; who answers for data protection may switch it on: "
    "research.deidentified_export = true (docs/privacy.md)"
)


@click.command(epilog="Example: cxr-sr export 4711 4712 --to study-a")
@click.argument("jobs", metavar="ID...", type=int, nargs=-1, required=True)
@click.option(
    "--to", "folder", required=True, metavar="FOLDER", help="A new or empty folder, for its owner alone.",
    type=click.Path(file_okay=False, path_type=Path),
)  # fmt: skip
@config_option
def export(jobs: tuple[int, ...], folder: Path, config: Path | None) -> None:
    """Write results of jobs to FOLDER, de-identified by the basic profile of DICOM PS3.15.

    UIDs are new and random, the same for the same within one export; no list of the old ones is kept. The
    pixels are as they are: look at them before they leave the house. Off unless research.deidentified_export
    is set.
    """
    from db.objects import store_of
    from pacs_node.deidentify import Deidentifier

    settings = load(config)
    if not settings.research.deidentified_export:
        raise Failure(OFF)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise Failure(f"{folder} is not empty; name a folder that is")
    export, failed = Deidentifier(), 0
    with open_database(settings) as database:
        for place, number in enumerate(dict.fromkeys(jobs), start=1):
            target = folder / f"{place:06}.dcm"
            try:
                told = _one(database, store_of(settings), export, number, target)
            except Failure as error:
                failed += 1
                click.echo(f"job {number}: {error}", err=True)
                continue
            click.echo(str(target))
            for line in told:
                click.echo(f"job {number}: {line}", err=True)
    if failed:
        raise Failure(f"{failed} of {len(set(jobs))} results were not exported")


def _one(
    database: Database, store: ObjectStore, export: Deidentifier, number: int, target: Path
) -> list[str]:
    """Export one result, its entry in the audit trail first; what somebody should know. Raises Failure."""
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    from db import audit
    from db.models import Job
    from db.objects import StoreError
    from db.states import JobState
    from pacs_node.deidentify import NotDeidentified

    with database.read() as session:
        job = session.get(Job, number)
        result = job.result if job is not None and job.state != JobState.RETRACTED else None
    if result is None or result.deleted_at is not None:
        raise Failure("it has no result that could be exported")
    try:
        with store.open(result.object_key) as stream:
            ds = dcmread(stream)
        told = export.apply(ds)
    except NotDeidentified as error:
        raise Failure(f"not exported: {error}") from error
    except (StoreError, OSError, InvalidDicomError, ValueError, KeyError, AttributeError) as error:
        raise Failure("not exported: its object cannot be read") from error
    with database.write() as session:
        audit.record(session, actor(), "job.export", object_type="job", object_id=number)
    made = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(made, "wb") as file:
        ds.save_as(file, enforce_file_format=True)
    return told
