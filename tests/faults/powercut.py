"""A recording of a real node at work, and whether what a power cut leaves of it holds what was promised."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.disk import Luck, lay_out
from tests.faults.replay import Promise, Replay
from tests.faults.tracing import Call

END = 1 << 62
"""A position after everything."""

_END_OF_PNG = b"IEND\xae\x42\x60\x82"
_OBJECTS = """
    SELECT object_key, sha256 FROM source WHERE deleted_at IS NULL
    UNION ALL SELECT object_key, sha256 FROM result WHERE deleted_at IS NULL
    UNION ALL SELECT preview_key, NULL FROM source WHERE preview_key IS NOT NULL
    UNION ALL SELECT preview_key, NULL FROM result WHERE preview_key IS NOT NULL
"""


@dataclass(frozen=True)
class Recording:
    """What a node did in `root`, what it promised, and what was true in the end.

    `images` are the data sets as they were sent, by SOP Instance UID; `uploads` the digests of files that
    were uploaded, by job; `results` the digests of result objects by SOP Instance UID, `copies` those of the
    data sets that the archive got. `before` is a copy of what was in `root` before, None when it was empty.
    """

    root: Path
    calls: Sequence[Call]
    promises: Sequence[Promise]
    images: dict[str, bytes]
    uploads: dict[int, str] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)
    copies: dict[str, list[str]] = field(default_factory=dict)
    before: Path | None = None

    def promised(self, before: int) -> list[Promise]:
        return [promise for promise in self.promises if promise.at < before]

    def cuts(self, number: int) -> list[int]:
        """Moments spread over the work: just after each promise, and as many others as are wanted, each
        before a call that changes something.
        """
        first = min((promise.at for promise in self.promises if promise.at >= 0), default=0)
        told = {promise.at + 1 for promise in self.promises if promise.at >= 0}
        changes = [call.ended for call in self.calls if call.peer is None and call.ended > first]
        others = max(0, number - len(told))
        return sorted({*told, *changes[:: max(1, len(changes) // (others + 1))], END})


def after_cuts(
    recording: Recording,
    target: Path,
    cuts: Sequence[int],
    lucks: Sequence[tuple[str, int]],
    *,
    ignored: Callable[[str], bool] = lambda _group: False,
) -> Iterator[tuple[int, str, Path]]:
    """The folder that each cut leaves with each luck, one at a time: (position, luck, folder)."""
    replay = Replay(recording.calls, recording.root, before=recording.before, ignored=ignored)
    for cut in cuts:
        disk = replay.until(cut)
        for kind, seed in lucks:
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            lay_out(disk, target, Luck(kind, hash((cut, seed))))
            yield cut, f"{kind}, seed {seed}", target
    shutil.rmtree(target, ignore_errors=True)


def harm(recording: Recording, cut: int, folder: Path) -> list[str]:
    """Everything promised before the cut that is not so in `folder`; empty when all is well.

    The database is opened as a node opens it: SQLite recovers what its log holds.
    """
    promised = recording.promised(cut)
    database = folder / "var" / "cxr-sr.db"
    if not database.exists():
        return ["there is no database"] if promised else []
    try:
        with closing(sqlite3.connect(database)) as connection:
            said = connection.execute("PRAGMA integrity_check").fetchone()[0]
            if said != "ok":
                return [f"the database is damaged: {said}"]
            if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'source'").fetchone():
                return ["the database has no tables"] if promised else []
            store = folder / "var" / "objects"
            return [
                *_torn_objects(connection, store),
                *_broken_promises(connection, store, recording, promised),
                *_torn_files(folder / "var", recording, promised),
            ]
    except sqlite3.DatabaseError as error:
        return [f"the database cannot be read: {error}"]


def _torn_objects(connection: sqlite3.Connection, store: Path) -> Iterator[str]:
    for key, sha256 in connection.execute(_OBJECTS):
        if not (store / key).is_file():
            yield f"{key} is missing"
        elif sha256 is not None and _digest(store / key) != sha256:
            yield f"{key} is torn"
        elif sha256 is None and not (store / key).read_bytes().endswith(_END_OF_PNG):
            yield f"{key} is cut"


def _broken_promises(
    connection: sqlite3.Connection, store: Path, recording: Recording, promised: Sequence[Promise]
) -> Iterator[str]:
    sources = dict(
        connection.execute(
            "SELECT sop_instance_uid, object_key FROM source JOIN job ON job.source_id = source.id"
        )
    )
    jobs = dict(connection.execute("SELECT job.id, sha256 FROM job JOIN source ON source.id = source_id"))
    results = dict(connection.execute("SELECT sop_instance_uid, sha256 FROM result"))
    for promise in promised:
        if promise.kind == "image":
            key = sources.get(promise.what)
            if key is None:
                yield f"an acknowledged image is lost: {promise.what}"
            elif (store / key).is_file() and not (store / key).read_bytes().endswith(
                recording.images[promise.what]
            ):
                yield f"an acknowledged image has other bytes: {promise.what}"
        elif promise.kind == "job":
            sha256 = jobs.get(int(promise.what))
            if sha256 is None or sha256 != recording.uploads.get(int(promise.what), sha256):
                yield f"an accepted upload is lost: job {promise.what}"
        elif promise.kind == "sent" and recording.results[promise.what] != results.get(promise.what):
            yield f"a result that was sent is not known any more: {promise.what}"


def _torn_files(data: Path, recording: Recording, promised: Sequence[Promise]) -> Iterator[str]:
    for promise in promised:
        if promise.kind == "backup":
            yield from _bad_backup(data / "backups" / promise.what)
    told = max((int(promise.what) for promise in promised if promise.kind == "audit"), default=0)
    audit = data / "audit.xml"
    there = audit.read_bytes() if audit.exists() else b""
    if there[:told] != (recording.root / "var" / "audit.xml").read_bytes()[:told]:
        yield "messages that the audit file had taken are lost"


def _bad_backup(file: Path) -> Iterator[str]:
    if not file.exists():
        yield f"{file.name} is missing"
        return
    with closing(sqlite3.connect(file)) as connection:
        try:
            said = connection.execute("PRAGMA integrity_check").fetchone()[0]
        except sqlite3.DatabaseError as error:
            said = str(error)
    if said != "ok":
        yield f"{file.name} is damaged: {said}"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
