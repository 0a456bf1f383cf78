"""Letting go of what is no longer needed: first the row says so, then the object goes.

A crash between the two leaves an object without a row, which the sweep of orphans takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, delete, or_, select, union_all
from sqlalchemy.orm import Session

from db.commitments import OPEN
from db.desk import IdempotencyKey, LogLine, ShareLink, WebhookCall
from db.engine import Database
from db.exchange import Commitment, CommitmentRequest, Document, LabelledResult, RejectionNote
from db.idempotency import KEPT
from db.models import Command, Delivery, Job, JobEvent, Result, RoleInstance, Source, WebSession
from db.objects import ObjectStore
from db.states import DELIVERY_OPEN, JOB_FINISHED, DeliveryState
from db.types import utcnow

CALLS_KEPT = timedelta(days=30)
"""How long ended calls of webhooks are shown."""

RESTORED = "restored"
"""Name of the document that is there from a restore until its images are taken care of."""
SOURCES = "sources/"
"""How keys of sources begin."""

_AT_ONCE = 200
"""Rows changed in one transaction: writers wait no longer than for these."""


@dataclass(frozen=True)
class Purged:
    """How many of each were let go."""

    sources: int = 0
    results: int = 0
    events: int = 0
    notes: int = 0
    """Rejection notes that have arrived."""
    lines: int = 0
    """Lines of logs."""
    leftovers: int = 0
    """Ended logins, answered commands, processes that are no more, answers about commitment."""


def purge(
    database: Database,
    store: ObjectStore,
    *,
    sources_before: datetime,
    results_before: datetime,
    events_before: datetime,
) -> Purged:
    """Remove objects of sources and results that finished before those times, and old events.

    What an open job, an open delivery or an awaited commitment needs stays, however old. Rows of sources,
    jobs and results stay too: they tell what was done, and know a resend. Copies with a label go with their
    result, rejection notes once they have arrived; both can be made again. What readers said of a result
    stays; links to it lead nowhere any more.
    """
    return Purged(
        sources=_objects_gone(database, store, Source, unneeded_source(sources_before)),
        results=_objects_gone(database, store, Result, unneeded_result(results_before)),
        notes=_notes_gone(database, store, results_before),
        events=_rows_gone(database, JobEvent, _unneeded_event(events_before)),
        lines=_rows_gone(database, LogLine, LogLine.at < events_before),
        leftovers=_rows_gone(database, WebSession, WebSession.expires_at < events_before)
        + _rows_gone(database, Command, Command.created_at < events_before)
        + _rows_gone(database, IdempotencyKey, IdempotencyKey.at < utcnow() - KEPT)
        + _rows_gone(database, WebhookCall, WebhookCall.ended_at < utcnow() - CALLS_KEPT)
        + _rows_gone(database, ShareLink, ShareLink.expires_at < events_before)
        + _rows_gone(database, RoleInstance, RoleInstance.beat_at < events_before)
        + _rows_gone(
            database, Commitment, Commitment.state.not_in(OPEN) & (Commitment.asked_at < events_before)
        )
        + _rows_gone(database, CommitmentRequest, _answered_request(events_before)),
    )


def sweep_orphans(database: Database, store: ObjectStore, older_than: datetime) -> int:
    """Remove objects that no row names, stored before that time. The spool is its users' own affair.

    Sources without a row stay after a restore until they are taken care of: they were acknowledged
    (`db.adrift`).
    """
    swept = 0
    for keys in _parts(store.keys(older_than), 500):
        with database.read() as session:
            kept = set(session.scalars(named(keys)))
            if session.get(Document, RESTORED) is not None:
                kept |= {key for key in keys if key.startswith(SOURCES)}
        for key in set(keys) - kept:
            store.delete(key)
            swept += 1
    return swept


def _objects_gone(database: Database, store: ObjectStore, table: Any, unneeded: ColumnElement[bool]) -> int:
    gone = 0
    while True:
        keys: list[str] = []
        with database.write() as session:
            ids = session.scalars(
                select(table.id)
                .where(unneeded)
                .order_by(table.id)
                .limit(_AT_ONCE)
                .with_for_update(skip_locked=True, key_share=True)
            ).all()
            # what changed before the locks were there is seen only by a new statement
            rows: Sequence[Source | Result] = session.scalars(
                select(table).where(table.id.in_(ids), unneeded)
            ).all()
            for row in rows:
                keys += [key for key in (row.object_key, row.preview_key) if key is not None]
                row.deleted_at, row.preview_key = utcnow(), None
            if table is Result:
                keys += rows_taken(session, LabelledResult, LabelledResult.result_id.in_(r.id for r in rows))
        for key in keys:
            store.delete(key)
        gone += len(rows)
        if not rows:
            return gone


def _notes_gone(database: Database, store: ObjectStore, before: datetime) -> int:
    """Remove old rejection notes that no delivery needs, rows and all."""
    going = select(Delivery.id).where(
        Delivery.job_id == RejectionNote.job_id, Delivery.what == "note", _object_needed()
    )
    with database.write() as session:
        keys = rows_taken(session, RejectionNote, (RejectionNote.created_at < before) & ~going.exists())
    for key in keys:
        store.delete(key)
    return len(keys)


def rows_taken(session: Session, table: Any, which: ColumnElement[bool]) -> list[str]:
    """Delete rows and return the keys of their objects."""
    query = delete(table).where(which).returning(table.object_key)
    return list(session.scalars(query, execution_options={"synchronize_session": False}))


def _rows_gone(database: Database, table: Any, unneeded: ColumnElement[bool]) -> int:
    gone = 0
    while True:
        with database.write() as session:
            some = select(table.id).where(unneeded).limit(_AT_ONCE)
            ids = session.scalars(
                delete(table).where(table.id.in_(some)).returning(table.id),
                execution_options={"synchronize_session": False},
            ).all()
        gone += len(ids)
        if not ids:
            return gone


def unneeded_source(before: datetime) -> ColumnElement[bool]:
    """Sources that finished before that time and nothing open needs."""
    busy = select(Job.id).where(Job.source_id == Source.id, _open_or_since(before))
    going = select(Delivery.id).join(Job, Job.id == Delivery.job_id)
    going = going.where(Job.source_id == Source.id, Delivery.what == "original", _object_needed())
    return Source.deleted_at.is_(None) & (Source.last_received_at < before) & ~busy.exists() & ~going.exists()


def unneeded_result(before: datetime) -> ColumnElement[bool]:
    """Results that finished before that time and nothing open needs."""
    busy = select(Job.id).where(Job.result_id == Result.id, _open_or_since(before))
    going = select(Delivery.id).join(Job, Job.id == Delivery.job_id)
    going = going.where(Job.result_id == Result.id, Delivery.what == "result", _object_needed())
    return Result.deleted_at.is_(None) & (Result.created_at < before) & ~busy.exists() & ~going.exists()


def _unneeded_event(before: datetime) -> ColumnElement[bool]:
    over = select(Job.id).where(Job.id == JobEvent.job_id, ~_open_or_since(before))
    return (JobEvent.at < before) & over.exists()


def _answered_request(before: datetime) -> ColumnElement[bool]:
    return (CommitmentRequest.state != "waiting") & (CommitmentRequest.received_at < before)


def _open_or_since(before: datetime) -> ColumnElement[bool]:
    return Job.state.not_in(JOB_FINISHED) | Job.finished_at.is_(None) | (Job.finished_at >= before)


def _object_needed() -> ColumnElement[bool]:
    """A delivery that is open, or stored where commitment is still awaited."""
    return or_(
        Delivery.state.in_(DELIVERY_OPEN),
        (Delivery.state == DeliveryState.STORED) & Delivery.commitment.is_(True),
    )


def named(keys: Iterable[str]) -> CompoundSelect[Any]:
    """Those of the keys that a row still wants."""
    keys = list(keys)
    return union_all(
        select(Source.object_key).where(Source.object_key.in_(keys), Source.deleted_at.is_(None)),
        select(Result.object_key).where(Result.object_key.in_(keys), Result.deleted_at.is_(None)),
        select(LabelledResult.object_key).where(LabelledResult.object_key.in_(keys)),
        select(RejectionNote.object_key).where(RejectionNote.object_key.in_(keys)),
        select(Source.preview_key).where(Source.preview_key.in_(keys)),
        select(Result.preview_key).where(Result.preview_key.in_(keys)),
    )


def _parts(items: Iterator[str], size: int) -> Iterator[list[str]]:
    while part := list(islice(items, size)):
        yield part
