"""Deliveries: one object to one destination, until it arrives, expires or is cancelled."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from db import events
from db.leases import Lease, LeaseLost, backoff
from db.models import Delivery, Job
from db.states import DELIVERY_ARRIVED, DELIVERY_OPEN, DeliveryState, JobState, check_delivery
from db.types import utcnow


@dataclass(frozen=True)
class Address:
    """Where something goes: the destination's name, a copy of its settings, how long to try."""

    name: str
    settings: dict[str, Any]
    expire_after: timedelta = timedelta(days=7)


def add(session: Session, job: Job, address: Address, *, what: str = "result") -> Delivery:
    """Queue a delivery of a job's result or of its original."""
    delivery = Delivery(
        job_id=job.id,
        what=what,
        destination_name=address.name,
        destination=address.settings,
        priority=job.priority,
        expires_at=utcnow() + address.expire_after,
    )
    session.add(delivery)
    session.flush()
    events.record(session, job.id, "delivery", after=DeliveryState.WAITING, message=address.name, delivery_id=delivery.id)
    return delivery


def due_destinations(session: Session) -> list[str]:
    """Names of destinations with a delivery that could be sent now."""
    return list(session.scalars(_due(select(Delivery.destination_name)).distinct()))


def claim(session: Session, owner: str, destination_name: str, lease_seconds: float) -> Lease | None:
    """Take the next due delivery to one destination. Needs a write session."""
    now = utcnow()
    candidate = (
        _due(select(Delivery.id))
        .where(Delivery.destination_name == destination_name)
        .order_by(Delivery.priority, Delivery.id)
        .limit(1)
        .with_for_update(of=Delivery, skip_locked=True)
        .scalar_subquery()
    )
    expires = now + timedelta(seconds=lease_seconds)
    row = session.execute(
        update(Delivery)
        .where(Delivery.id == candidate, Delivery.state == DeliveryState.WAITING)
        .values(
            state=DeliveryState.SENDING,
            lease_owner=owner,
            lease_token=Delivery.lease_token + 1,
            lease_expires_at=expires,
            attempts=Delivery.attempts + 1,
            updated_at=now,
        )
        .returning(Delivery.id, Delivery.job_id, Delivery.lease_token),
        execution_options={"synchronize_session": False},
    ).first()
    if row is None:
        return None
    events.record(
        session,
        row.job_id,
        "delivery",
        before=DeliveryState.WAITING,
        after=DeliveryState.SENDING,
        message=destination_name,
        actor=owner,
        delivery_id=row.id,
    )
    return Lease(row.id, row.lease_token, expires)


