"""The job queue: claim, keep, finish, retry, cancel. Every function is one step of one transaction.

A job is claimed under a lease with a fencing token. Whoever finishes it names the token; one whose lease
was given to another gets :class:`db.leases.LeaseLost` and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.orm import Session

from db import deliveries, events, pauses, results
from db.leases import CancelRequested, Lease, LeaseLost, backoff, is_dead
from db.models import Job, JobEvent, ModelVersion, Source
from db.results import NewResult as NewResult  # what a worker finishes with
from db.states import (
    JOB_FINISHED,
    JOB_TRANSITIONS,
    IllegalTransition,
    JobState,
    NotNow,
    Priority,
    Purpose,
    check_job,
)
from db.transitions import move_job
from db.types import utcnow


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
        origin_kind=source.origin_kind,
        requested=requested or {},
        batch_id=batch_id,
        created_by=created_by,
    )
    session.add(job)
    session.flush()
    events.record(session, job.id, "state", after=JobState.QUEUED, actor=actor)
    return job


def waiting(session: Session, *, due: bool = False) -> int:
    """Number of queued jobs; due: only of those that could be done now."""
    query = select(func.count()).select_from(Job).where(Job.state == JobState.QUEUED)
    return session.scalar(query.where(Job.not_before <= utcnow()) if due else query) or 0


def claim(session: Session, owner: str, lease_seconds: float) -> Lease | None:
    """Take the next due job: `stat` before `routine` before `bulk`, oldest first. Needs a write session.

    None while processing is paused.
    """
    now = utcnow()
    candidate = (
        select(Job.id)
        .where(Job.state == JobState.QUEUED, Job.not_before <= now, ~pauses.holds(pauses.PROCESSING))
        .order_by(Job.priority, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True, key_share=True)
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


def overtaken(session: Session, job: Job) -> bool:
    """Whether another job is to be done before this one, as its priority is now."""
    before = or_(Job.priority < job.priority, and_(Job.priority == job.priority, Job.id < job.id))
    query = select(Job.id).where(Job.state == JobState.QUEUED, Job.not_before <= utcnow(), before)
    return session.scalar(query.order_by(Job.priority, Job.id).limit(1)) is not None


def heartbeat(session: Session, lease: Lease, lease_seconds: float, progress: float | None = None) -> Lease:
    """Keep the lease; `progress` is the part done, 0 to 1.

    Raises :class:`LeaseLost` when it is gone, :class:`CancelRequested` when the job is to be cancelled.
    """
    now = utcnow()
    expires = now + timedelta(seconds=lease_seconds)
    values: dict[str, Any] = {"lease_expires_at": expires, "updated_at": now}
    if progress is not None:
        values["progress"] = progress
    kept = session.execute(
        update(Job)
        .where(
            Job.id == lease.id,
            Job.lease_token == lease.token,
            Job.state == JobState.RUNNING,
            Job.cancel_requested.is_(False),
        )
        .values(**values)
        .returning(Job.id),
        execution_options={"synchronize_session": False},
    ).scalar()
    if kept is None:
        held(session, lease)
        raise CancelRequested(f"job {lease.id}")
    return Lease(lease.id, lease.token, expires)


def held(session: Session, lease: Lease) -> Job:
    """The job of a lease, locked for this transaction; raises :class:`LeaseLost` when it is another's."""
    job = session.scalar(
        select(Job)
        .where(Job.id == lease.id, Job.lease_token == lease.token, Job.state == JobState.RUNNING)
        .with_for_update(key_share=True)
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
    """Write down what will be made, before it is made.

    A later attempt at the same thing keeps the UIDs that stand in the job: take them from what is returned.
    """
    job = held(session, lease)
    same = job.result_sop_uid is not None and (job.scale, job.model_version_id) == (scale, model.id)
    if not same:
        job.result_series_uid, job.result_sop_uid = result_series_uid, result_sop_uid
    job.rule, job.scale, job.model_version_id, job.release = rule, scale, model.id, release
    if priority is not None and not _chosen(session, job):
        job.priority = int(priority)
    return job


def _chosen(session: Session, job: Job) -> bool:
    """Whether a person has chosen the job's priority: a rule does not change it then."""
    query = select(JobEvent.id).where(JobEvent.job_id == job.id, JobEvent.kind == "priority").limit(1)
    return session.scalar(query) is not None


def finish(
    session: Session,
    lease: Lease,
    result: NewResult,
    destinations: Sequence[deliveries.Address],
    *,
    forward_original_to: Sequence[deliveries.Address] = (),
    only_if_missing: bool = False,
    actor: str | None = None,
) -> Job:
    """Commit a result and its deliveries: `held` for review, else `delivering`, or `done` with nowhere to go.

    When another job has made the same object already (same SOP Instance UID), that one stands and is shared:
    `job.result.object_key` then differs from the one given, whose object is nobody's. only_if_missing: of
    the originals, those are sent that their destination does not have.
    Raises :class:`LeaseLost`, or :class:`CancelRequested` when the job is to be cancelled instead.
    """
    job = held(session, lease)
    if job.cancel_requested:
        raise CancelRequested(f"job {lease.id}")
    job.result = results.keep(session, result)
    for address in destinations:
        deliveries.add(session, job, address)
    for address in forward_original_to:
        deliveries.add(session, job, address, what="original", ask_first=only_if_missing)
    if job.release == "review":
        after = JobState.HELD
    elif destinations or forward_original_to:
        after = JobState.DELIVERING
    else:
        after = JobState.DONE
    job.progress = 1.0
    move_job(session, job, after, actor=actor)
    return job


def skip(session: Session, lease: Lease, code: str, reason: str, *, actor: str | None = None) -> Job:
    """Nothing is to be made of this source; the reason is for people."""
    job = held(session, lease)
    move_job(session, job, JobState.SKIPPED, code=code, reason=reason, actor=actor)
    return job


def fail(session: Session, lease: Lease, code: str, reason: str, *, actor: str | None = None) -> Job:
    """Give up: another attempt would end the same way."""
    job = held(session, lease)
    move_job(session, job, JobState.FAILED, code=code, reason=reason, actor=actor)
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
    if job.cancel_requested:
        _cancel(session, job, actor=actor)
    elif job.attempts >= max_attempts:
        move_job(session, job, JobState.FAILED, code=code, reason=reason, actor=actor)
    else:
        job.not_before = utcnow() + backoff(job.attempts, base, longest)
        move_job(session, job, JobState.QUEUED, code=code, reason=reason, actor=actor)
    return job


def give_back(session: Session, lease: Lease, *, actor: str | None = None) -> Job:
    """Return an unfinished job untouched, as when the worker is asked to stop; costs no attempt."""
    job = held(session, lease)
    if job.cancel_requested:
        _cancel(session, job, actor=actor)
        return job
    job.attempts -= 1
    move_job(session, job, JobState.QUEUED, actor=actor)
    return job


def postpone(
    session: Session, lease: Lease, code: str, reason: str, *, wait: timedelta, actor: str | None = None
) -> Job:
    """Return a job that could not be ended through no fault of its own; costs no attempt."""
    job = held(session, lease)
    if job.cancel_requested:
        _cancel(session, job, actor=actor)
        return job
    job.attempts -= 1
    job.not_before = utcnow() + wait
    move_job(session, job, JobState.QUEUED, code=code, reason=reason, actor=actor)
    return job


def honour_cancel(session: Session, lease: Lease, *, actor: str | None = None) -> bool:
    """Finish a running job as cancelled if someone asked for that."""
    job = held(session, lease)
    if not job.cancel_requested:
        return False
    _cancel(session, job, actor=actor)
    return True


def expire_leases(session: Session, *, max_attempts: int, now: datetime | None = None) -> int:
    """Give the jobs of silent workers back to the queue, or fail those with no attempt left.

    A worker that is known to be dead need not be waited for.
    """
    now = now or utcnow()
    owners = session.scalars(select(Job.lease_owner).where(Job.state == JobState.RUNNING).distinct())
    dead = [owner for owner in owners if is_dead(owner)]
    jobs = session.scalars(
        select(Job)
        .where(Job.state == JobState.RUNNING, (Job.lease_expires_at < now) | Job.lease_owner.in_(dead))
        .with_for_update(skip_locked=True, key_share=True)
    ).all()
    for job in jobs:
        reason = f"the worker {job.lease_owner} fell silent"
        if job.cancel_requested:
            _cancel(session, job, actor="scheduler")
        elif job.attempts >= max_attempts:
            move_job(session, job, JobState.FAILED, code="worker-lost", reason=reason, actor="scheduler")
        else:
            move_job(session, job, JobState.QUEUED, code="worker-lost", reason=reason, actor="scheduler")
    return len(jobs)


def get(session: Session, job_id: int, *, lock: bool = False) -> Job | None:
    """One job; with `lock` it cannot change until the transaction ends."""
    query = select(Job).where(Job.id == job_id)
    if lock:
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    return session.scalar(query)


def retry(session: Session, job: Job, *, actor: str) -> None:
    """Try a failed, skipped or cancelled job again; a stored result is delivered again, not made again.

    Of a retracted job the notes that did not arrive are sent again. Raises :class:`IllegalTransition`, also
    when retention has taken what would be needed.
    """
    _lock(session, job)
    if job.state == JobState.RETRACTED and deliveries.notes_again(session, job, actor=actor):
        return
    if job.state not in {JobState.FAILED, JobState.SKIPPED, JobState.CANCELLED}:
        raise IllegalTransition("the job", job.state, JobState.QUEUED)
    job.cancel_requested = False
    if results.kept(session, job) is not None:
        deliveries.again(session, job, actor=actor)
        if job.release == "review" and job.released_at is None:
            move_job(session, job, JobState.HELD, actor=actor)
        else:
            move_job(session, job, JobState.DELIVERING, actor=actor)
            deliveries.settle(session, job, actor=actor)
        return
    source = session.get_one(
        Source, job.source_id, populate_existing=True, with_for_update={"key_share": True}
    )
    if source.deleted_at is not None:
        raise IllegalTransition("the job", job.state, JobState.QUEUED, "its source is no longer kept")
    job.result = None
    job.attempts, job.progress, job.not_before = 0, 0.0, utcnow()
    move_job(session, job, JobState.QUEUED, actor=actor)


def cancel(session: Session, job: Job, *, actor: str) -> None:
    """Cancel: at once if it waits, at the next heartbeat if it runs; open deliveries are cancelled too."""
    _lock(session, job)
    check_job(job.state, JobState.CANCELLED)
    if job.state != JobState.RUNNING:
        deliveries.cancel_open(session, job, actor=actor)
        _cancel(session, job, actor=actor)
    elif not job.cancel_requested:
        job.cancel_requested = True
        events.record(session, job.id, "cancel-requested", actor=actor)


def reprioritise(session: Session, job: Job, priority: Priority, *, actor: str) -> None:
    """Let a job that has not ended go before others or after them, and what is to be delivered of it.

    Raises :class:`db.states.NotNow`.
    """
    _lock(session, job)
    if job.state in JOB_FINISHED:
        raise NotNow("the job", job.state, "its priority matters no more")
    if job.priority == priority:
        return
    message = f"{Priority(job.priority).name.lower()} to {priority.name.lower()}"
    job.priority = int(priority)
    for delivery in deliveries.of_job(session, job):
        delivery.priority = int(priority)
    events.record(session, job.id, "priority", message=message, actor=actor)


def release(session: Session, job: Job, *, actor: str) -> None:
    """Let a held result go to its destinations; the time they have to arrive begins now."""
    _lock(session, job)
    if job.state != JobState.HELD:
        raise IllegalTransition("the job", job.state, JobState.DELIVERING, "only a held one can be released")
    job.released_at = utcnow()
    goes = deliveries.begin(session, job)
    move_job(session, job, JobState.DELIVERING if goes else JobState.DONE, actor=actor)


RETRACTIONS = {
    "quality": "retracted",
    "safety": "retracted-safety",
    "worklist": "retracted-worklist",
    "amended": "amended",
}
"""Why a result is taken back, and the code that its job then has: not good enough, not to be seen again,
made under wrong attributes of patient or order, or replaced because they were corrected."""


def retract(session: Session, job: Job, *, reason: str, actor: str, why: str = "quality") -> None:
    """Take a result back: open deliveries are cancelled, the result is hidden from then on, and a note goes
    to each destination that has it. Other jobs that share the result are retracted with it.

    why: one of :data:`RETRACTIONS`. Raises :class:`IllegalTransition`.
    """
    _lock(session, job)
    check_job(job.state, JobState.RETRACTED)
    if job.result is None:
        raise IllegalTransition("the job", job.state, JobState.RETRACTED, "it has no result")
    _take_back(session, job, RETRACTIONS[why], reason, actor)
    sharing = select(Job).where(Job.result_id == job.result_id, Job.id != job.id).order_by(Job.id)
    for other in session.scalars(sharing):
        _lock(session, other)
        if JobState.RETRACTED in JOB_TRANSITIONS[other.state]:
            _take_back(session, other, RETRACTIONS[why], f"with job {job.id}: {reason}", actor)


def _take_back(session: Session, job: Job, code: str, reason: str, actor: str) -> None:
    deliveries.cancel_open(session, job, actor=actor)
    move_job(session, job, JobState.RETRACTED, code=code, reason=reason, actor=actor)
    deliveries.add_notes(session, job, actor=actor)


def _lock(session: Session, job: Job) -> None:
    """See the job as it is now, and keep others from changing it until the transaction ends."""
    session.flush()
    session.refresh(job, with_for_update={"key_share": True})


def _cancel(session: Session, job: Job, *, actor: str | None) -> None:
    job.cancel_requested = False
    move_job(session, job, JobState.CANCELLED, code="cancelled", reason="cancelled on request", actor=actor)
