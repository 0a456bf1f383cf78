"""Batches of studies that are fetched from an archive: what is to be fetched, who fetches it, how far it is.

A study is claimed for a time, as jobs are: one whose fetcher dies is given to another when that time is over
(`not_before` of a study that is being fetched is the end of its claim, and the token of whoever holds it).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from db import queue
from db.exchange import BatchItem
from db.models import Batch, Command, Job, Series, Source, Study
from db.states import IllegalTransition, JobState
from db.types import utcnow

KIND = "fetch"
ROLE = "fetcher"
"""Who takes the commands that search archives: a part of the sender's process."""

SEARCH_KEPT = timedelta(minutes=15)
"""How long what an archive answered to a search is kept."""


class BatchState(StrEnum):
    OPEN = "open"
    PAUSED = "paused"
    FINISHED = "finished"
    CANCELLED = "cancelled"


class ItemState(StrEnum):
    WAITING = "waiting"
    FETCHING = "fetching"
    FETCHED = "fetched"
    FAILED = "failed"
    CANCELLED = "cancelled"


B, I = BatchState, ItemState  # noqa: E741
_UNFINISHED = (I.WAITING, I.FETCHING)


class ClaimLost(Exception):
    """The study was cancelled, or given to another fetcher: drop what you are at."""


@dataclass(frozen=True)
class Chosen:
    """A study to fetch; `shown` is what the archive said of it."""

    study_instance_uid: str
    shown: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """The right to fetch one study until `until`."""

    item_id: int
    batch_id: int
    study_instance_uid: str
    until: datetime
    attempt: int
    archive: str
    query: dict[str, Any]
    """Of the batch: `modalities` that are fetched, `requested` wishes for the jobs."""


@dataclass(frozen=True)
class Progress:
    """How many studies and how many jobs of a batch are in each state."""

    studies: dict[str, int]
    jobs: dict[str, int]
    received: int

    @property
    def total(self) -> int:
        return sum(self.studies.values())

    @property
    def ended(self) -> int:
        """Studies with which nothing more happens by itself."""
        return self.total - sum(self.studies.get(state, 0) for state in _UNFINISHED)


def create(
    session: Session,
    archive: str,
    studies: Iterable[Chosen],
    *,
    query: dict[str, Any],
    name: str = "",
    created_by: int | None = None,
) -> Batch:
    """A batch of these studies, each once, in their order; it is worked through from now on."""
    batch = Batch(
        kind=KIND, state=B.OPEN, archive=archive, query=query, name=name[:128], created_by=created_by
    )
    session.add(batch)
    session.flush()
    once = {study.study_instance_uid: study for study in studies}
    session.add_all(
        BatchItem(batch_id=batch.id, study_instance_uid=uid, shown=study.shown) for uid, study in once.items()
    )
    session.flush()
    _settle(session, batch.id)
    return batch


def due_archives(session: Session) -> list[str]:
    """Names of the archives from which a study could be fetched now."""
    query = (
        select(Batch.archive)
        .join(BatchItem, BatchItem.batch_id == Batch.id)
        .where(Batch.kind == KIND, Batch.state == B.OPEN, *_due())
        .distinct()
        .order_by(Batch.archive)
    )
    return [name for name in session.scalars(query) if name]


def waiting_images(session: Session) -> int:
    """Fetched images that wait for a worker."""
    query = (
        select(func.count())
        .select_from(Job)
        .join(Batch, Job.batch_id == Batch.id)
        .where(Job.state == JobState.QUEUED, Batch.kind == KIND)
    )
    return session.scalar(query) or 0


def claim(session: Session, archive: str, seconds: float, max_attempts: int) -> Claim | None:
    """Take the next study to fetch from an archive, oldest batch first. Needs a write session.

    One whose fetcher died is taken again; after `max_attempts` of them it has failed.
    """
    while True:
        candidate = (
            select(BatchItem.id)
            .join(Batch, BatchItem.batch_id == Batch.id)
            .where(Batch.kind == KIND, Batch.state == B.OPEN, Batch.archive == archive, *_due())
            .order_by(BatchItem.id)
            .limit(1)
            .with_for_update(skip_locked=True, of=BatchItem)
        )
        item_id = session.scalar(candidate)
        if item_id is None:
            return None
        item = session.get_one(BatchItem, item_id, populate_existing=True)
        if item.attempts >= max_attempts:
            item.state, item.reason = I.FAILED, item.reason or "it was given up in the middle each time"
            _settle(session, item.batch_id)
            continue
        item.state, item.attempts, item.received = I.FETCHING, item.attempts + 1, 0
        item.not_before = utcnow() + timedelta(seconds=seconds)
        session.flush()
        batch = session.get_one(Batch, item.batch_id)
        return Claim(
            item.id,
            item.batch_id,
            item.study_instance_uid,
            item.not_before,
            item.attempts,
            archive,
            dict(batch.query or {}),
        )


