"""Held results: which waits next, and the reader's word on it. Release is with the other actions of a job."""

from __future__ import annotations

from typing import Literal

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field

from db import audit, judgements, queue, review
from db.models import Job
from webui import auth
from webui.api.jobs import find
from webui.api.models import JobDetail
from webui.api.operations import answer, operation, read_body, read_query
from webui.errors import NotFound
from webui.security import client_address
from webui.services import services

blueprint = Blueprint("review", __name__)

Why = Literal["bad", "invented", "wrong", "needless"]
REASONS: dict[str, str] = {
    "bad": "poor quality",
    "invented": "invented detail",
    "wrong": "wrong patient, side or study",
    "needless": "not needed",
}
"""Why a held result is turned down, as the job then says it."""
_VERDICTS = {"bad": "bad", "invented": "invented"}


class Rejection(BaseModel):
    model_config = ConfigDict(extra="forbid")

    why: Why = Field(description="`bad` and `invented` are written down as the reader's judgement as well.")


class Waiting(BaseModel):
    waiting: int
    next: int | None = Field(description="The job to look at: the most urgent, then the oldest.")


class NextQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    after: int | None = Field(None, ge=1, lt=1 << 63, description="The job that was looked at before.")


@blueprint.get("/review")
@auth.role("radiologist")
@operation("Held results that wait for a reader", tag="review", query=NextQuery, answers={200: Waiting})
def waiting() -> Response:
    """How many, and which is next."""
    wanted = read_query(NextQuery)
    with services().database.read() as session:
        return answer(Waiting(waiting=review.waiting(session), next=review.following(session, wanted.after)))


@blueprint.post("/jobs/<int:job_id>/reject")
@auth.role("radiologist")
@operation("Turn a held result down", tag="review", body=Rejection, answers={200: JobDetail}, problems=(409,))
def reject(job_id: int) -> Response:
    """It is cancelled and goes nowhere; to try the job again holds it once more."""
    rejected(job_id, read_body(Rejection).why)
    with services().database.read() as session:
        return answer(JobDetail.of(find(session, job_id)))


def rejected(job_id: int, why: Why) -> None:
    """Turn a held result down; a reader who has not judged it yet has then. Raises IllegalTransition, 404."""
    who = auth.actor()
    with services().database.write() as session:
        job: Job | None = queue.get(session, job_id, lock=True) if 0 < job_id < 1 << 63 else None
        if job is None:
            raise NotFound("There is no such job.")
        review.reject(session, job, reason=REASONS[why], actor=who.user)
        if why in _VERDICTS and judgements.own(session, job_id, who.user_id) is None:
            judgements.put(session, job, user_id=who.user_id, actor=who.user, verdict=_VERDICTS[why])
        audit.record(
            session, who.user, "job.reject", object_type="job", object_id=job_id, address=client_address(),
            detail={"why": why},
        )  # fmt: skip
