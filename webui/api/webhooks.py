"""Addresses that are told of jobs: made, looked at, tried, switched off and on, removed.

The scheduler makes the calls (`pacs_node.webhooks`). What an address is called with holds no patient data;
who may name addresses inside the hospital's network is an administrator.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Literal

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.orm import Session

from db import audit, webhooks
from db.desk import Webhook, WebhookCall
from db.states import JobState
from webui import auth
from webui.api.operations import answer, operation, read_body, read_query
from webui.errors import Conflict, Invalid, NotFound
from webui.security import client_address
from webui.services import services

blueprint = Blueprint("webhooks", __name__)

ToldState = Literal["held", "done", "failed", "skipped", "cancelled", "retracted"]


def _usual() -> list[ToldState]:
    return ["done", "failed"]


class NewWebhook(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=64)]
    url: Annotated[str, StringConstraints(strip_whitespace=True, max_length=1024)] = Field(
        description="`http://` or `https://`, without user, password and `#`. Redirects are not followed."
    )
    states: list[ToldState] = Field(
        default_factory=_usual, min_length=1, description="Which states are told; left out: done and failed."
    )


class WebhookView(BaseModel):
    """An address that is told of jobs; its secret is not shown again."""

    id: int
    name: str
    url: str
    states: list[ToldState]
    created_at: datetime
    disabled_at: datetime | None = Field(description="Since when nothing is told; null while it is.")

    @classmethod
    def of(cls, row: Webhook) -> WebhookView:
        return cls.model_validate(row, from_attributes=True)


class WebhookMade(WebhookView):
    """A new address with the secret that signs its calls, shown this once."""

    secret: str


class Webhooks(BaseModel):
    webhooks: list[WebhookView]


class WebhookCallView(BaseModel):
    """Something that was or is to be said to an address."""

    id: int
    event: int | None = Field(description="The job event that it tells of; null for a test.")
    job: int | None
    told: ToldState | Literal["test"] = Field(description="The state that is told.")
    state: Literal["waiting", "done", "failed"]
    attempts: int
    not_before: datetime = Field(description="When the next attempt is due, while it waits.")
    status_code: int | None = Field(description="What the address answered last; null when nobody did.")
    message: str | None = Field(description="Why it was not taken.")
    created_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, row: WebhookCall) -> WebhookCallView:
        return cls.model_validate(
            {
                "id": row.id,
                "event": row.event_id,
                "job": row.job_id,
                "told": row.job_state,
                "state": row.state,
                "attempts": row.attempts,
                "not_before": row.not_before,
                "status_code": row.status_code,
                "message": row.message,
                "created_at": row.created_at,
                "ended_at": row.ended_at,
            }
        )


class WebhookCalls(BaseModel):
    """Newest first; `next` is the cursor of the following page."""

    calls: list[WebhookCallView]
    next: int | None


class CallQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=500)
    cursor: int | None = Field(None, ge=1, lt=1 << 63, description="`next` of the page before.")


class WebhookMessage(BaseModel):
    """What an address is called with. No patient data: ask at `href`, with a token, for more."""

    event: int | None = Field(
        description="Number of the job event: the same in a repetition of the call. Null for a test."
    )
    job: int | None
    state: ToldState | Literal["test"]
    reason_code: str | None = Field(description="Why, of a job that failed or was skipped.")
    href: str | None = Field(
        description="Address of the job; only a path when the node does not know its own address."
    )
    at: datetime = Field(description="When the job came to that state.")


@blueprint.get("/webhooks")
@auth.role("admin")
@operation("Addresses that are told of jobs", tag="webhooks", answers={200: Webhooks})
def listing() -> Response:
    """By name."""
    with services().database.read() as session:
        return answer(Webhooks(webhooks=[WebhookView.of(row) for row in webhooks.listing(session)]))


@blueprint.post("/webhooks")
@auth.role("admin")
@operation("Tell another address of jobs", tag="webhooks", body=NewWebhook, answers={201: WebhookMade})
def create() -> Response:
    """Of what happens from now on. The answer holds the secret that signs the calls, this once."""
    return answer(made(read_body(NewWebhook)), 201)


@blueprint.get("/webhooks/<int:webhook_id>")
@auth.role("admin")
@operation("Look at a webhook", tag="webhooks", answers={200: WebhookView})
def show(webhook_id: int) -> Response:
    """Its address and the states that it is told."""
    with services().database.read() as session:
        return answer(WebhookView.of(find(session, webhook_id)))


@blueprint.delete("/webhooks/<int:webhook_id>")
@auth.role("admin")
@operation("Remove a webhook", tag="webhooks", answers={204: None})
def remove(webhook_id: int) -> Response:
    """With the list of its calls; what waits is not said any more."""
    act(webhook_id, "remove", webhooks.remove)
    return Response(status=204)


@blueprint.post("/webhooks/<int:webhook_id>/disable")
@auth.role("admin")
@operation("Switch a webhook off", tag="webhooks", answers={200: WebhookView})
def disable(webhook_id: int) -> Response:
    """What waits is given up, and nothing new is told."""
    return answer(act(webhook_id, "disable", webhooks.disable))


@blueprint.post("/webhooks/<int:webhook_id>/enable")
@auth.role("admin")
@operation("Switch a webhook on", tag="webhooks", answers={200: WebhookView})
def enable(webhook_id: int) -> Response:
    """It is told of what happens from now on."""
    return answer(act(webhook_id, "enable", lambda _session, row: webhooks.enable(row)))


@blueprint.post("/webhooks/<int:webhook_id>/test")
@auth.role("admin")
@operation("Try a webhook", tag="webhooks", answers={202: WebhookCallView}, problems=(409,))
def test(webhook_id: int) -> Response:
    """A call with the state `test` and no job is made within seconds; its outcome stands in the list."""
    return answer(tried(webhook_id), 202)


@blueprint.get("/webhooks/<int:webhook_id>/calls")
@auth.role("admin")
@operation("Calls to a webhook", tag="webhooks", query=CallQuery, answers={200: WebhookCalls})
def calls(webhook_id: int) -> Response:
    """What was and is to be said, newest first; those that ended are kept for a month."""
    query = read_query(CallQuery)
    with services().database.read() as session:
        find(session, webhook_id)
        rows = webhooks.calls(session, webhook_id, limit=query.limit + 1, before=query.cursor)
    shown = [WebhookCallView.of(row) for row in rows[: query.limit]]
    return answer(WebhookCalls(calls=shown, next=shown[-1].id if len(rows) > query.limit else None))


def made(wanted: NewWebhook) -> WebhookMade:
    """A new webhook. Raises :class:`Invalid`."""
    who = auth.actor()
    states = [JobState(state) for state in wanted.states]
    try:
        with services().database.write() as session:
            row = webhooks.create(session, wanted.name, wanted.url, states, created_by=who.user_id)
            audit.record(
                session, who.user, "webhook.create", object_type="webhook", object_id=row.id,
                address=client_address(), detail={"name": row.name, "states": row.states},
            )  # fmt: skip
    except webhooks.WebhookRefused as refused:
        sentence = f"{str(refused)[0].upper()}{str(refused)[1:]}."
        raise Invalid(sentence, errors=[{"field": refused.field, "message": str(refused)}]) from None
    return WebhookMade(**WebhookView.of(row).model_dump(), secret=row.secret)


def tried(webhook_id: int) -> WebhookCallView:
    """A call that only tries the address, to be made by the scheduler. Raises :class:`Conflict`."""

    def ask(session: Session, row: Webhook) -> WebhookCallView:
        if row.disabled_at is not None:
            raise Conflict("The webhook is switched off.", kind="switched-off")
        return WebhookCallView.of(webhooks.try_out(session, row))

    asked: list[WebhookCallView] = []
    act(webhook_id, "test", lambda session, row: asked.append(ask(session, row)))
    return asked[0]


def find(session: Session, webhook_id: int) -> Webhook:
    """A webhook, or 404."""
    row = session.get(Webhook, webhook_id) if webhook_id < 1 << 63 else None
    if row is None:
        raise NotFound("There is no such webhook.")
    return row


def act(webhook_id: int, action: str, change: Callable[[Session, Webhook], object]) -> WebhookView:
    """Change a webhook in one transaction with its audit entry."""
    with services().database.write() as session:
        row = find(session, webhook_id)
        view = WebhookView.of(row)
        change(session, row)
        audit.record(
            session, auth.actor().user, f"webhook.{action}", object_type="webhook", object_id=webhook_id,
            address=client_address(), detail={"name": view.name},
        )  # fmt: skip
        return view if action == "remove" else WebhookView.of(row)
