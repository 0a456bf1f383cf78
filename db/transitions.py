"""The two functions that change a state: they check that it is legal and record an event with it."""

from __future__ import annotations

from sqlalchemy.orm import Session

from db import events
from db.models import Delivery, Job
from db.states import JOB_FINISHED, DeliveryState, JobState, check_delivery, check_job
from db.types import utcnow


def move_job(
    session: Session,
    job: Job,
    after: JobState,
    *,
    code: str | None = None,
    reason: str | None = None,
    actor: str | None = None,
) -> None:
    """Change a locked job's state; whatever lease it had ends. Raises IllegalTransition."""
    check_job(job.state, after)
    before, job.state = job.state, after
    job.reason_code, job.reason = code, reason
    job.lease_owner, job.lease_expires_at = None, None
    job.finished_at = utcnow() if after in JOB_FINISHED else None
    events.record(session, job.id, "state", before=before, after=after, message=reason, actor=actor)


def move_delivery(
    session: Session,
    delivery: Delivery,
    after: DeliveryState,
    *,
    status_code: int | None = None,
    comment: str | None = None,
    actor: str | None = None,
) -> None:
    """Change a locked delivery's state; whatever lease it had ends. Raises IllegalTransition."""
    check_delivery(delivery.state, after)
    before, delivery.state = delivery.state, after
    delivery.status_code, delivery.comment = status_code, comment
    delivery.lease_owner, delivery.lease_expires_at = None, None
    events.record(
        session,
        delivery.job_id,
        "delivery",
        before=before,
        after=after,
        message=f"{delivery.destination_name}: {comment}" if comment else delivery.destination_name,
        actor=actor,
        delivery_id=delivery.id,
    )
