"""A whole node on loopback with an archive of its own, for the demo and the benchmark.

What happens here happens in a hospital too, between the same processes; only the archive is ours.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_sr import push, supervisor
from cxr_sr.failure import Failure
from cxr_sr.roles import ROLES

if TYPE_CHECKING:
    from config import Settings
    from db import Database
    from pacs_node.archive import Archive

ARCHIVE_AE = "DEMO_PACS"
LOG = "node.log"
START_SECONDS = 90.0
POLL_SECONDS = 0.1

KEPT = ("CXR_SR_ENHANCER__", "CXR_SR_DICOM__PORT", "CXR_SR_WEB__PORT", "CXR_SR_LOG__")
"""Of the environment's settings, those that are heeded; database, folders and archive are the node's own."""


@dataclass(frozen=True, slots=True)
class Loopback:
    """A running node; `administrator` is the name and password that its first start has made."""

    settings: Settings
    database: Database
    archive: Archive
    administrator: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a pushed image: `result` is its file in the archive, or `trouble` says why there is
    none.

    `seconds` passed from the answer to its C-STORE until the result was seen in the archive.
    """

    file: Path
    job_id: int | None = None
    source_size: str = ""
    result_size: str = ""
    model: str = ""
    result: Path | None = None
    trouble: str | None = None
    seconds: float = 0.0


@contextmanager
def node(folder: Path, *, usual_ports: bool = False) -> Iterator[Loopback]:
    """A node in `folder`, which is emptied first; yields when it receives, drains it at the end.

    It listens at the configured ports, else at the usual ones if wanted and nobody has them, else at free
    ones.
    """
    from pacs_node.archive import Archive

    with supervisor.node_lock(folder, seconds=0.5):
        _empty(folder)
        for name in [n for n in os.environ if n.startswith("CXR_SR_") and not n.startswith(KEPT)]:
            del os.environ[name]
        with (
            Archive(folder / "archive", ae_title=ARCHIVE_AE) as archive,
            (folder / LOG).open("wb") as output,
        ):
            config = folder / "cxr-sr.toml"
            config.write_text(_configuration(folder, archive.port, usual_ports))
            with _supervised(config, folder, output.fileno()) as (settings, database, administrator):
                yield Loopback(settings, database, archive, administrator)


@contextmanager
def _supervised(
    config: Path, folder: Path, output: int
) -> Iterator[tuple[Settings, Database, tuple[str, str] | None]]:
    from config import load_settings
    from config.log import configure
    from db import Database

    settings = load_settings(config)
    configure(settings.log.model_copy(update={"level": "error"}), "supervisor")
    administrator = supervisor.prepare(settings)
    since = datetime.now(UTC)
    stop = threading.Event()
    roles = supervisor.Supervisor(tuple(ROLES), supervisor.role_command(config), output=output)
    thread = threading.Thread(target=roles.run, args=(stop,), name="supervisor")
    thread.start()
    database = Database(settings.database_url)
    try:
        if not supervisor.wait_for_roles(settings, ("receiver",), since, stop, START_SECONDS):
            raise Failure(f"the receiver does not start; see {folder / LOG}")
        yield settings, database, administrator
    finally:
        stop.set()
        thread.join()
        database.close()


def follow(here: Loopback, files: Sequence[Path], *, seconds: float, stop: threading.Event) -> Iterator[Fate]:
    """Push files to the node over one association; yields the fate of each when it is known.

    Ends when all are known, when `seconds` have passed or when `stop` is set; what is then still on its way
    is yielded as missing.
    """
    dicom = here.settings.dicom
    waiting: dict[str, push.Pushed] = {}
    for one in push.push(files, host=dicom.host, port=dicom.port, ae_title=dicom.ae_title):
        if one.status == 0x0000:
            waiting[one.sop_instance_uid] = one
        else:
            yield Fate(one.file, trouble=f"refused with status {one.status or 0:#06x}")
    deadline = time.monotonic() + seconds
    while waiting and time.monotonic() < deadline and not stop.wait(POLL_SECONDS):
        for uid, one in list(waiting.items()):
            fate = _look(here, one)
            if fate.result is not None or fate.trouble is not None:
                del waiting[uid]
                yield fate
    for one in waiting.values():
        yield Fate(one.file, trouble="has not come back")


def _look(here: Loopback, one: push.Pushed) -> Fate:
    from sqlalchemy import select

    from db.models import Job, Source
    from db.states import JobState

    ended = {JobState.FAILED, JobState.SKIPPED, JobState.CANCELLED, JobState.RETRACTED}
    query = select(Job).join(Source).where(Source.sop_instance_uid == one.sop_instance_uid)
    with here.database.read() as session:
        job = session.scalar(query.order_by(Job.id.desc()).limit(1))
        if job is None:
            return Fate(one.file)
        result, source = job.result, job.source
        return Fate(
            file=one.file,
            job_id=job.id,
            source_size=f"{source.columns}x{source.rows}",
            result_size=f"{result.columns}x{result.rows}" if result else "",
            model=job.model_version.name if job.model_version else "",
            result=here.archive.find(result.sop_instance_uid) if result else None,
            trouble=f"{job.state.value}: {job.reason}" if job.state in ended else None,
            seconds=time.monotonic() - one.answered_at,
        )


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == "node.lock":
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _configuration(folder: Path, archive_port: int, usual: bool) -> str:
    dicom_port = _port("CXR_SR_DICOM__PORT", 11112 if usual else 0)
    web_port = _port("CXR_SR_WEB__PORT", 8080 if usual else 0)
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
    """The configured port; else `usual` where nobody has it; else a free one."""
    configured = os.environ.get(variable, "")
    if configured.isdigit() and int(configured):
        return int(configured)
    os.environ.pop(variable, None)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", usual))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