def held(session: Session, lease: Lease) -> Delivery:
    """The delivery of a lease, locked; raises :class:`LeaseLost` when it is another's or was cancelled."""
    delivery = session.scalar(
        select(Delivery)
        .where(Delivery.id == lease.id, Delivery.lease_token == lease.token, Delivery.state == DeliveryState.SENDING)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if delivery is None:
        raise LeaseLost(f"delivery {lease.id}")
    return delivery


def stored(session: Session, lease: Lease, status_code: int, comment: str | None = None, *, actor: str) -> Delivery:
    """The destination said that it has the object (success or a warning of kind Bxxx)."""
    delivery = held(session, lease)
    delivery.stored_at = utcnow()
    _move(session, delivery, DeliveryState.STORED, status_code=status_code, comment=comment, actor=actor)
    settle(session, delivery.job, actor=actor)
    return delivery


def retry_later(
    session: Session,
    lease: Lease,
    comment: str,
    *,
    status_code: int | None = None,
    base: float,
    longest: float,
    actor: str,
) -> Delivery:
    """Not now: wait, longer each time, until success, cancel or expiry."""
    delivery = held(session, lease)
    delivery.not_before = utcnow() + backoff(delivery.attempts, base, longest)
    _move(session, delivery, DeliveryState.WAITING, status_code=status_code, comment=comment, actor=actor)
    return delivery


def fail(session: Session, lease: Lease, comment: str, *, status_code: int | None = None, actor: str) -> Delivery:
    """Never: the destination will answer the same again."""
    delivery = held(session, lease)
    _move(session, delivery, DeliveryState.FAILED, status_code=status_code, comment=comment, actor=actor)
    settle(session, delivery.job, actor=actor)
    return delivery


def expire(session: Session, now: datetime | None = None) -> int:
    """Return deliveries of silent senders to the queue and end those whose time is over."""
    now = now or utcnow()
    silent = session.scalars(
        select(Delivery)
        .where(Delivery.state == DeliveryState.SENDING, Delivery.lease_expires_at < now)
        .with_for_update(skip_locked=True)
    ).all()
    for delivery in silent:
        _move(session, delivery, DeliveryState.WAITING, comment="the sender fell silent", actor="scheduler")
    late = session.scalars(
        select(Delivery)
        .where(Delivery.state == DeliveryState.WAITING, Delivery.expires_at < now)
        .with_for_update(skip_locked=True)
    ).all()
    for delivery in late:
        _move(session, delivery, DeliveryState.EXPIRED, comment=delivery.comment, actor="scheduler")
        settle(session, delivery.job, actor="scheduler")
    return len(silent) + len(late)


def again(session: Session, job: Job, *, actor: str) -> None:
    """Queue a job's failed, expired and cancelled deliveries once more, with fresh time."""
    for delivery in job.deliveries:
        if delivery.state in {DeliveryState.FAILED, DeliveryState.EXPIRED, DeliveryState.CANCELLED}:
            life = delivery.expires_at - delivery.created_at
            delivery.attempts, delivery.not_before, delivery.expires_at = 0, utcnow(), utcnow() + life
            _move(session, delivery, DeliveryState.WAITING, actor=actor)


def cancel_open(session: Session, job: Job, *, actor: str) -> None:
    """Cancel what has not arrived."""
    for delivery in job.deliveries:
        if delivery.state in DELIVERY_OPEN:
            _move(session, delivery, DeliveryState.CANCELLED, actor=actor)


def settle(session: Session, job: Job, *, actor: str) -> None:
    """Finish a delivering job when nothing is open: `done` if all arrived, else `failed` with the reason."""
    from db import queue  # the job's own transitions stand there

    session.flush()
    states: Collection[DeliveryState] = session.scalars(select(Delivery.state).where(Delivery.job_id == job.id)).all()
    if job.state != JobState.DELIVERING or any(state in DELIVERY_OPEN for state in states):
        return
    lost = [d for d in job.deliveries if d.state not in DELIVERY_ARRIVED]
    if not lost:
        queue.move(session, job, JobState.DONE, actor=actor)
        return
    reason = "; ".join(f"{d.destination_name}: {d.comment or d.state.value}" for d in lost)
    queue.move(session, job, JobState.FAILED, code="delivery", reason=f"not delivered to {reason}", actor=actor)


def open_count(session: Session, destination_name: str) -> int:
    """Deliveries on their way to a destination."""
    query = select(func.count()).select_from(Delivery)
    return session.scalar(query.where(Delivery.destination_name == destination_name, Delivery.state.in_(DELIVERY_OPEN))) or 0


def _due(query: Any) -> Any:
    """Deliveries that may go now: waiting, due, and of a job that delivers (not one held for review)."""
    now = utcnow()
    return query.join(Job, Job.id == Delivery.job_id).where(
        Delivery.state == DeliveryState.WAITING,
        Delivery.not_before <= now,
        Delivery.expires_at >= now,
        Job.state == JobState.DELIVERING,
    )


def _move(
    session: Session,
    delivery: Delivery,
    after: DeliveryState,
    *,
    status_code: int | None = None,
    comment: str | None = None,
    actor: str | None = None,
) -> None:
    check_delivery(delivery.state, after)
    before, delivery.state = delivery.state, after
    delivery.status_code = status_code
    delivery.comment = comment[:1024] if comment else None
    delivery.lease_owner, delivery.lease_expires_at = None, None
    message = f"{delivery.destination_name}: {comment}" if comment else delivery.destination_name
    events.record(
        session,
        delivery.job_id,
        "delivery",
        before=before,
        after=after,
        message=message,
        actor=actor,
        delivery_id=delivery.id,
    )
