"""Making room before its time: when the disk is almost full, what retention may take at all goes early.

Taken, oldest first, are results that a destination has and sources whose work is ended, each finished long
enough ago. Never taken is what a promise still needs (an open job, an open delivery, an awaited commitment),
what a person may still retry (a failed job), and a result that exists nowhere else. Previews go with their
objects: nothing makes them again. Each job says so in its events, and the audit trail says how many went.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from db import audit, events
from db.engine import Database
from db.exchange import CommitmentRequest, LabelledResult
from db.models import Delivery, Job, Result, Source
from db.objects import ObjectStore
from db.retention import rows_taken, unneeded_result, unneeded_source
from db.states import DELIVERY_ARRIVED, JobState
from db.types import utcnow

ACTION = "storage.purge-early"
_AT_ONCE = 10
"""Objects of each kind between two looks at the room."""


@dataclass(frozen=True)
class Cleared:
    """What went early, in objects and bytes."""

    sources: int = 0
    results: int = 0
    size_bytes: int = 0

    def __add__(self, other: Cleared) -> Cleared:
        return Cleared(
            self.sources + other.sources, self.results + other.results, self.size_bytes + other.size_bytes
        )

    def __bool__(self) -> bool:
        return self.sources + self.results > 0


def make_room(
    database: Database, store: ObjectStore, *, before: datetime, enough: Callable[[], bool]
) -> Cleared:
    """Remove objects that finished before that time, oldest first, until there is enough room or no more."""
    done = Cleared()
    while not enough():
        keys: list[str] = []
        with database.write() as session:
            step = _take(session, Result, _result(before), keys) + _take(
                session, Source, _source(before), keys
            )
            if step:
                audit.record(
                    session, "scheduler", ACTION, object_type="storage",
                    detail={"sources": step.sources, "results": step.results, "bytes": step.size_bytes},
                )  # fmt: skip
        for key in keys:
            store.delete(key)
        if not step:
            break
        done += step
    return done


def _take(session: Session, table: Any, which: ColumnElement[bool], keys: list[str]) -> Cleared:
    query = select(table.id).where(which).order_by(table.id).limit(_AT_ONCE)
    ids = session.scalars(query.with_for_update(skip_locked=True, key_share=True)).all()
    # what changed before the locks were there is seen only by a new statement
    rows = session.scalars(select(table).where(table.id.in_(ids), which)).all()
    size, is_result = sum(row.size_bytes for row in rows), table is Result
    for row in rows:
        keys += [key for key in (row.object_key, row.preview_key) if key is not None]
        row.deleted_at, row.preview_key = utcnow(), None
    of_job = Job.result_id if is_result else Job.source_id
    taken = [row.id for row in rows]
    what = "result" if is_result else "source"
    for job_id in session.scalars(select(Job.id).where(of_job.in_(taken))):
        message = f"the {what} was removed before its time: the disk was almost full"
        events.record(session, job_id, "purged-early", message=message, actor="scheduler")
    if is_result:
        keys += rows_taken(session, LabelledResult, LabelledResult.result_id.in_(taken))
    session.flush()
    return Cleared(0 if is_result else len(rows), len(rows) if is_result else 0, size)


def _result(before: datetime) -> ColumnElement[bool]:
    of_it = select(Job.id).where(Job.result_id == Result.id)
    arrived = (
        select(Delivery.id)
        .join(Job, Job.id == Delivery.job_id)
        .where(Job.result_id == Result.id, Delivery.what == "result", Delivery.state.in_(DELIVERY_ARRIVED))
    )
    failed = of_it.where(Job.state == JobState.FAILED)
    return unneeded_result(before) & arrived.exists() & ~failed.exists()


def _source(before: datetime) -> ColumnElement[bool]:
    """Of a source whose result is only here, the result is all that was asked for: both stay together."""
    of_it = select(Job.id).where(Job.source_id == Source.id)
    arrived = select(Delivery.id).where(
        Delivery.job_id == Job.id, Delivery.what == "result", Delivery.state.in_(DELIVERY_ARRIVED)
    )
    needed = of_it.where(or_(Job.state == JobState.FAILED, (Job.state == JobState.DONE) & ~arrived.exists()))
    asked = select(CommitmentRequest.id).where(CommitmentRequest.state == "waiting")
    return unneeded_source(before) & of_it.exists() & ~needed.exists() & ~asked.exists()