def keep(session: Session, held: Claim, seconds: float) -> datetime:
    """Keep a claim; returns when it ends now. Raises :class:`ClaimLost`."""
    until = utcnow() + timedelta(seconds=seconds)
    _change(session, held, not_before=until)
    return until


def fetched(session: Session, held: Claim, received: int, note: str | None = None) -> None:
    """A study has come. Raises :class:`ClaimLost`."""
    _change(session, held, state=I.FETCHED, received=received, reason=note, fetched_at=utcnow())
    _settle(session, held.batch_id)


def fail(session: Session, held: Claim, reason: str) -> None:
    """A study cannot be fetched. Raises :class:`ClaimLost`."""
    _change(session, held, state=I.FAILED, reason=reason)
    _settle(session, held.batch_id)


def later(session: Session, held: Claim, reason: str | None, wait: timedelta, *, counts: bool) -> None:
    """Try a study again after a while; `counts` says whether this was an attempt. Raises ClaimLost."""
    _change(
        session,
        held,
        state=I.WAITING,
        reason=reason,
        not_before=utcnow() + wait,
        attempts=held.attempt if counts else held.attempt - 1,
    )


def by_move(session: Session, message_id: int) -> list[tuple[BatchItem, Batch]]:
    """Studies that are being moved to us under this message id, with their batches."""
    query = (
        select(BatchItem, Batch)
        .join(Batch, BatchItem.batch_id == Batch.id)
        .where(BatchItem.state == I.FETCHING, BatchItem.not_before > utcnow())
    )
    return [(item, batch) for item, batch in session.execute(query) if move_id(item.id) == message_id]


def move_id(item_id: int) -> int:
    """The message id (1 to 65535) under which a study is moved: what comes of it is known by that."""
    return item_id % 65535 + 1


def arrived(session: Session, item_id: int) -> None:
    """One object of a study that is being moved to us is safely here."""
    session.execute(
        update(BatchItem)
        .where(BatchItem.id == item_id, BatchItem.state == I.FETCHING)
        .values(received=BatchItem.received + 1),
        execution_options={"synchronize_session": False},
    )


def received(session: Session, item_id: int) -> int:
    """Objects of a study that have come so far."""
    return session.scalar(select(BatchItem.received).where(BatchItem.id == item_id)) or 0


def came(session: Session, instances: Sequence[str], since: datetime) -> int:
    """How many of these instances have been received since then."""
    query = select(func.count(func.distinct(Source.sop_instance_uid))).where(
        Source.sop_instance_uid.in_(instances), Source.last_received_at >= since
    )
    return session.scalar(query) or 0


def own_series(session: Session, uids: Sequence[str]) -> set[str]:
    """Which of these series are results of ours."""
    query = select(Job.result_series_uid).where(Job.result_series_uid.in_(uids)).distinct()
    return {uid for uid in session.scalars(query) if uid}


def get(session: Session, batch_id: int) -> Batch | None:
    """A batch of this kind."""
    return session.scalar(select(Batch).where(Batch.id == batch_id, Batch.kind == KIND))


def listing(session: Session, limit: int = 50) -> list[Batch]:
    """Batches of this kind, newest first."""
    query = select(Batch).where(Batch.kind == KIND).order_by(Batch.id.desc()).limit(limit)
    return list(session.scalars(query))


def items(session: Session, batch_id: int) -> list[BatchItem]:
    """Its studies, in their order."""
    query = select(BatchItem).where(BatchItem.batch_id == batch_id).order_by(BatchItem.id)
    return list(session.scalars(query))


def progress(session: Session, batch_id: int) -> Progress:
    """How far a batch is."""
    studies = (
        select(BatchItem.state, func.count(), func.sum(BatchItem.received))
        .where(BatchItem.batch_id == batch_id)
        .group_by(BatchItem.state)
    )
    rows = session.execute(studies).all()
    jobs = select(Job.state, func.count()).where(Job.batch_id == batch_id).group_by(Job.state)
    return Progress(
        studies={state: count for state, count, _ in rows},
        jobs={state.value: count for state, count in session.execute(jobs)},
        received=sum(int(received or 0) for _, _, received in rows),
    )


