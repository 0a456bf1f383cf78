"""How the node stands: counts, failures by reason, deliveries, roles, room, what ends soon, alerts."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from typing import Annotated, Any

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.orm import Session

from config.settings import AlertSettings
from db import alerts, audit, browse, dashboard, pauses, presence, queue
from db.models import RoleInstance
from db.states import IllegalTransition, JobState
from db.types import utcnow
from webui import auth, standing
from webui.api.dashboard_models import (
    AlertView,
    DashboardView,
    FailuresView,
    ForecastView,
    HistoryView,
    PartView,
    ProcessView,
    RoleState,
    SpanName,
    TokenView,
    TrafficView,
    WaitingView,
)
from webui.api.operations import answer, operation, read_body, read_query
from webui.api.pauses import PauseView
from webui.api.system import ROLES, CertificateView, DiskView, disk
from webui.security import client_address
from webui.services import Services, services

blueprint = Blueprint("dashboard", __name__)

KEPT_SECONDS = 1.0
HISTORY_KEPT = {"hour": 5.0, "day": 30.0, "week": 120.0}
"""Seconds that the chart of a span is kept."""
RETRY_SECONDS = 8.0
"""Time that one request retries; what is left is said."""
_AT_ONCE = 100


class HistoryQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    span: SpanName = "hour"


class RetryFailures(BaseModel):
    model_config = ConfigDict(extra="forbid")

    code: Annotated[str, StringConstraints(max_length=64)] = Field(
        description="The reason code; empty for jobs without one.", examples=["decode"]
    )


class Retried(BaseModel):
    retried: int
    refused: int = Field(description="Jobs that cannot be tried again, because retention took their image.")
    left: int = Field(description="Jobs that this request did not come to; ask once more.")
    message: str


class Question(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=128)] = Field(
        description="Name or ID of a patient, accession number, or a UID."
    )


class ObjectView(BaseModel):
    job: int
    href: str
    state: JobState
    sentence: str = Field(description="Where the object stands; times in UTC.")


class Standing(BaseModel):
    objects: list[ObjectView] = Field(description="Newest first; empty where nothing was received.")
    more: bool = Field(description="There are older ones, which the search of jobs lists.")
    unexamined: int = Field(description="Received objects of which nobody knows yet whose they are.")


class AlertQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(50, ge=1, le=500)
    cursor: int | None = Field(None, ge=1, description="`next` of the page before.")


class AlertPage(BaseModel):
    alerts: list[AlertView]
    next: int | None


@blueprint.get("/dashboard")
@auth.role("radiologist")
@operation("How the node stands", tag="dashboard", answers={200: DashboardView})
def show() -> Response:
    """Counts, the oldest waiting job, failures by reason, deliveries by destination, roles, room, what ends
    soon, alerts; a second old at most while the node is quick."""
    return answer(overview(services()))


@blueprint.get("/dashboard/history")
@auth.role("radiologist")
@operation("What happened over time", tag="dashboard", query=HistoryQuery, answers={200: HistoryView})
def over_time() -> Response:
    """Jobs and waiting time in parts of an hour, a day or a week."""
    return answer(history(services(), read_query(HistoryQuery).span))


@blueprint.post("/dashboard/failures/retry")
@auth.role("admin")
@operation("Retry failures of one reason", tag="dashboard", body=RetryFailures, answers={200: Retried})
def retry() -> Response:
    """Try every failed job with that reason code again, as its own retry would."""
    return answer(retry_failures(services(), read_body(RetryFailures).code))


@blueprint.post("/dashboard/why")
@auth.role("radiologist")
@operation("Why something is not in the PACS", tag="dashboard", body=Question, answers={200: Standing})
def why() -> Response:
    """One sentence an object: what it waits for, why it failed or was left out, or where it has arrived."""
    found = standing.answer(services(), read_body(Question).text)
    return answer(
        Standing(
            objects=[
                ObjectView(
                    job=one.job.id,
                    href=f"/api/v1/jobs/{one.job.id}",
                    state=one.job.state,
                    sentence=one.sentence.striptags(),
                )
                for one in found.objects
            ],
            more=found.more,
            unexamined=found.unexamined,
        )
    )


@blueprint.get("/alerts")
@auth.role("radiologist")
@operation("Alerts, newest first", tag="dashboard", query=AlertQuery, answers={200: AlertPage})
def past_alerts() -> Response:
    """Those that stand and those that are over."""
    query = read_query(AlertQuery)
    with services().database.read() as session:
        rows = alerts.past(session, before=query.cursor, limit=query.limit + 1)
    shown = rows[: query.limit]
    return answer(
        AlertPage(
            alerts=[AlertView.of(row) for row in shown],
            next=shown[-1].id if len(rows) > query.limit else None,
        )
    )


def overview(here: Services) -> DashboardView:
    """What the dashboard and its route show, kept for a moment."""
    return here.memo.get("dashboard", KEPT_SECONDS, lambda: _overview(here))


def history(here: Services, span: SpanName) -> HistoryView:
    """A span's figures, kept for a moment."""

    def make() -> HistoryView:
        with here.database.read() as session:
            found = dashboard.history(session, dashboard.SPANS[span])
        return HistoryView(
            span=span,
            part_seconds=found.span.part.total_seconds(),
            parts=[PartView.model_validate(part, from_attributes=True) for part in found.parts],
        )

    return here.memo.get(("history", span), HISTORY_KEPT[span], make)


