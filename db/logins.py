"""What the audit trail knows of the last attempts to log in: every process and the next start share it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from db.models import AuditEvent
from db.types import utcnow

MOST = 500
"""Attempts that are looked at: more than any limit asks for."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: whose name (`unknown` for nobody's), from where, how many seconds ago."""

    name: str
    address: str
    age: float
    failed: bool


def recent(session: Session, *, name: str, address: str, seconds: float) -> list[Attempt]:
    """Attempts under a name or from an address, newest first. Those that had to wait are none."""
    now = utcnow()
    query = (
        select(AuditEvent.actor, AuditEvent.address, AuditEvent.at, AuditEvent.outcome)
        .where(
            AuditEvent.at > now - timedelta(seconds=seconds),
            func.lower(AuditEvent.action) == "login",  # a function: the index of times is the one to use
            AuditEvent.outcome.in_(("success", "failure")),
            or_(AuditEvent.actor == name, AuditEvent.address == address),
        )
        .order_by(AuditEvent.at.desc(), AuditEvent.id.desc())
        .limit(MOST)
    )
    return [
        Attempt(actor, where or "", (now - at).total_seconds(), outcome == "failure")
        for actor, where, at, outcome in session.execute(query)
    ]
