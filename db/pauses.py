"""What stands still because a person said so: intake, processing, or the deliveries to one destination.

Nothing that was acknowledged is touched: paused intake asks senders to come back, paused processing lets what
runs end, a paused destination keeps its deliveries waiting and their time does not run meanwhile. Whoever
claims or takes in asks the table in the same transaction, so that a pause holds from its commit on.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, bindparam, exists, literal, select, update
from sqlalchemy.orm import Session

from db.desk import Pause
from db.models import Delivery
from db.states import DELIVERY_OPEN
from db.types import utcnow

INTAKE = "intake"
PROCESSING = "processing"
_DESTINATION = "destination:"


class NotPaused(Exception):
    """It does not stand still; the message is for whoever asked."""


class AlreadyPaused(Exception):
    """It stands still already; the message is for whoever asked."""


def of_destination(name: str) -> str:
    """The word under which deliveries to a destination are paused."""
    return _DESTINATION + name


def destination_in(what: str) -> str | None:
    """The destination's name in such a word; None for intake and processing."""
    return what.removeprefix(_DESTINATION) if what.startswith(_DESTINATION) else None


def all_pauses(session: Session) -> list[Pause]:
    """Everything that stands still: intake, processing, then destinations by name."""
    return sorted(session.scalars(select(Pause)), key=lambda row: (destination_in(row.what) or "", row.what))


def is_paused(session: Session, what: str) -> bool:
    """Whether it stands still now."""
    return session.scalar(select(Pause.what).where(Pause.what == what)) is not None


def holds(what: str) -> ColumnElement[bool]:
    """The same as a condition of a statement."""
    return exists().where(Pause.what == what)


def holds_delivery() -> ColumnElement[bool]:
    """Whether the destination of the statement's :class:`db.models.Delivery` is paused."""
    return exists().where(Pause.what == literal(_DESTINATION) + Delivery.destination_name)


def pause(session: Session, what: str, *, actor: str, reason: str = "") -> Pause:
    """Let it stand still. `reason` is for people and holds no patient data. Raises :class:`AlreadyPaused`."""
    if is_paused(session, what):
        raise AlreadyPaused(f"{said(what)} is paused already")
    row = Pause(what=what, actor=actor[:128], reason=reason)
    session.add(row)
    session.flush()
    return row


def resume(session: Session, what: str, *, now: datetime | None = None) -> None:
    """Let it go on; waiting deliveries of a destination get the time back. Raises :class:`NotPaused`."""
    row = session.get(Pause, what)
    if row is None:
        raise NotPaused(f"{said(what)} is not paused")
    name = destination_in(what)
    if name is not None:
        _give_time_back(session, name, row.at, now or utcnow())
    session.delete(row)
    session.flush()


def _give_time_back(session: Session, name: str, since: datetime, now: datetime) -> None:
    query = select(Delivery.id, Delivery.expires_at).where(
        Delivery.state.in_(DELIVERY_OPEN), Delivery.destination_name == name
    )
    longer = [{"row": row.id, "until": row.expires_at + (now - since)} for row in session.execute(query)]
    if longer:
        table = Delivery.__table__
        later = update(Delivery).where(table.c.id == bindparam("row")).values(expires_at=bindparam("until"))
        session.connection().execute(later, longer)


def said(what: str) -> str:
    """What it is, in words at the beginning of a sentence."""
    name = destination_in(what)
    return f"Delivery to {name}" if name is not None else what.capitalize()
