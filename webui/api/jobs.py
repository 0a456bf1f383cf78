"""The table of jobs: list, search, look at one, steer it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.orm import Session

from db import audit, browse, queue
from db.models import Job
from webui import auth, trail
from webui.api.filters import ListQuery, Search
from webui.api.models import JobDetail, JobPage, JobSummary
from webui.api.operations import answer, operation, read_body, read_query
from webui.errors import NotFound
from webui.security import client_address
from webui.services import services

blueprint = Blueprint("jobs", __name__)


class Reason(BaseModel):
    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=500)] = Field(
        description="Why the result is taken back; no patient data."
    )
    why: Literal["quality", "safety", "worklist"] = Field(
        "quality",
        description="What archives are told: not good enough; not to be seen again; made under the wrong "
        "patient or order.",
    )


@blueprint.get("/jobs")
@auth.role("radiologist")
@operation("List jobs", tag="jobs", query=ListQuery, answers={200: JobPage})
def listing() -> Response:
    """A page of jobs; filters that could hold patient data go to the search, in a body."""
    query = read_query(ListQuery)
    trail.listed()
    with services().database.read() as session:
        page = browse.jobs(
            session,
            states=query.states,
            limit=query.limit,
            after=query.after,
            search=query.conditions(),
            sort=query.sort,
        )
        return answer(_page(page))


@blueprint.post("/jobs/search")
@auth.role("radiologist")
@operation("Search jobs", tag="jobs", body=Search, answers={200: JobPage})
def search() -> Response:
    """The list, by patient, accession number, UID, dates and state."""
    wanted = read_body(Search)
    trail.searched("jobs.search", wanted.asked)
    with services().database.read() as session:
        page = browse.jobs(
            session,
            states=wanted.state,
            limit=wanted.limit,
            after=wanted.after,
            search=wanted.conditions(),
            sort=wanted.sort,
        )
        return answer(_page(page))


@blueprint.get("/jobs/<int:job_id>")
@auth.role("radiologist")
@operation("Look at a job", tag="jobs", answers={200: JobDetail})
def show(job_id: int) -> Response:
    """The job with its timeline, source, result and deliveries."""
    with services().database.read() as session:
        found = find(session, job_id)
        shown = answer(JobDetail.of(found))
    trail.looked(job_id)
    return shown


@blueprint.post("/jobs/<int:job_id>/retry")
@auth.role("radiologist")
@operation("Try again", tag="jobs", answers={200: JobDetail}, problems=(409,))
def retry(job_id: int) -> Response:
    """A failed, skipped or cancelled job is queued again; a stored result is sent again, not made again. Of a
    retracted one the notes are sent again that did not arrive."""
    return act(job_id, "retry", lambda session, job, who: queue.retry(session, job, actor=who))


@blueprint.post("/jobs/<int:job_id>/cancel")
@auth.role("radiologist")
@operation("Cancel", tag="jobs", answers={200: JobDetail}, problems=(409,))
def cancel(job_id: int) -> Response:
    """At once where the job waits, soon where it runs; what has not arrived is not sent."""
    return act(job_id, "cancel", lambda session, job, who: queue.cancel(session, job, actor=who))


@blueprint.post("/jobs/<int:job_id>/release")
@auth.role("radiologist")
@operation("Release a held result", tag="jobs", answers={200: JobDetail}, problems=(409,))
def release(job_id: int) -> Response:
    """The result goes to its destinations."""
    return act(job_id, "release", lambda session, job, who: queue.release(session, job, actor=who))


@blueprint.post("/jobs/<int:job_id>/retract")
@auth.role("admin")
@operation("Take a result back", tag="jobs", body=Reason, answers={200: JobDetail}, problems=(409,))
def retract(job_id: int) -> Response:
    """The result is hidden from now on and goes nowhere any more; a rejection note follows it to each archive
    that has it."""
    said = read_body(Reason)
    return act(
        job_id,
        "retract",
        lambda session, job, who: queue.retract(session, job, reason=said.reason, actor=who, why=said.why),
    )


def find(session: Session, job_id: int) -> Job:
    """A job, or 404."""
    job = browse.job(session, job_id) if job_id < 1 << 63 else None
    if job is None:
        raise NotFound("There is no such job.")
    return job


def act(job_id: int, action: str, change: Callable[[Session, Job, str], None]) -> Response:
    """Change a job in one transaction with its audit entry; IllegalTransition becomes 409."""
    who = auth.actor().user
    with services().database.write() as session:
        job = queue.get(session, job_id, lock=True) if job_id < 1 << 63 else None
        if job is None:
            raise NotFound("There is no such job.")
        change(session, job, who)
        audit.record(
            session, who, f"job.{action}", object_type="job", object_id=str(job_id), address=client_address()
        )
        session.flush()
    with services().database.read() as session:
        return answer(JobDetail.of(find(session, job_id)))


def _page(page: browse.Page) -> JobPage:
    return JobPage(
        jobs=[JobSummary.of(job) for job in page.jobs],
        next=str(page.next_cursor) if page.next_cursor is not None else None,
    )
