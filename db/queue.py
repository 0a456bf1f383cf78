"""The job queue: claim, keep, finish, retry, cancel. Every function is one step of one transaction.

A job is claimed under a lease with a fencing token. Whoever finishes it names the token; one whose lease
was given to another gets :class:`db.leases.LeaseLost` and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import CursorResult, func, select, update
from sqlalchemy.orm import Session

from db import deliveries, events
from db.leases import Lease, LeaseLost, backoff
from db.models import Job, ModelVersion, Result, Source
from db.states import (
    JOB_FINISHED,
    DeliveryState,
    JobState,
    Priority,
    Purpose,
    check_job,
)
from db.types import utcnow


@dataclass(frozen=True)
class NewResult:
    """What a worker has stored and now commits."""

    object_key: str
    sha256: str
    size_bytes: int
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    rows: int
    columns: int
    figures: dict[str, Any]
    preview_key: str | None = None


def enqueue(
    session: Session,
    source: Source,
    *,
    priority: Priority = Priority.ROUTINE,
    purpose: Purpose = Purpose.CLINICAL,
    requested: dict[str, Any] | None = None,
    batch_id: int | None = None,
    created_by: int | None = None,
    actor: str | None = None,
) -> Job:
    """Add a job for a source; it is `queued`."""
    job = Job(
        source_id=source.id,
        priority=int(priority),
        purpose=purpose,
        requested=requested or {},
        batch_id=batch_id,
        created_by=created_by,
    )
    session.add(job)
    session.flush()
    events.record(session, job.id, "state", after=JobState.QUEUED, actor=actor)
    return job


def waiting(session: Session) -> int:
    """Number of queued jobs."""
    return session.scalar(select(func.count()).select_from(Job).where(Job.state == JobState.QUEUED)) or 0


def claim(session: Session, owner: str, lease_seconds: float) -> Lease | None:
    """Take the next due job: `stat` before `routine` before `bulk`, oldest first. Needs a write session."""
    now = utcnow()
    candidate = (
        select(Job.id)
        .where(Job.state == JobState.QUEUED, Job.not_before <= now)
        .order_by(Job.priority, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    expires = now + timedelta(seconds=lease_seconds)
    row = session.execute(
        update(Job)
        .where(Job.id == candidate, Job.state == JobState.QUEUED)
        .values(
            state=JobState.RUNNING,
            lease_owner=owner,
            lease_token=Job.lease_token + 1,
            lease_expires_at=expires,
            attempts=Job.attempts + 1,
            started_at=func.coalesce(Job.started_at, now),
            updated_at=now,
            progress=0.0,
        )
        .returning(Job.id, Job.lease_token),
        execution_options={"synchronize_session": False},
    ).first()
    if row is None:
        return None
    events.record(session, row.id, "state", before=JobState.QUEUED, after=JobState.RUNNING, actor=owner)
    return Lease(row.id, row.lease_token, expires)


def heartbeat(session: Session, lease: Lease, lease_seconds: float, progress: float | None = None) -> Lease:
    """Keep the lease; raises :class:`LeaseLost` when it is gone or the job is to be cancelled."""
    expires = utcnow() + timedelta(seconds=lease_seconds)
    values: dict[str, Any] = {"lease_expires_at": expires}
    if progress is not None:
        values["progress"] = progress
    done = cast(
        "CursorResult[Any]",
        session.execute(
            update(Job)
            .where(
                Job.id == lease.id,
                Job.lease_token == lease.token,
                Job.state == JobState.RUNNING,
                Job.cancel_requested.is_(False),
            )
            .values(**values),
            execution_options={"synchronize_session": False},
        ),
    )
    if done.rowcount != 1:
        raise LeaseLost(f"job {lease.id}")
    return Lease(lease.id, lease.token, expires)


def held(session: Session, lease: Lease) -> Job:
    """The job of a lease, locked for this transaction; raises :class:`LeaseLost` when it is another's."""
    job = session.scalar(
        select(Job)
        .where(Job.id == lease.id, Job.lease_token == lease.token, Job.state == JobState.RUNNING)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if job is None:
        raise LeaseLost(f"job {lease.id}")
    return job


def note_plan(
    session: Session,
    lease: Lease,
    *,
    rule: str,
    scale: int,
    model: ModelVersion,
    result_series_uid: str,
    result_sop_uid: str,
    release: str = "auto",
    priority: Priority | None = None,
) -> Job:
    """Write down what will be made, before it is made; the UIDs are never computed again for this job."""
    job = held(session, lease)
    job.rule, job.scale, job.model_version_id, job.release = rule, scale, model.id, release
    job.result_series_uid, job.result_sop_uid = result_series_uid, result_sop_uid
    if priority is not None:
        job.priority = int(priority)
    return job


def finish(
    session: Session,
    lease: Lease,
    result: NewResult,
    destinations: Sequence[deliveries.Address],
    *,
    forward_original_to: Sequence[deliveries.Address] = (),
    actor: str | None = None,
) -> Job:
    """Commit a result and its deliveries: `held` for review, else `delivering`, or `done` with nowhere to go."""
    job = held(session, lease)
    session.add(Result(job_id=job.id, **vars(result)))
    for address in destinations:
        deliveries.add(session, job, address)
    for address in forward_original_to:
        deliveries.add(session, job, address, what="original")
    if job.release == "review":
        after = JobState.HELD
    elif destinations or forward_original_to:
        after = JobState.DELIVERING
    else:
        after = JobState.DONE
    job.progress = 1.0
    _move(session, job, after, actor=actor)
    return job


def skip(session: Session, lease: Lease, code: str, reason: str, *, actor: str | None = None) -> Job:
    """Nothing is to be made of this source; the reason is for people."""
    job = held(session, lease)
    _move(session, job, JobState.SKIPPED, code=code, reason=reason, actor=actor)
    return job


def fail(session: Session, lease: Lease, code: str, reason: str, *, actor: str | None = None) -> Job:
    """Give up: another attempt would end the same way."""
    job = held(session, lease)
    _move(session, job, JobState.FAILED, code=code, reason=reason, actor=actor)
    return job


def retry_later(
    session: Session,
    lease: Lease,
    code: str,
    reason: str,
    *,
    max_attempts: int,
    base: float,
    longest: float,
    actor: str | None = None,
) -> Job:
    """Try again after a growing wait, or fail when the attempts are used up."""
    job = held(session, lease)
    if job.attempts >= max_attempts:
        _move(session, job, JobState.FAILED, code=code, reason=reason, actor=actor)
    else:
        job.not_before = utcnow() + backoff(job.attempts, base, longest)
        _move(session, job, JobState.QUEUED, code=code, reason=reason, actor=actor)
    return job


def give_back(session: Session, lease: Lease, *, actor: str | None = None) -> Job:
    """Return an unfinished job untouched, as when the worker is asked to stop; costs no attempt."""
    job = held(session, lease)
    job.attempts -= 1
    _move(session, job, JobState.QUEUED, actor=actor)
    return job


def honour_cancel(session: Session, lease: Lease, *, actor: str | None = None) -> bool:
    """Finish a running job as cancelled if someone asked for that."""
    job = held(session, lease)
    if not job.cancel_requested:
        return False
    _move(session, job, JobState.CANCELLED, code="cancelled", reason="cancelled on request", actor=actor)
    return True


def expire_leases(session: Session, *, max_attempts: int, now: datetime | None = None) -> int:
    """Give the jobs of silent workers back to the queue, or fail those with no attempt left."""
    now = now or utcnow()
    jobs = session.scalars(
        select(Job)
        .where(Job.state == JobState.RUNNING, Job.lease_expires_at < now)
        .with_for_update(skip_locked=True)
    ).all()
    for job in jobs:
        reason = f"the worker {job.lease_owner} fell silent"
        if job.cancel_requested:
            _move(session, job, JobState.CANCELLED, code="cancelled", reason="cancelled on request", actor="scheduler")
        elif job.attempts >= max_attempts:
            _move(session, job, JobState.FAILED, code="worker-lost", reason=reason, actor="scheduler")
        else:
            _move(session, job, JobState.QUEUED, code="worker-lost", reason=reason, actor="scheduler")
    return len(jobs)


def get(session: Session, job_id: int, *, lock: bool = False) -> Job | None:
    """One job; with `lock` it cannot change until the transaction ends."""
    query = select(Job).where(Job.id == job_id)
    return session.scalar(query.with_for_update() if lock else query)


def retry(session: Session, job: Job, *, actor: str) -> None:
    """Try a failed, skipped or cancelled job again; a stored result is delivered again, not made again."""
    if job.result is not None:
        check_job(job.state, JobState.DELIVERING)
        deliveries.again(session, job, actor=actor)
        _move(session, job, JobState.DELIVERING, actor=actor)
        deliveries.settle(session, job, actor=actor)
        return
    check_job(job.state, JobState.QUEUED)
    job.attempts, job.not_before, job.cancel_requested = 0, utcnow(), False
    _move(session, job, JobState.QUEUED, actor=actor)


def cancel(session: Session, job: Job, *, actor: str) -> None:
    """Cancel: at once if it waits, at the next heartbeat if it runs; open deliveries are cancelled too."""
    check_job(job.state, JobState.CANCELLED)
    if job.state == JobState.RUNNING:
        job.cancel_requested = True
        events.record(session, job.id, "cancel-requested", actor=actor)
        return
    deliveries.cancel_open(session, job, actor=actor)
    _move(session, job, JobState.CANCELLED, code="cancelled", reason="cancelled on request", actor=actor)


def release(session: Session, job: Job, *, actor: str) -> None:
    """Let a held result go to its destinations."""
    waits = any(d.state == DeliveryState.WAITING for d in job.deliveries)
    check_job(job.state, JobState.DELIVERING)
    if job.state != JobState.HELD:
        check_job(JobState.DONE, JobState.HELD)
    _move(session, job, JobState.DELIVERING if waits else JobState.DONE, actor=actor)


def retract(session: Session, job: Job, *, reason: str, actor: str) -> None:
    """Take a result back: open deliveries are cancelled, the result is hidden from then on."""
    check_job(job.state, JobState.RETRACTED)
    deliveries.cancel_open(session, job, actor=actor)
    _move(session, job, JobState.RETRACTED, code="retracted", reason=reason, actor=actor)


def _move(
    session: Session,
    job: Job,
    after: JobState,
    *,
    code: str | None = None,
    reason: str | None = None,
    actor: str | None = None,
) -> None:
    check_job(job.state, after)
    before, job.state = job.state, after
    job.reason_code, job.reason = code, reason[:1024] if reason else None
    job.lease_owner, job.lease_expires_at = None, None
    job.finished_at = utcnow() if after in JOB_FINISHED else None
    events.record(session, job.id, "state", before=before, after=after, message=reason, actor=actor)


move = _move
