"""Files that a person uploaded together: a batch of their jobs."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from db.models import Batch, Job

KIND = "upload"


def get(session: Session, batch_id: int) -> Batch | None:
    """A batch of this kind."""
    return session.scalar(select(Batch).where(Batch.id == batch_id, Batch.kind == KIND))


def jobs(session: Session, batch_id: int, limit: int) -> list[Job]:
    """The first jobs of a batch with their sources, in their order."""
    query = select(Job).where(Job.batch_id == batch_id).order_by(Job.id).limit(limit)
    return list(session.scalars(query.options(joinedload(Job.source))))
