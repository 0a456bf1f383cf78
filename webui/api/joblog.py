"""The lines of the roles' logs that concern a job."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field

from db import joblog
from db.models import Job
from webui import auth
from webui.api.operations import answer, operation, read_query
from webui.errors import NotFound
from webui.services import services

blueprint = Blueprint("joblog", __name__)


class LineView(BaseModel):
    id: int
    at: datetime
    role: str
    level: str
    event: str
    fields: dict[str, Any]


class LogQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(500, ge=1, le=2000)
    cursor: int | None = Field(None, ge=1, description="`next` of the page before.")


class LogPage(BaseModel):
    """Oldest first; `next` is the cursor of older lines."""

    lines: list[LineView]
    next: int | None


@blueprint.get("/jobs/<int:job_id>/log")
@auth.role("admin")
@operation("Read the log of a job", tag="jobs", query=LogQuery, answers={200: LogPage})
def log(job_id: int) -> Response:
    """What receiver, worker, sender and web logged of it, the newest lines. They come some seconds late."""
    query = read_query(LogQuery)
    return answer(page(job_id, query.limit, query.cursor))


def page(job_id: int, limit: int = 500, cursor: int | None = None) -> LogPage:
    """What the page and the route show; raises :class:`NotFound`."""
    with services().database.read() as session:
        if job_id >= 1 << 63 or session.get(Job, job_id) is None:
            raise NotFound("There is no such job.")
        rows, older = joblog.lines(session, job_id, limit=limit, before=cursor)
        return LogPage(lines=[LineView.model_validate(row, from_attributes=True) for row in rows], next=older)