def retry_failures(here: Services, code: str) -> Retried:
    """Retry in short transactions, so that nobody waits long for one."""
    who, deadline = auth.actor().user, time.monotonic() + RETRY_SECONDS
    done, refused, after = 0, 0, 0
    while time.monotonic() < deadline:
        with here.database.write() as session:
            ids = dashboard.failed_jobs(session, code, after=after, limit=_AT_ONCE)
            for number in ids:
                after = number
                job = queue.get(session, number, lock=True)
                try:
                    if job is not None:
                        queue.retry(session, job, actor=who)
                        done += 1
                except IllegalTransition:
                    refused += 1
        if len(ids) < _AT_ONCE:
            break
    with here.database.write() as session:
        left = len(dashboard.failed_jobs(session, code, after=after, limit=dashboard.MANY))
        audit.record(
            session, who, "jobs.retry", object_type="reason", object_id=code, address=client_address(),
            detail={"jobs": done, "refused": refused, "last": after},
        )  # fmt: skip
    here.memo.forget()
    said = f"{done} {'job is' if done == 1 else 'jobs are'} tried again"
    if refused:
        said += f", {refused} cannot be"
    if left:
        said += f", {left} are left"
    return Retried(retried=done, refused=refused, left=left, message=f"{said}.")


def _overview(here: Services) -> DashboardView:
    now, settings = utcnow(), here.settings
    with here.database.read() as session:
        rows = presence.alive(session)
        stopped, room = pauses.all_pauses(session), _disk(here)
        reserve = room.reserve_bytes if room is not None else settings.storage.reserve_bytes
        return DashboardView(
            jobs=browse.counts(session),
            oldest_waiting=_oldest(session),
            failures=[_failures(found) for found in dashboard.failures(session)],
            deliveries=_deliveries(session, here, {pause.what for pause in stopped}),
            roles=[_role(role, rows) for role in ROLES],
            disk=room,
            forecast=ForecastView.of(alerts.disk_forecast(session, reserve, now)),
            certificates=_certificates(rows, settings.alerts, now),
            tokens=[
                TokenView.model_validate(token, from_attributes=True)
                for token in dashboard.expiring_tokens(session, settings.alerts.expiry_days, now)
            ],
            alerts=[AlertView.of(row) for row in alerts.open_alerts(session)],
            pauses=[PauseView.of(pause) for pause in stopped],
            made_at=now,
        )


def _oldest(session: Session) -> WaitingView | None:
    found = dashboard.oldest_waiting(session)
    if found is None:
        return None
    name: Any = found.priority.name.lower()
    href = f"/api/v1/jobs/{found.job_id}"
    return WaitingView(job=found.job_id, href=href, since=found.since, priority=name)


def _failures(found: dashboard.Failures) -> FailuresView:
    return FailuresView.model_validate(found, from_attributes=True)


def _deliveries(session: Session, here: Services, paused: set[str]) -> list[TrafficView]:
    return [
        TrafficView(
            destination=row.destination,
            waiting=row.waiting,
            sending=row.sending,
            failed=row.failed,
            oldest_at=row.oldest_at,
            last_success_at=row.last_success_at,
            reachable=row.peer.reachable if row.peer else None,
            since=(row.peer.changed_at or row.peer.checked_at) if row.peer else None,
            message=row.peer.message if row.peer else None,
            paused=pauses.of_destination(row.destination) in paused,
        )
        for row in dashboard.traffic(session, [one.name for one in here.settings.destinations])
    ]


def _role(role: str, rows: list[RoleInstance]) -> RoleState:
    alive = [ProcessView.of(row) for row in rows if row.role == role]
    return RoleState(role=role, alive=bool(alive), processes=alive)


def _disk(here: Services) -> DiskView | None:
    try:
        return disk(here)
    except OSError:
        return None


def _certificates(rows: list[RoleInstance], wanted: AlertSettings, now: datetime) -> list[CertificateView]:
    told: list[Any] = next((row.info["certificates"] for row in rows if row.info.get("certificates")), [])
    shown = [CertificateView.model_validate(one) for one in told]
    soon = now + timedelta(days=wanted.expiry_days)
    return [one for one in shown if one.until is None or one.until <= soon or one.trouble]
