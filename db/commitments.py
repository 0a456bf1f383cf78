"""Promises to keep an object: those that we ask of destinations, and those that callers ask of us.

One question is one object in one transaction. It is written down with the delivery's arrival, so that no
crash forgets it; whoever hears the answer, in whatever process, finds it by the transaction's name.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from db import deliveries, pauses, promises
from db.exchange import Commitment
from db.leases import backoff
from db.models import Delivery
from db.states import DeliveryState, JobState
from db.types import utcnow

MOST_ROUNDS = 3
"""Questions about one delivery that may be refused or go unanswered; then the delivery counts as failed."""

OPEN = ("waiting", "asked")
CLOSED = ("refused", "expired")


class Remedy(StrEnum):
    """What a refusal leads to."""

    RESEND = "resend"
    ASK_AGAIN = "ask again"
    GIVE_UP = "give up"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a promise was refused: the reason's number, its meaning for people, and what follows from it."""

    reason: int
    text: str
    remedy: Remedy


def want(session: Session, delivery: Delivery, sop_class_uid: str, sop_instance_uid: str) -> None:
    """Note that a delivery that has just arrived is to be promised, if its destination is asked at all."""
    if not delivery.commitment or delivery.state != DeliveryState.STORED:
        return
    session.add(_question(delivery, sop_class_uid, sop_instance_uid))


def due_destinations(session: Session) -> list[str]:
    """Names of destinations with a question that could be asked now."""
    query = select(Delivery.destination_name).join(Commitment, Commitment.delivery_id == Delivery.id)
    return list(session.scalars(query.where(*_due(), ~pauses.holds_delivery()).distinct()))


def claim(session: Session, destination_name: str, seconds: float, limit: int = 50) -> list[Commitment]:
    """Take questions for one destination; nobody else asks them within `seconds`. Needs a write session."""
    query = (
        select(Commitment)
        .join(Delivery, Commitment.delivery_id == Delivery.id)
        .where(Delivery.destination_name == destination_name, *_due(), ~pauses.holds_delivery())
        .order_by(Commitment.id)
        .limit(limit)
        .with_for_update(of=Commitment, skip_locked=True, key_share=True)
    )
    rows = list(session.scalars(query))
    for row in rows:
        row.attempts += 1
        row.not_before = utcnow() + timedelta(seconds=seconds)
    return rows


def asked(session: Session, commitment_id: int) -> None:
    """The destination took the question; the time that it has to answer begins."""
    row = session.get_one(Commitment, commitment_id, with_for_update={"key_share": True})
    if row.state == "waiting":  # the answer may have been quicker
        row.state, row.asked_at = "asked", utcnow()
        row.due_at = row.asked_at + _patience(row.delivery)


def ask_later(session: Session, commitment_id: int, why: str, *, base: float, longest: float) -> None:
    """The question could not be put, or nobody knows whether it was: once more later, under the same name."""
    row, delivery = _both(session, commitment_id)
    row.not_before = utcnow() + backoff(row.attempts, base, longest)
    if row.state == "waiting" and delivery.state == DeliveryState.STORED:
        delivery.comment = f"storage commitment is still to be asked for: {why}"


def give_up(session: Session, commitment_id: int, why: str, *, actor: str) -> None:
    """The destination will not hear the question: the delivery has failed."""
    row, delivery = _both(session, commitment_id)
    if row.state in OPEN:
        row.state, row.answered_at = "ended", utcnow()
        if delivery.state == DeliveryState.STORED:
            promises.unconfirmed(session, delivery.id, _not_promised(why), actor=actor)


def answered(
    session: Session,
    transaction_uid: str,
    answers: Mapping[str, Refusal | None],
    *,
    pause: timedelta = timedelta(0),
    actor: str,
) -> bool:
    """Take an answer: SOP Instance UIDs with None for a promise, or with why it was refused.

    pause: before an object is sent, or a question asked, once more. The same answer twice changes nothing.
    Returns whether the transaction is known and the answer speaks of its object.
    """
    known = session.scalar(select(Commitment).where(Commitment.transaction_uid == transaction_uid))
    if known is None or known.sop_instance_uid not in answers:
        return False
    row, delivery = _both(session, known.id)
    refusal = answers[row.sop_instance_uid]
    if row.state == "committed" or (refusal is not None and row.state not in OPEN):
        return True
    row.answered_at = utcnow()
    if refusal is None:
        row.state = "committed"
        if delivery.state in _MAY_COMMIT:
            promises.committed(session, delivery.id, actor=actor)
        return True
    row.state, row.failure_reason = "refused", refusal.reason
    _follow(session, row, delivery, refusal.text, refusal.remedy, pause=pause, actor=actor)
    return True


