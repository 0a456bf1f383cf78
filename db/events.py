"""Recording what happens to a job, in the same transaction as the change itself."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy.orm import Session

from db.models import JobEvent


def record(
    session: Session,
    job_id: int,
    kind: str,
    *,
    before: StrEnum | None = None,
    after: StrEnum | None = None,
    message: str | None = None,
    actor: str | None = None,
    delivery_id: int | None = None,
) -> None:
    """Add an event; `message` must hold no patient data."""
    session.add(
        JobEvent(
            job_id=job_id,
            delivery_id=delivery_id,
            kind=kind,
            before=before.value if before else None,
            after=after.value if after else None,
            message=message[:1024] if message else None,
            actor=actor,
        )
    )
