"""Promises that callers ask of us: written down before they are answered, kept until they are told.

We promise what an archive has promised us: an original that was forwarded and committed there. Anything else
waits for that, or is refused.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from db.exchange import CommitmentRequest
from db.leases import backoff
from db.models import Delivery, Job, Source
from db.states import DELIVERY_OPEN, JOB_FINISHED, DeliveryState, Relation
from db.types import utcnow

Instance = tuple[str, str]
"""SOP class and SOP Instance UID."""


class Kept(StrEnum):
    """What can be said of an instance that somebody asks about."""

    PROMISED = "an archive has promised to keep it"
    OPEN = "an archive may promise it yet"
    NEVER = "no archive was asked, or none promised"
    MISSING = "it was never received"
    CONFLICT = "it was received under another SOP class"


class Taken(StrEnum):
    """What became of a request."""

    NEW = "new"
    AGAIN = "again"
    """The same request as before: it will be answered (again)."""
    CLASH = "clash"
    """Its transaction is known and was about other instances."""


def take(
    session: Session,
    *,
    transaction_uid: str,
    calling: str,
    called: str,
    address: str,
    instances: Collection[Instance],
    patience: timedelta,
    comment: str | None = None,
) -> tuple[Taken, int]:
    """Write a request down; what became of it, and its id. A request that comes again is answered again."""
    listed = [{"sop_class_uid": sop_class, "sop_instance_uid": uid} for sop_class, uid in instances]
    known = session.scalar(
        select(CommitmentRequest)
        .filter_by(calling_ae_title=calling, transaction_uid=transaction_uid)
        .with_for_update(key_share=True)
    )
    now = utcnow()
    if known is not None:
        if known.instances != listed:
            return Taken.CLASH, known.id
        if known.state != "waiting":
            known.state, known.attempts, known.answered_at = "waiting", 0, None
            known.not_before, known.expires_at, known.comment = now, now + patience, comment
        known.address = address
        return Taken.AGAIN, known.id
    row = CommitmentRequest(
        transaction_uid=transaction_uid,
        calling_ae_title=calling,
        called_ae_title=called,
        address=address,
        instances=listed,
        expires_at=now + patience,
        comment=comment,
    )
    session.add(row)
    session.flush()
    return Taken.NEW, row.id


def due_callers(session: Session) -> list[str]:
    """AE titles of callers with a request that may be looked at now."""
    return list(session.scalars(select(CommitmentRequest.calling_ae_title).where(*_due()).distinct()))


def claim(session: Session, calling: str, seconds: float) -> CommitmentRequest | None:
    """Take the next request of a caller; nobody else looks at it within `seconds`. Needs a write session."""
    row = session.scalar(
        select(CommitmentRequest)
        .where(CommitmentRequest.calling_ae_title == calling, *_due())
        .order_by(CommitmentRequest.id)
        .limit(1)
        .with_for_update(skip_locked=True, key_share=True)
    )
    if row is not None:
        row.not_before = utcnow() + timedelta(seconds=seconds)
    return row


def verdicts(session: Session, row: CommitmentRequest) -> dict[Instance, Kept]:
    """What can be said of each instance of a request now."""
    named = [(str(one["sop_class_uid"]), str(one["sop_instance_uid"])) for one in row.instances]
    return {name: kept(session, *name) for name in named}


def kept(session: Session, sop_class_uid: str, sop_instance_uid: str) -> Kept:
    """What can be said of one instance. Where several contents came under its name, all must be promised."""
    sources = session.scalars(select(Source).where(Source.sop_instance_uid == sop_instance_uid)).all()
    sources = [one for one in sources if one.relation != Relation.RESEND]  # the first one speaks for it
    if not sources:
        return Kept.MISSING
    if any(source.sop_class_uid != sop_class_uid for source in sources):
        return Kept.CONFLICT
    each = {_promised(session, source) for source in sources}
    return next(one for one in (Kept.NEVER, Kept.OPEN, Kept.PROMISED) if one in each)


def not_yet(session: Session, request_id: int, pause: timedelta) -> None:
    """Look at a request again after `pause`: nothing can be said yet."""
    _row(session, request_id).not_before = utcnow() + pause


def answered(session: Session, request_id: int, comment: str | None = None) -> None:
    """The caller has taken its answer."""
    row = _row(session, request_id)
    row.state, row.answered_at, row.comment = "answered", utcnow(), comment
    row.attempts += 1


def tell_later(session: Session, request_id: int, why: str, *, base: float, longest: float) -> None:
    """The caller could not be told: again after a wait that grows."""
    row = _row(session, request_id)
    row.attempts += 1
    row.not_before, row.comment = utcnow() + backoff(row.attempts, base, longest), why


def failed(session: Session, request_id: int, why: str) -> None:
    """The caller cannot be told, or will not hear it."""
    row = _row(session, request_id)
    row.state, row.comment = "failed", why


def overdue(row: CommitmentRequest, now: datetime | None = None) -> bool:
    """Whether nothing is waited for any more."""
    return row.expires_at < (now or utcnow())


def _promised(session: Session, source: Source) -> Kept:
    going = session.scalars(
        select(Delivery).join(Job).where(Job.source_id == source.id, Delivery.what == "original")
    ).all()
    if any(delivery.state == DeliveryState.COMMITTED for delivery in going):
        return Kept.PROMISED
    asked = [d for d in going if d.commitment and d.state in {*DELIVERY_OPEN, DeliveryState.STORED}]
    busy = select(Job.id).where(Job.source_id == source.id, Job.state.not_in(JOB_FINISHED))
    undecided = not going and session.scalar(busy.limit(1)) is not None
    return Kept.OPEN if asked or undecided else Kept.NEVER


def _row(session: Session, request_id: int) -> CommitmentRequest:
    return session.get_one(CommitmentRequest, request_id, with_for_update={"key_share": True})


def _due() -> tuple[ColumnElement[bool], ...]:
    return (CommitmentRequest.state == "waiting", CommitmentRequest.not_before <= utcnow())
