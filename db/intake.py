"""The one way in: what both doors call with an object's bytes on disk."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from db import audit, events, pauses, queue
from db.engine import Database
from db.models import Job, Source
from db.objects import ObjectStore, Stored, StoreError
from db.states import JobState, Priority, Purpose
from db.types import utcnow


class QueueFull(Exception):
    """More jobs wait than are allowed; ask again later."""


class IntakePaused(Exception):
    """An administrator has paused intake; ask again later."""


@dataclass(frozen=True)
class Origin:
    """Who brought an object and how; `kind` is `dimse`, `upload`, `stow`, `fetch` or `demo`."""

    kind: str
    ae_title: str | None = None
    called_ae_title: str | None = None
    address: str | None = None
    user_id: int | None = None
    actor: str = "receiver"


@dataclass(frozen=True)
class Arrival:
    """An object at the door: a file in the store's spool and what is known of it without decoding."""

    file: Path
    media_type: str
    """`application/dicom`, `image/png`, `image/jpeg`, `image/tiff`."""
    suffix: str = ".dcm"
    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None
    transfer_syntax_uid: str | None = None
    file_name: str | None = None
    demographics: dict[str, Any] | None = None
    priority: Priority = Priority.ROUTINE
    purpose: Purpose = Purpose.CLINICAL
    requested: dict[str, Any] = field(default_factory=dict)
    batch_id: int | None = None


@dataclass(frozen=True)
class Accepted:
    """What became of it. `resend`: the same bytes were here already, `job_id` is the job that they had."""

    source_id: int
    job_id: int
    resend: bool


def intake(
    database: Database, store: ObjectStore, arrival: Arrival, origin: Origin, *, max_waiting: int
) -> Accepted:
    """Put an object safely away and queue it; when this returns, both are on stable storage.

    A byte-identical resend makes no second source, and no second job unless an upload asks for another thing.
    Raises :class:`IntakePaused`, :class:`QueueFull`, :class:`db.objects.StoreError`,
    :class:`sqlalchemy.exc.SQLAlchemyError`; then nothing looks received: at worst an object without a row is
    left for the sweep of orphans.
    """
    with database.read() as session:
        if pauses.is_paused(session, pauses.INTAKE):
            raise IntakePaused("intake is paused")
        if queue.waiting(session) >= max_waiting:
            raise QueueFull(f"{max_waiting} jobs are waiting already")
    stored = store.put(arrival.file, "sources", arrival.suffix)
    try:
        try:
            return _commit(database, store, stored, arrival, origin)
        except IntegrityError:  # the same bytes came by two doors at once: the other one's row stands now
            return _commit(database, store, stored, arrival, origin)
    except Exception as error:
        _withdraw(database, store, stored, error)
        raise


def _withdraw(database: Database, store: ObjectStore, stored: Stored, error: Exception) -> None:
    """Delete an object whose row was not committed; where that is not certain, leave it to the sweep."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return
    try:
        with database.read() as session:
            named = session.scalar(select(Source.id).where(Source.object_key == stored.key))
        if named is None:
            store.delete(stored.key)
    except (SQLAlchemyError, StoreError, OSError):
        return


def _commit(
    database: Database, store: ObjectStore, stored: Stored, arrival: Arrival, origin: Origin
) -> Accepted:
    with database.write() as session:
        identity = _identity(stored, arrival)
        known = session.scalar(
            select(Source).where(Source.identity == identity).with_for_update(key_share=True)
        )
        if known is None:
            source = _new_source(identity, stored, arrival, origin)
            session.add(source)
            session.flush()
            job = _enqueue(session, source, arrival, origin)
            _note(session, job, origin, resend=False)
            return Accepted(source.id, job.id, resend=False)
        known.times_received += 1
        known.last_received_at = utcnow()
        gone, known.deleted_at = known.deleted_at is not None, None
        if gone:  # retention took the object; here it is again
            known.object_key = stored.key
        previous = None if gone else _job_that_serves(session, known, arrival)
        if previous is None:
            job = _enqueue(session, known, arrival, origin)
        else:
            job = previous
            events.record(session, job.id, "resend", message="the same object came again", actor=origin.actor)
        _note(session, job, origin, resend=True)
        accepted = Accepted(known.id, job.id, resend=True)
    if not gone:
        _drop_twin(store, stored)
    return accepted


def _note(session: Session, job: Job, origin: Origin, *, resend: bool) -> None:
    """Who brought what stands in the audit trail, or nothing was brought."""
    audit.record(
        session,
        origin.actor,
        f"{origin.kind}.store",
        object_type="job",
        object_id=job.id,
        address=origin.address,
        detail={"calling": origin.ae_title, "called": origin.called_ae_title, "resend": resend},
    )


def _job_that_serves(session: Session, source: Source, arrival: Arrival) -> Job | None:
    """The job that an object which is here already needs no second one beside.

    A modality's resend is served by its clinical job, whatever became of it; an upload by one that asked for
    the same and was not given up, and so is what a person had fetched. An upload never stands in for what a
    modality sends: its result stays here.
    """
    query = (
        select(Job).where(Job.source_id == source.id, Job.purpose == arrival.purpose).order_by(Job.id.desc())
    )
    clinical, fetched = arrival.purpose == Purpose.CLINICAL, arrival.batch_id is not None
    for job in session.scalars(query):
        given_up = job.state in {JobState.FAILED, JobState.CANCELLED, JobState.RETRACTED}
        same = job.requested == arrival.requested or (clinical and not arrival.requested)
        if (clinical and not fetched) or (same and not given_up):
            return job
    return None


def _drop_twin(store: ObjectStore, stored: Stored) -> None:
    try:
        store.delete(stored.key)
    except (StoreError, OSError):  # the object is received all the same; the sweep takes this one
        return


def _identity(stored: Stored, arrival: Arrival) -> str:
    """The same picture uploaded for another patient is another source."""
    if not arrival.demographics:
        return stored.sha256
    said = json.dumps(arrival.demographics, sort_keys=True)
    return hashlib.sha256(f"{stored.sha256}\n{said}".encode()).hexdigest()


def _new_source(identity: str, stored: Stored, arrival: Arrival, origin: Origin) -> Source:
    return Source(
        identity=identity,
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
        object_key=stored.key,
        media_type=arrival.media_type,
        sop_class_uid=arrival.sop_class_uid,
        sop_instance_uid=arrival.sop_instance_uid,
        transfer_syntax_uid=arrival.transfer_syntax_uid,
        origin_kind=origin.kind,
        origin_ae_title=origin.ae_title,
        origin_called_ae_title=origin.called_ae_title,
        origin_address=origin.address,
        origin_user_id=origin.user_id,
        file_name=arrival.file_name,
        demographics=arrival.demographics,
    )


def _enqueue(session: Session, source: Source, arrival: Arrival, origin: Origin) -> Job:
    return queue.enqueue(
        session,
        source,
        priority=arrival.priority,
        purpose=arrival.purpose,
        requested=arrival.requested,
        batch_id=arrival.batch_id,
        created_by=origin.user_id,
        actor=origin.actor,
    )
