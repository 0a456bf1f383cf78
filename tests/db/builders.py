"""Rows for tests, each made in the way the program makes it."""

from __future__ import annotations

import itertools
import uuid
from datetime import timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import Database, deliveries, promises, queue
from db.deliveries import Address
from db.leases import Lease
from db.models import Delivery, Job, JobEvent, ModelVersion, Source
from db.queue import NewResult
from db.states import DeliveryState, JobState

PACS = Address("pacs", {"name": "pacs", "storage_commitment": False})
OTHER = Address("other", {"name": "other"})

_numbers = itertools.count(1)


def source(session: Session, **values: Any) -> Source:
    """A source as the door makes it."""
    name = uuid.uuid4().hex
    row = Source(
        **{
            "sha256": name * 2,
            "size_bytes": 10,
            "object_key": f"sources/{name[:2]}/{name}.dcm",
            "media_type": "application/dicom",
            "origin_kind": "dimse",
            "sop_instance_uid": f"1.2.3.{next(_numbers)}",
        }
        | values
    )
    session.add(row)
    session.flush()
    return row


def job(session: Session, **wishes: Any) -> Job:
    """A queued job of a source of its own."""
    return queue.enqueue(session, wishes.pop("of", None) or source(session), **wishes)


def jobs(database: Database, number: int) -> list[int]:
    with database.write() as session:
        return [job(session).id for _ in range(number)]


def claim(session: Session, owner: str = "worker", seconds: float = 60) -> Lease:
    lease = queue.claim(session, owner, seconds)
    assert lease is not None
    return lease


def result(**values: Any) -> NewResult:
    name = uuid.uuid4().hex
    usual: dict[str, Any] = {
        "object_key": f"results/{name[:2]}/{name}.dcm",
        "sha256": name * 2,
        "size_bytes": 20,
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1",
        "sop_instance_uid": f"2.25.{uuid.uuid4().int}",
        "series_instance_uid": f"2.25.{uuid.uuid4().int}",
        "rows": 4,
        "columns": 4,
        "figures": {},
    }
    return NewResult(**usual | values)


def finished(session: Session, *addresses: Address, review: bool = False, **more: Any) -> Job:
    """A job whose result is there and whose deliveries wait; `done` without addresses, `held` for review."""
    new = job(session, **more)
    lease = claim(session)
    assert lease.id == new.id
    if review:
        queue.held(session, lease).release = "review"
    return queue.finish(session, lease, result(), addresses)


def sending(session: Session, *addresses: Address, **more: Any) -> tuple[Job, Lease]:
    """A job and the lease of its first delivery, which is on its way."""
    done = finished(session, *(addresses or (PACS,)), **more)
    lease = deliveries.claim(session, "sender", (addresses or (PACS,))[0].name, 60)
    assert lease is not None
    return done, lease


def model(session: Session) -> ModelVersion:
    row = ModelVersion(name="srgan", version="1", digest=uuid.uuid4().hex * 2)
    session.add(row)
    session.flush()
    return row


def job_in(session: Session, state: JobState) -> Job:
    """A job that came to `state` by legal steps."""
    if state == JobState.QUEUED:
        return job(session)
    if state == JobState.HELD:
        return finished(session, PACS, review=True)
    if state == JobState.DELIVERING:
        return finished(session, PACS)
    if state == JobState.DONE:
        return finished(session)
    if state == JobState.RETRACTED:
        row = finished(session)
        queue.retract(session, row, reason="wrong patient", actor="admin")
        return row
    if state == JobState.CANCELLED:
        row = job(session)
        queue.cancel(session, row, actor="admin")
        return row
    row = job(session)
    lease = claim(session)
    if state == JobState.FAILED:
        queue.fail(session, lease, "broken", "the image is broken")
    elif state == JobState.SKIPPED:
        queue.skip(session, lease, "body-part", "not a chest")
    session.flush()
    session.refresh(row)
    assert row.state == state
    return row


def delivery_in(session: Session, state: DeliveryState) -> Delivery:
    """A delivery that came to `state` by legal steps."""
    if state == DeliveryState.WAITING:
        return only_delivery(session, finished(session, PACS))
    if state == DeliveryState.CANCELLED:
        row = finished(session, PACS)
        queue.cancel(session, row, actor="admin")
        return only_delivery(session, row)
    if state == DeliveryState.EXPIRED:
        row = finished(session, Address("pacs", {}, expire_after=timedelta(seconds=-1)))
        deliveries.expire(session)
        return only_delivery(session, row)
    row, lease = sending(session)
    if state == DeliveryState.FAILED:
        deliveries.fail(session, lease, "refused", actor="sender")
    elif state in {DeliveryState.STORED, DeliveryState.COMMITTED}:
        deliveries.stored(session, lease, 0, actor="sender")
    if state == DeliveryState.COMMITTED:
        promises.committed(session, lease.id, actor="sender")
    return only_delivery(session, row)


def only_delivery(session: Session, of: Job) -> Delivery:
    query = select(Delivery).where(Delivery.job_id == of.id).execution_options(populate_existing=True)
    return session.scalars(query).one()


def story(session: Session, job_id: int) -> list[tuple[str | None, str | None]]:
    """The transitions of a job itself, in their order."""
    session.flush()
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.kind == "state").order_by(JobEvent.id)
    return [(event.before, event.after) for event in session.scalars(query)]
