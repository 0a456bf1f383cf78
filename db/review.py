"""Held results on their way through a reader's hands: which is next, and how one is turned down.

A rejected one is `cancelled` with the reason; nothing of it has gone anywhere, DICOMweb goes on hiding it,
and to try it again holds it once more.
"""

from __future__ import annotations

from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from db import deliveries
from db.models import Job
from db.states import IllegalTransition, JobState
from db.transitions import move_job

REJECTED = "rejected"
"""Reason code of a held result that a reader turned down."""


def waiting(session: Session) -> int:
    """How many results wait for a reader."""
    return session.scalar(select(func.count()).select_from(Job).where(Job.state == JobState.HELD)) or 0


def following(session: Session, after: int | None = None) -> int | None:
    """The held job to look at next: the most urgent, then the oldest; those after job `after`, if there are
    any, come first. None: nothing waits."""
    order = (Job.priority, Job.id)
    query = select(Job.id).where(Job.state == JobState.HELD).order_by(*order).limit(1)
    if after is not None:
        seen = session.execute(select(*order).where(Job.id == after)).first()
        if seen is not None:
            later = session.scalar(query.where(tuple_(*order) > tuple_(seen[0], seen[1])))
            if later is not None:
                return later
    return session.scalar(query)


def reject(session: Session, job: Job, *, reason: str, actor: str) -> None:
    """Turn a held result down: none of its deliveries goes. Raises :class:`IllegalTransition`."""
    session.flush()
    session.refresh(job, with_for_update={"key_share": True})
    if job.state != JobState.HELD:
        raise IllegalTransition("the job", job.state, JobState.CANCELLED, "only a held one can be rejected")
    deliveries.cancel_open(session, job, actor=actor)
    move_job(session, job, JobState.CANCELLED, code=REJECTED, reason=f"rejected: {reason}", actor=actor)