def expire(session: Session, *, now: datetime | None = None, actor: str = "scheduler") -> int:
    """End questions whose time is over: their objects are sent again, or have failed after several rounds."""
    now = now or utcnow()
    query = select(Commitment.id).where(Commitment.state.in_(OPEN), Commitment.due_at < now)
    ended = 0
    for commitment_id in session.scalars(query.order_by(Commitment.id)).all():
        row, delivery = _both(session, commitment_id)
        if row.state not in OPEN or row.due_at >= now:
            continue
        text = "no answer in time" if row.state == "asked" else "it could not be asked for in time"
        row.state = "expired"
        _follow(session, row, delivery, text, Remedy.RESEND, pause=timedelta(0), actor=actor)
        ended += 1
    return ended


def _follow(
    session: Session,
    row: Commitment,
    delivery: Delivery,
    text: str,
    remedy: Remedy,
    *,
    pause: timedelta,
    actor: str,
) -> None:
    """Do what a question without a promise leads to."""
    if delivery.state != DeliveryState.STORED:
        return
    session.flush()
    missing = row.state == "refused" and remedy is Remedy.RESEND
    unwanted = delivery.job.state in {JobState.CANCELLED, JobState.RETRACTED} and not missing
    if remedy is Remedy.GIVE_UP or unwanted or _rounds(session, delivery.id) >= MOST_ROUNDS:
        row.state = "ended"
        promises.unconfirmed(session, delivery.id, _not_promised(text), actor=actor)
    elif remedy is Remedy.RESEND:
        promises.not_committed(session, delivery.id, _not_promised(text), pause=pause, actor=actor)
    else:
        delivery.comment = f"storage commitment is asked for again: {text}"
        again = _question(delivery, row.sop_class_uid, row.sop_instance_uid)
        again.not_before = utcnow() + pause
        session.add(again)


def _question(delivery: Delivery, sop_class_uid: str, sop_instance_uid: str) -> Commitment:
    return Commitment(
        transaction_uid=f"2.25.{uuid.uuid4().int}",
        delivery_id=delivery.id,
        sop_class_uid=sop_class_uid,
        sop_instance_uid=sop_instance_uid,
        due_at=utcnow() + _patience(delivery),
    )


def _patience(delivery: Delivery) -> timedelta:
    return timedelta(hours=float(delivery.destination.get("commitment_hours") or 24))


def _not_promised(why: str) -> str:
    return f"stored, but storage commitment was not given: {why}"


def _rounds(session: Session, delivery_id: int) -> int:
    """Questions that came to nothing since the delivery was last given up."""
    ended = select(func.coalesce(func.max(Commitment.id), 0)).where(
        Commitment.delivery_id == delivery_id, Commitment.state == "ended"
    )
    query = select(func.count(Commitment.id)).where(
        Commitment.delivery_id == delivery_id,
        Commitment.state.in_(CLOSED),
        Commitment.id > ended.scalar_subquery(),
    )
    return session.scalar(query) or 0


def _both(session: Session, commitment_id: int) -> tuple[Commitment, Delivery]:
    """A question and its delivery, locked in the order in which everyone locks them: job, delivery, then
    this."""
    row = session.get_one(Commitment, commitment_id)
    delivery = deliveries.lock(session, row.delivery_id)
    session.refresh(row, with_for_update={"key_share": True})
    return row, delivery


def _due() -> tuple[ColumnElement[bool], ...]:
    return (
        Commitment.state == "waiting",
        Commitment.not_before <= utcnow(),
        Delivery.state == DeliveryState.STORED,
    )


_MAY_COMMIT = frozenset(
    {DeliveryState.STORED, DeliveryState.WAITING, DeliveryState.FAILED, DeliveryState.EXPIRED}
)
"""States of a delivery in which a promise, however late, makes it a committed one."""
