"""The whole node on loopback, shown at work: a demo archive, real associations, sample radiographs.

What happens here happens in a hospital too, between the same processes; only the archive is ours.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cxr_sr import pictures, push, supervisor
from cxr_sr.failure import Failure
from cxr_sr.roles import ROLES

if TYPE_CHECKING:
    from config import Settings
    from db import Database
    from pacs_node.archive import Archive

SAMPLES = Path(__file__).parent / "samples"
ARCHIVE_AE = "DEMO_PACS"
START_SECONDS = 90.0
POLL_SECONDS = 0.1
IMAGE_SECONDS = 600.0
"""Longest wait for the last image, on the slowest machine we have in mind."""

KEPT = ("CXR_SR_ENHANCER__", "CXR_SR_DICOM__PORT", "CXR_SR_WEB__PORT", "CXR_SR_LOG__")
"""Of the environment's settings, those that the demo heeds; it has its own database, folders and archive."""


def run_demo(folder: Path, samples: Path, *, once: bool, stop: threading.Event) -> bool:
    """Start the node in `folder`, push `samples`, wait for the results; True when every one came back.

    Without `once` the node goes on until `stop` is set. Says what it does on stderr, one line an image on
    stdout.
    """
    files = sorted(samples.glob("*.dcm"))
    if not files:
        raise Failure(f"{samples} holds no sample; give a folder of DICOM files")
    began = time.monotonic()
    with supervisor.node_lock(folder, seconds=0.5):
        _empty(folder)
        _forget_environment()
        with _archive(folder) as archive, _node(folder, archive) as (settings, database):
            complete = _show(settings, database, archive, files, folder, stop)
            seconds = time.monotonic() - began
            click.echo(
                f"{'All is back' if complete else 'Not all came back'} after {round(seconds)} s.",
                err=True,
            )
            if not once and not stop.is_set():
                click.echo("The node goes on; send it images of your own. Ctrl-C ends it.", err=True)
                stop.wait()
            return complete


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == "node.lock":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _forget_environment() -> None:
    for name in [n for n in os.environ if n.startswith("CXR_SR_") and not n.startswith(KEPT)]:
        del os.environ[name]


@contextmanager
def _archive(folder: Path) -> Iterator[Archive]:
    from pacs_node.archive import Archive

    with Archive(folder / "archive", ae_title=ARCHIVE_AE) as archive:
        yield archive


@contextmanager
def _node(folder: Path, archive: Archive) -> Iterator[tuple[Settings, Database]]:
    """The supervised node with the demo's own configuration; drained at the end."""
    from config import load_settings
    from config.log import configure
    from db import Database

    path = folder / "cxr-sr.toml"
    path.write_text(_configuration(folder, archive.port))
    settings = load_settings(path)
    configure(settings.log.model_copy(update={"level": "error"}), "demo")
    administrator = supervisor.prepare(settings)
    since = datetime.now(UTC)
    stop = threading.Event()
    database = Database(settings.database_url)
    with (folder / "node.log").open("wb") as output:
        node = supervisor.Supervisor(tuple(ROLES), supervisor.role_command(path), output=output)
        thread = threading.Thread(target=node.run, args=(stop,), name="supervisor")
        thread.start()
        try:
            click.echo(f"Starting the node; its log is {folder / 'node.log'}", err=True)
            if not supervisor.wait_for_roles(settings, ("receiver",), since, stop, START_SECONDS):
                raise Failure(f"the receiver does not start; see {folder / 'node.log'}")
            click.echo(f"Pages: {supervisor.web_url(settings)}", err=True)
            if administrator is not None:
                click.echo("Log in as {} with the password {}".format(*administrator), err=True)
            click.echo(
                f"DICOM: {settings.dicom.ae_title} at {settings.dicom.host}:{settings.dicom.port}", err=True
            )
            yield settings, database
        finally:
            stop.set()
            thread.join()
            database.close()


