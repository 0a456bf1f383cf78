"""Deliveries: one object to one destination, until it arrives, expires or is cancelled.

Whoever changes a delivery locks its job first, then the delivery: in this order nobody waits in a circle.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from db import events, pauses, picks
from db.leases import CancelRequested, Lease, LeaseLost, backoff, is_dead
from db.models import Delivery, Job
from db.states import DELIVERY_ARRIVED, DELIVERY_OPEN, DeliveryState, JobState
from db.transitions import move_delivery, move_job
from db.types import utcnow

UNDELIVERED = "delivery"
"""Reason code of a job whose result did not arrive everywhere."""


@dataclass(frozen=True)
class Address:
    """Where something goes: the destination's name, a copy of its settings, how long to try."""

    name: str
    settings: dict[str, Any]
    expire_after: timedelta = timedelta(days=7)


def add(
    session: Session, job: Job, address: Address, *, what: str = "result", ask_first: bool = False
) -> Delivery:
    """Queue a delivery of a job's result, of its original, or of a note that takes the result back.

    ask_first: whether the destination needs it. No commitment is asked for a note: what an archive keeps of
    it is its own affair. Raises :class:`db.picks.NotPicked` for an uploaded picture whose patient and study
    were not picked from that destination: every delivery is made here.
    """
    if what != "note":
        picks.check(job.source, {**address.settings, "name": address.name})
    delivery = Delivery(
        job_id=job.id,
        what=what,
        destination_name=address.name,
        destination=address.settings,
        commitment=_is_to_promise(address) and what != "note",
        ask_first=ask_first,
        priority=job.priority,
        life_seconds=address.expire_after.total_seconds(),
        expires_at=utcnow() + address.expire_after,
    )
    session.add(delivery)
    session.flush()
    events.record(
        session,
        job.id,
        "delivery",
        after=DeliveryState.WAITING,
        message=address.name,
        delivery_id=delivery.id,
    )
    return delivery


def _is_to_promise(address: Address) -> bool:
    """Whether the destination is asked for storage commitment; only DIMSE knows that service."""
    return bool(address.settings.get("storage_commitment")) and address.settings.get("kind") != "dicomweb"


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
        .with_for_update(of=Delivery, skip_locked=True, key_share=True)
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


def heartbeat(session: Session, lease: Lease, lease_seconds: float) -> Lease:
    """Keep the lease during a long transfer.

    Raises :class:`LeaseLost` when it is gone, :class:`CancelRequested` when the delivery was cancelled.
    """
    now = utcnow()
    expires = now + timedelta(seconds=lease_seconds)
    kept = session.execute(
        update(Delivery)
        .where(
            Delivery.id == lease.id,
            Delivery.lease_token == lease.token,
            Delivery.state == DeliveryState.SENDING,
        )
        .values(lease_expires_at=expires, updated_at=now)
        .returning(Delivery.id),
        execution_options={"synchronize_session": False},
    ).scalar()
    if kept is None:
        held(session, lease)
    return Lease(lease.id, lease.token, expires)


def held(session: Session, lease: Lease) -> Delivery:
    """The delivery of a lease, locked with its job for this transaction.

    Raises :class:`LeaseLost` when it is another's, :class:`CancelRequested` when it was cancelled meanwhile.
    """
    delivery = _locked(session, lease)
    if delivery.state == DeliveryState.CANCELLED:
        raise CancelRequested(f"delivery {lease.id}")
    if delivery.state != DeliveryState.SENDING:
        raise LeaseLost(f"delivery {lease.id}")
    return delivery


def stored(
    session: Session, lease: Lease, status_code: int, comment: str | None = None, *, actor: str
) -> Delivery:
    """The destination said that it has the object (success or a warning of kind Bxxx).

    That is noted also of a delivery cancelled while it was on its way: what has arrived has arrived.
    """
    delivery = _locked(session, lease)
    if delivery.state not in {DeliveryState.SENDING, DeliveryState.CANCELLED}:
        raise LeaseLost(f"delivery {lease.id}")
    delivery.stored_at = utcnow()
    move_delivery(
        session, delivery, DeliveryState.STORED, status_code=status_code, comment=comment, actor=actor
    )
    if delivery.job.state == JobState.RETRACTED and delivery.what == "result":
        add_notes(session, delivery.job, actor=actor)
    settle(session, delivery.job, actor=actor)
    return delivery


