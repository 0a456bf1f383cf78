"""One change to many jobs: those that are named, or all that match a filter."""

from __future__ import annotations

from typing import Self

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from db import bulk, queue
from db.browse import Cursor
from db.bulk import Action, Outcome
from db.states import Priority
from webui import auth, trail
from webui.api import jobs
from webui.api.filters import Wanted
from webui.api.models import JobDetail, PriorityName
from webui.api.operations import answer, operation, read_body
from webui.api.values import Number
from webui.security import client_address
from webui.services import services

blueprint = Blueprint("bulk", __name__)


class BulkChange(BaseModel):
    """`ids` or `filter`, not both. Of a filter only jobs are taken whose state the action is for."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"action": "retry", "filter": {"state": ["failed"], "destination": "pacs"}},
                {"action": "priority", "ids": [4711, 4712], "priority": "stat"},
            ]
        },
    )

    action: Action
    ids: list[Number] | None = Field(None, min_length=1, max_length=bulk.MOST)
    filter: Wanted | None = None
    cursor: str | None = Field(None, description="`next` of the answer before, with the same filter.")
    priority: PriorityName | None = Field(None, description="For the action `priority`.")

    @field_validator("cursor")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        return str(Cursor.parse(value)) if value else None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.ids is None) == (self.filter is None):
            raise ValueError("either ids or a filter")
        if (self.action is Action.PRIORITY) != (self.priority is not None):
            raise ValueError("a priority belongs to the action priority")
        return self


class Left(BaseModel):
    """A job that was not changed."""

    id: int
    reason: str


class Changed(BaseModel):
    """What became of the jobs of one request."""

    done: int = Field(description="How many were changed.")
    ids: list[int] = Field(description="Which.")
    refused: list[Left]
    next: str | None = Field(description="More jobs match: send the same again with this as `cursor`.")


class NewPriority(BaseModel):
    model_config = ConfigDict(extra="forbid")

    priority: PriorityName


@blueprint.post("/jobs/bulk")
@auth.role("radiologist")
@operation("Retry, cancel or reprioritise many jobs", tag="jobs", body=BulkChange, answers={200: Changed})
def change() -> Response:
    """At most 500 jobs at one request, each in the audit trail; what a job's state does not allow is told."""
    outcome = apply(read_body(BulkChange))
    return answer(
        Changed(
            done=len(outcome.done),
            ids=outcome.done,
            refused=[Left(id=one.id, reason=f"{one.reason}.".capitalize()) for one in outcome.refused],
            next=str(outcome.next_cursor) if outcome.next_cursor is not None else None,
        )
    )


def apply(wanted: BulkChange) -> Outcome:
    """Make the change as the one who asks."""
    here, who, address = services(), auth.actor().user, client_address()
    priority = None if wanted.priority is None else Priority[wanted.priority.upper()]
    if wanted.ids is not None:
        return bulk.change(
            here.database, wanted.action, wanted.ids, actor=who, address=address, priority=priority
        )
    assert wanted.filter is not None
    trail.searched("jobs.search", wanted.filter.asked)
    return bulk.change_matching(
        here.database,
        wanted.action,
        states=wanted.filter.state,
        search=wanted.filter.conditions(),
        after=Cursor.parse(wanted.cursor) if wanted.cursor else None,
        actor=who,
        address=address,
        priority=priority,
    )


@blueprint.post("/jobs/<int:job_id>/priority")
@auth.role("radiologist")
@operation("Change the priority", tag="jobs", body=NewPriority, answers={200: JobDetail}, problems=(409,))
def priority(job_id: int) -> Response:
    """The job goes before others or after them; its rule does not change that any more."""
    wanted = Priority[read_body(NewPriority).priority.upper()]
    return jobs.act(
        job_id, "priority", lambda session, job, who: queue.reprioritise(session, job, wanted, actor=who)
    )