def jobs_by_study(session: Session, batch_id: int) -> dict[str, dict[str, int]]:
    """For each study whose images were looked at: how many of its jobs are in each state."""
    query = (
        select(Study.study_instance_uid, Job.state, func.count())
        .select_from(Job)
        .join(Source, Job.source_id == Source.id)
        .join(Series, Source.series_fk == Series.id)
        .join(Study, Series.study_fk == Study.id)
        .where(Job.batch_id == batch_id)
        .group_by(Study.study_instance_uid, Job.state)
    )
    found: dict[str, dict[str, int]] = {}
    for uid, state, count in session.execute(query):
        found.setdefault(uid, {})[state.value] = count
    return found


def pause(session: Session, batch: Batch) -> None:
    """Fetch no further study; the one that is being fetched is finished. Raises IllegalTransition."""
    _move(session, batch, (B.OPEN,), B.PAUSED)


def resume(session: Session, batch: Batch) -> None:
    """Go on with a paused batch. Raises IllegalTransition."""
    _move(session, batch, (B.PAUSED,), B.OPEN)
    _settle(session, batch.id)


def cancel(session: Session, batch: Batch, *, actor: str) -> None:
    """Fetch nothing more, and cancel the jobs that still wait. Raises IllegalTransition."""
    session.execute(
        update(BatchItem)
        .where(BatchItem.batch_id == batch.id, BatchItem.state.in_(_UNFINISHED))
        .values(state=I.CANCELLED, reason="cancelled on request"),
        execution_options={"synchronize_session": False},
    )
    _move(session, batch, (B.OPEN, B.PAUSED), B.CANCELLED)
    waiting = select(Job).where(Job.batch_id == batch.id, Job.state == JobState.QUEUED)
    for job in session.scalars(waiting).all():
        with suppress(IllegalTransition):  # it has ended meanwhile
            queue.cancel(session, job, actor=actor)


def retry(session: Session, batch: Batch) -> int:
    """Fetch its failed studies again; returns how many. Raises IllegalTransition where there is none."""
    again = session.execute(
        update(BatchItem)
        .where(BatchItem.batch_id == batch.id, BatchItem.state == I.FAILED)
        .values(state=I.WAITING, reason=None, attempts=0, not_before=utcnow())
        .returning(BatchItem.id),
        execution_options={"synchronize_session": False},
    ).all()
    session.refresh(batch)
    if not again:
        raise IllegalTransition("the batch", B(batch.state), B.OPEN, "no study of it has failed")
    if batch.state != B.PAUSED:
        _move(session, batch, (B.OPEN, B.FINISHED), B.OPEN)
    return len(again)


def forget_searches(session: Session) -> int:
    """Remove searches and what archives answered to them; they hold patient data. Returns how many."""
    old = Command.role == ROLE, Command.created_at < utcnow() - SEARCH_KEPT
    return len(session.execute(delete(Command).where(*old).returning(Command.id)).all())


def _due() -> tuple[Any, ...]:
    return BatchItem.state.in_(_UNFINISHED), BatchItem.not_before <= utcnow()


def _change(session: Session, held: Claim, **values: Any) -> None:
    """Change the study of a claim that still holds."""
    kept = session.execute(
        update(BatchItem)
        .where(
            BatchItem.id == held.item_id, BatchItem.state == I.FETCHING, BatchItem.not_before == held.until
        )
        .values(**values)
        .returning(BatchItem.id),
        execution_options={"synchronize_session": False},
    ).scalar()
    if kept is None:
        raise ClaimLost(f"study {held.item_id} of batch {held.batch_id}")


def _move(session: Session, batch: Batch, before: tuple[BatchState, ...], after: BatchState) -> None:
    """Change a batch's state. Studies are changed before their batch, so that nobody waits in a circle."""
    moved = session.execute(
        update(Batch)
        .where(Batch.id == batch.id, Batch.state.in_(before))
        .values(state=after, finished_at=utcnow() if after == B.CANCELLED else None)
        .returning(Batch.id),
        execution_options={"synchronize_session": False},
    ).scalar()
    session.refresh(batch)
    if moved is None:
        raise IllegalTransition("the batch", B(batch.state), after)


def _settle(session: Session, batch_id: int) -> None:
    """Finish a batch when each of its studies has ended; of two that end at once, one sees the other."""
    session.flush()
    session.execute(select(Batch.id).where(Batch.id == batch_id).with_for_update())
    left = session.scalar(
        select(func.count())
        .select_from(BatchItem)
        .where(BatchItem.batch_id == batch_id, BatchItem.state.in_(_UNFINISHED))
    )
    if not left:
        session.execute(
            update(Batch)
            .where(Batch.id == batch_id, Batch.state.in_((B.OPEN, B.PAUSED)))
            .values(state=B.FINISHED, finished_at=utcnow()),
        )