def retry_later(
    session: Session,
    lease: Lease,
    comment: str,
    *,
    status_code: int | None = None,
    perhaps_there: bool = False,
    base: float,
    longest: float,
    actor: str,
) -> Delivery:
    """Not now: wait, longer each time, until success, cancel or expiry.

    perhaps_there: the destination may have the object, although it has not said so.
    """
    delivery = held(session, lease)
    delivery.perhaps_there |= perhaps_there
    delivery.not_before = utcnow() + backoff(delivery.attempts, base, longest)
    move_delivery(
        session, delivery, DeliveryState.WAITING, status_code=status_code, comment=comment, actor=actor
    )
    return delivery


def needless(session: Session, lease: Lease, comment: str, *, actor: str) -> Delivery:
    """End a note that the destination turned out not to need."""
    delivery = held(session, lease)
    move_delivery(session, delivery, DeliveryState.CANCELLED, comment=comment, actor=actor)
    return delivery


def give_back(session: Session, lease: Lease, *, actor: str) -> Delivery:
    """Return a delivery that was not begun, as when the sender is asked to stop; costs no attempt."""
    delivery = held(session, lease)
    delivery.attempts -= 1
    move_delivery(session, delivery, DeliveryState.WAITING, comment=delivery.comment, actor=actor)
    return delivery


def fail(
    session: Session, lease: Lease, comment: str, *, status_code: int | None = None, actor: str
) -> Delivery:
    """Never: the destination will answer the same again."""
    delivery = held(session, lease)
    move_delivery(
        session, delivery, DeliveryState.FAILED, status_code=status_code, comment=comment, actor=actor
    )
    settle(session, delivery.job, actor=actor)
    return delivery


def expire(session: Session, now: datetime | None = None) -> int:
    """Return deliveries of silent or dead senders to the queue and end those whose time is over.

    A delivery of a result held for review does not age: its time begins with the release. Nor does one to
    a paused destination.
    """
    now = now or utcnow()
    owners = session.scalars(
        select(Delivery.lease_owner).where(Delivery.state == DeliveryState.SENDING).distinct()
    )
    dead = {owner for owner in owners if is_dead(owner)}
    silent = (Delivery.state == DeliveryState.SENDING) & (
        (Delivery.lease_expires_at < now) | Delivery.lease_owner.in_(dead)
    )
    late = (Delivery.state == DeliveryState.WAITING) & (Delivery.expires_at < now) & _goes()
    late &= ~pauses.holds_delivery()
    query = (
        select(Delivery.id)
        .join(Job, Job.id == Delivery.job_id)
        .where(silent | late)
        .order_by(Delivery.job_id)
    )
    ended = 0
    for delivery_id in session.scalars(query).all():
        delivery = lock(session, delivery_id)
        lease_end = delivery.lease_expires_at
        over = delivery.lease_owner in dead or (lease_end is not None and lease_end < now)
        if delivery.state == DeliveryState.SENDING and over:
            delivery.perhaps_there = True
            move_delivery(
                session, delivery, DeliveryState.WAITING, comment="the sender fell silent", actor="scheduler"
            )
            ended += 1
        on_its_way = JobState.RETRACTED if delivery.what == "note" else JobState.DELIVERING
        overdue = delivery.expires_at < now and delivery.job.state == on_its_way
        if delivery.state == DeliveryState.WAITING and overdue:
            move_delivery(
                session, delivery, DeliveryState.EXPIRED, comment=delivery.comment, actor="scheduler"
            )
            settle(session, delivery.job, actor="scheduler")
            ended += 1
    return ended


_LOST = frozenset({DeliveryState.FAILED, DeliveryState.EXPIRED, DeliveryState.CANCELLED})
NOTES_LOST = frozenset({DeliveryState.FAILED, DeliveryState.EXPIRED})
"""States of notes that did not arrive; a cancelled one was needless."""


def again(session: Session, job: Job, *, actor: str) -> None:
    """Queue a locked job's failed, expired and cancelled deliveries once more, with fresh time."""
    for delivery in of_job(session, job):
        if delivery.state in _LOST:
            renew(delivery)
            move_delivery(session, delivery, DeliveryState.WAITING, actor=actor)


def notes_again(session: Session, job: Job, *, actor: str) -> bool:
    """Queue the notes of a locked, retracted job that did not arrive once more; whether there were any."""
    lost = [d for d in of_job(session, job) if d.what == "note" and d.state in NOTES_LOST]
    for delivery in lost:
        renew(delivery)
        move_delivery(session, delivery, DeliveryState.WAITING, actor=actor)
    return bool(lost)


def begin(session: Session, job: Job) -> bool:
    """Let the time of a released job's waiting deliveries begin; whether there are any."""
    waiting = [d for d in of_job(session, job) if d.state == DeliveryState.WAITING]
    for delivery in waiting:
        renew(delivery)
    return bool(waiting)