def _configuration(folder: Path, archive_port: int) -> str:
    dicom_port, web_port = _port("CXR_SR_DICOM__PORT", 11112), _port("CXR_SR_WEB__PORT", 8080)
    return f"""# Written by `cxr-sr demo`.
data_dir = {json.dumps(str(folder.absolute()))}

[dicom]
port = {dicom_port}

[web]
port = {web_port}

[[destinations]]
name = "demo-archive"
ae_title = "{ARCHIVE_AE}"
host = "127.0.0.1"
port = {archive_port}
"""


def _port(variable: str, usual: int) -> int:
    """The configured port; else the usual one where nobody has it; else a free one."""
    configured = os.environ.get(variable, "")
    if configured.isdigit() and int(configured):
        return int(configured)
    os.environ.pop(variable, None)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", usual))
        except OSError:
            return supervisor.free_port("127.0.0.1")
    return usual


def _show(
    settings: Settings,
    database: Database,
    archive: Archive,
    files: list[Path],
    folder: Path,
    stop: threading.Event,
) -> bool:
    """Push, wait, print a line for each image as it comes back; True when none is missing."""
    dicom = settings.dicom
    pushed = push.push(files, host=dicom.host, port=dicom.port, ae_title=dicom.ae_title)
    refused = [one for one in pushed if one.status != 0x0000]
    for one in refused:
        click.echo(f"{one.file.name}: refused with status {one.status or 0:#06x}", err=True)
    waiting = {one.sop_instance_uid: one for one in pushed if one.status == 0x0000}
    deadline = time.monotonic() + IMAGE_SECONDS
    missing = len(refused)
    while waiting and time.monotonic() < deadline and not stop.wait(POLL_SECONDS):
        for uid, one in list(waiting.items()):
            seen = _look(database, uid)
            if seen is None:
                continue
            if seen.trouble is not None:
                click.echo(f"{one.file.name}: {seen.trouble}", err=True)
                missing += 1
                del waiting[uid]
            elif seen.result_uid and (result := archive.find(seen.result_uid)) is not None:
                _tell(settings, one, seen, result, folder)
                del waiting[uid]
    for one in waiting.values():
        click.echo(f"{one.file.name}: has not come back", err=True)
    return missing + len(waiting) == 0


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a sample's job is; `trouble` is set when nothing more will come."""

    job_id: int
    result_uid: str | None
    source_size: str
    result_size: str
    model: str
    trouble: str | None


def _look(database: Database, sop_instance_uid: str) -> Seen | None:
    from sqlalchemy import select

    from db.models import Job, Source
    from db.states import JobState

    ended = {JobState.FAILED, JobState.SKIPPED, JobState.CANCELLED, JobState.RETRACTED}
    query = (
        select(Job)
        .join(Source)
        .where(Source.sop_instance_uid == sop_instance_uid)
        .order_by(Job.id.desc())
        .limit(1)
    )
    with database.read() as session:
        job = session.scalar(query)
        if job is None:
            return None
        result, source = job.result, job.source
        return Seen(
            job_id=job.id,
            result_uid=result.sop_instance_uid if result else None,
            source_size=f"{source.columns}x{source.rows}",
            result_size=f"{result.columns}x{result.rows}" if result else "",
            model=job.model_version.name if job.model_version else "",
            trouble=f"{job.state.value}: {job.reason}" if job.state in ended else None,
        )


def _tell(settings: Settings, one: push.Pushed, seen: Seen, result: Path, folder: Path) -> None:
    seconds = time.monotonic() - one.answered_at
    picture = folder / f"{one.file.stem}.png"
    pictures.write_before_after(one.file, result, picture, model=seen.model)
    where = f"{supervisor.web_url(settings)}jobs/{seen.job_id}"
    click.echo(
        f"{one.file.name}  {seen.source_size} -> {seen.result_size}  {seconds:.1f} s  {where}  {picture}"
    )
