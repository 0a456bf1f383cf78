"""Who did what and when. Rows are only added; the database itself refuses to change or remove one, and the
chains of `db.chain` show where somebody has done so all the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from db import chain
from db.engine import Database
from db.models import AuditEvent
from db.types import clean, clean_all, utcnow

WITHHELD = "query"
"""Part of an entry's detail that may name patients: what was searched for."""

Outcome = Literal["success", "refused", "failure"]


def record(
    session: Session,
    actor: str,
    action: str,
    *,
    object_type: str | None = None,
    object_id: int | str | None = None,
    address: str | None = None,
    outcome: Outcome | str = "success",
    detail: dict[str, Any] | None = None,
) -> AuditEvent:
    """Add an entry in the caller's transaction; what was done and its entry stand or fall together.

    `actor` is a user's name or a role, `action` a word with a dot (`login`, `job.retry`, `user.disable`).
    The entry takes its place in a chain at once: what it says is not to be changed.
    """
    entry = AuditEvent(
        at=utcnow(),
        actor=clean(actor)[:128],
        action=action,
        object_type=object_type,
        object_id=None if object_id is None else clean(str(object_id))[:64],
        address=None if address is None else clean(address)[:64],
        outcome=outcome,
        detail=clean_all(detail or {}),
    )
    chain.append(session, entry)
    session.add(entry)
    return entry


@dataclass(frozen=True)
class Filter:
    """What entries must be about; None asks nothing. `until` itself is left out."""

    actor: str | None = None
    action: str | None = None
    """A whole action, or its beginning with a dot at the end (`job.`)."""
    object_type: str | None = None
    object_id: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """The same for a query."""
        found: list[ColumnElement[bool]] = []
        for column, value in (
            (AuditEvent.actor, self.actor),
            (AuditEvent.object_type, self.object_type),
            (AuditEvent.object_id, self.object_id),
            (AuditEvent.outcome, self.outcome),
        ):
            if value is not None:
                found.append(column == value)
        if self.action is not None and self.action.endswith("."):
            found.append(AuditEvent.action.startswith(self.action, autoescape=True))
        elif self.action is not None:
            found.append(AuditEvent.action == self.action)
        if self.since is not None:
            found.append(AuditEvent.at >= self.since)
        if self.until is not None:
            found.append(AuditEvent.at < self.until)
        return found


def page(
    session: Session, wanted: Filter, *, limit: int = 100, before: int | None = None
) -> tuple[list[AuditEvent], int | None]:
    """Entries, newest first, and the id to go on before; None where these were the last."""
    query = select(AuditEvent).where(*wanted.conditions()).order_by(AuditEvent.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(AuditEvent.id < before)
    rows = list(session.scalars(query))
    return rows[:limit], rows[limit - 1].id if len(rows) > limit else None


def every(database: Database, wanted: Filter, *, at_once: int = 1000) -> Iterator[AuditEvent]:
    """All entries that were there at the first, newest first, read in parts: no read transaction is long."""
    with database.read() as session:
        newest = session.scalar(select(func.max(AuditEvent.id))) or 0
    before: int | None = newest + 1
    while before is not None:
        with database.read() as session:
            rows, before = page(session, wanted, limit=at_once, before=before)
        yield from rows


def shown(detail: dict[str, Any]) -> dict[str, Any]:
    """An entry's detail without patient data."""
    return {key: value for key, value in detail.items() if key != WITHHELD}


def actions(session: Session) -> list[str]:
    """The actions that the trail knows, for a list to choose from; a look into the index for each."""
    found: list[str] = []
    query = select(func.min(AuditEvent.action))
    action = session.scalar(query)
    while action is not None:
        found.append(action)
        action = session.scalar(query.where(AuditEvent.action > action))
    return found