def add_notes(session: Session, job: Job, *, actor: str) -> None:
    """Queue a note to each destination where the result of a locked, retracted job has arrived, or may have:
    one that has not said so is asked first."""
    every = of_job(session, job)
    notes = {d.destination_name: d for d in every if d.what == "note"}
    for delivery in every:
        arrived = delivery.stored_at is not None
        if delivery.what != "result" or not (arrived or delivery.perhaps_there):
            continue
        note = notes.get(delivery.destination_name)
        if note is None:
            life = timedelta(seconds=delivery.life_seconds)
            address = Address(delivery.destination_name, delivery.destination, life)
            add(session, job, address, what="note", ask_first=not arrived)
        elif arrived:
            note.ask_first = False
            if note.state == DeliveryState.CANCELLED:  # it seemed needless
                renew(note)
                move_delivery(session, note, DeliveryState.WAITING, actor=actor)


def cancel_open(session: Session, job: Job, *, actor: str) -> None:
    """Cancel what has not arrived of a locked job."""
    for delivery in of_job(session, job):
        if delivery.state in DELIVERY_OPEN:
            delivery.perhaps_there |= delivery.state == DeliveryState.SENDING
            move_delivery(session, delivery, DeliveryState.CANCELLED, comment=delivery.comment, actor=actor)


def settle(session: Session, job: Job, *, actor: str) -> None:
    """Finish a locked, delivering job when nothing is open: `done` if all arrived, else `failed`."""
    if job.state != JobState.DELIVERING:
        return
    session.flush()
    every = of_job(session, job)
    if any(delivery.state in DELIVERY_OPEN for delivery in every):
        return
    lost = [delivery for delivery in every if delivery.state not in DELIVERY_ARRIVED]
    if not lost:
        move_job(session, job, JobState.DONE, actor=actor)
        return
    reason = "; ".join(f"{d.destination_name}: {d.comment or d.state.value}" for d in lost)
    move_job(
        session, job, JobState.FAILED, code=UNDELIVERED, reason=f"not delivered to {reason}", actor=actor
    )


def open_count(session: Session, destination_name: str) -> int:
    """Deliveries on their way to a destination."""
    query = select(func.count()).select_from(Delivery)
    query = query.where(Delivery.destination_name == destination_name, Delivery.state.in_(DELIVERY_OPEN))
    return session.scalar(query) or 0


def _due(query: Any) -> Any:
    """Deliveries that may go now: waiting, due, and of a job that delivers (not one held for review); notes
    of a retracted one. None to a paused destination."""
    now = utcnow()
    return query.join(Job, Job.id == Delivery.job_id).where(
        Delivery.state == DeliveryState.WAITING,
        Delivery.not_before <= now,
        Delivery.expires_at >= now,
        _goes(),
        ~pauses.holds_delivery(),
    )


def _goes() -> ColumnElement[bool]:
    """Whether a delivery's job lets it go."""
    is_note = Delivery.what == "note"
    return ((Job.state == JobState.DELIVERING) & ~is_note) | ((Job.state == JobState.RETRACTED) & is_note)


def renew(delivery: Delivery) -> None:
    now = utcnow()
    delivery.attempts, delivery.not_before = 0, now
    delivery.expires_at = now + timedelta(seconds=delivery.life_seconds)


def of_job(session: Session, job: Job) -> list[Delivery]:
    """A locked job's deliveries as they are now, locked too."""
    query = select(Delivery).where(Delivery.job_id == job.id).order_by(Delivery.id)
    return list(
        session.scalars(query.with_for_update(key_share=True).execution_options(populate_existing=True))
    )


def lock(session: Session, delivery_id: int) -> Delivery:
    """A delivery locked after its job, both as they are now. Raises :class:`LeaseLost` when it is gone."""
    session.flush()
    job = (
        select(Job)
        .where(Job.id == select(Delivery.job_id).where(Delivery.id == delivery_id).scalar_subquery())
        .with_for_update(key_share=True)
    )
    if session.scalar(job.execution_options(populate_existing=True)) is None:
        raise LeaseLost(f"delivery {delivery_id}")
    return session.get_one(Delivery, delivery_id, populate_existing=True, with_for_update={"key_share": True})


def _locked(session: Session, lease: Lease) -> Delivery:
    delivery = lock(session, lease.id)
    if delivery.lease_token != lease.token:
        raise LeaseLost(f"delivery {lease.id}")
    return delivery
