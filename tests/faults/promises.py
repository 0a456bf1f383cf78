"""What a node owes after whatever was done to it: its rows, its files and the archive's memory compared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import func, select

from cxr_sr.scheduler import sweep_spool
from db import retention
from db.exchange import LabelledResult, RejectionNote
from db.models import Delivery, Job, Result, Source
from db.objects import LocalStore, ObjectMissing
from db.states import DELIVERY_ARRIVED, JobState
from db.types import utcnow
from tests.faults.node import Node, RecordingArchive

_KNOWN = re.compile(
    r"(cxr-sr\.db(-wal|-shm|\.upgrade-lock)?|node\.lock|scheduler\.lock|backups/cxr-sr-[0-9]{8}T[0-9]{6}Z\.db"
    r"|objects/spool/dimse-[0-9a-f]{32}\.lock|objects/(sources|results|previews|notes|labelled)/[0-9a-f]{2}/[0-9a-f]{32}\.[a-z]+)"
)
"""Files that belong into a node's data folder."""


@dataclass(frozen=True)
class Stock:
    """Files and rows that do not match. Keys of objects; `temporary` holds paths within the data folder."""

    orphans: frozenset[str]
    missing: frozenset[str]
    damaged: frozenset[str]
    temporary: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.orphans or self.missing or self.damaged or self.temporary)

    def __str__(self) -> str:
        return (
            f"{len(self.orphans)} objects without a row, {len(self.temporary)} temporary files, "
            f"{len(self.missing)} rows without their object, {len(self.damaged)} damaged objects"
        )


def take_stock(node: Node) -> Stock:
    """Compare every row with its object, and every file with its row."""
    wanted: dict[str, str | None] = {}
    with node.database.read() as session:
        for table in (Source, Result):
            kept = session.execute(
                select(table.object_key, table.sha256, table.preview_key).where(table.deleted_at.is_(None))
            )
            for key, sha256, preview in kept:
                wanted |= {key: sha256} if preview is None else {key: sha256, preview: None}
        for made in (LabelledResult, RejectionNote):
            wanted |= dict(session.execute(select(made.object_key, made.sha256)).all())
    store = store_in(node)
    there = set(store.keys(utcnow() + timedelta(hours=1)))
    damaged = set()
    for key, sha256 in wanted.items():
        try:
            if sha256 is not None and store.digest(key) != sha256:
                damaged.add(key)
        except ObjectMissing:
            continue
    return Stock(
        orphans=frozenset(there - wanted.keys()),
        missing=frozenset(wanted.keys() - there),
        damaged=frozenset(damaged),
        temporary=frozenset(path for path in _files(node.folder / "var") if not _KNOWN.fullmatch(path)),
    )


def store_in(node: Node) -> LocalStore:
    """The node's object store."""
    return LocalStore(node.folder / "var" / "objects")


def sweep(node: Node) -> None:
    """The scheduler's sweep of orphans, as if a day had passed since anything was written; nothing may be on
    its way."""
    now, store = utcnow() + timedelta(seconds=5), store_in(node)
    retention.sweep_orphans(node.database, store, now)
    sweep_spool(store, now)


def all_done(node: Node, images: int) -> bool:
    """Whether there is one job for each image and all are done."""
    with node.database.read() as session:
        states = dict(session.execute(select(Job.state, func.count()).group_by(Job.state)).all())
    return states == {JobState.DONE: images}


def check_archive(
    node: Node, recorder: RecordingArchive, acknowledged: list[str], *, most_repeats: int
) -> int:
    """Every acknowledged image once, its result at the archive, all copies the same bytes; returns how many
    copies came more than once."""
    copies = recorder.copies()
    with node.database.read() as session:
        results = session.scalars(select(Result.sop_instance_uid)).all()
        sources = session.scalars(select(Source.sop_instance_uid).join(Job, Job.source_id == Source.id)).all()
        states = set(session.scalars(select(Delivery.state)))
    assert sorted(sources) == sorted(set(acknowledged)), "one job for each acknowledged image"
    assert len(results) == len(set(acknowledged))
    assert set(copies) == set(results)
    assert states <= DELIVERY_ARRIVED
    twins = {uid: digests for uid, digests in copies.items() if len(set(digests)) > 1}
    assert not twins
    repeats = sum(len(digests) - 1 for digests in copies.values())
    assert repeats <= most_repeats
    return repeats


def _files(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
