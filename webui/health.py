"""For operators and their tools: alive, able to take work, figures. No login and no patient data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from flask import Blueprint, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry
from pydantic import BaseModel, Field
from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from db import browse, pauses, presence, queue, schema
from db.models import Delivery, Job
from db.states import DeliveryState, JobState
from db.trouble import WORDS, trouble
from db.types import utcnow
from webui import auth
from webui.api.operations import answer, operation
from webui.api.system import ROLES, disk
from webui.services import Services, services

blueprint = Blueprint("health", __name__)


class Alive(BaseModel):
    status: str = "ok"


class Ready(BaseModel):
    ready: bool
    reasons: list[str] = Field(description="Why not; empty when ready.")
    paused: list[str] = Field(
        [], description="What stands still because somebody said so; paused intake alone makes it not ready."
    )


@blueprint.get("/healthz")
@auth.public
@operation("Alive", tag="operation", answers={200: Alive})
def healthz() -> Response:
    """The process answers."""
    return answer(Alive())


@blueprint.get("/readyz")
@auth.public
@operation("Able to take work", tag="operation", answers={200: Ready, 503: Ready})
def readyz() -> Response:
    """503 with the reasons when not."""
    here = services()
    reasons, paused = not_ready(here), _paused(here)
    return answer(Ready(ready=not reasons, reasons=reasons, paused=paused), 503 if reasons else 200)


@blueprint.get("/metrics")
@auth.public
@operation("Figures for Prometheus", tag="operation", answers={200: "text/plain"})
def metrics() -> Response:
    """Counts of jobs and deliveries, room, roles, requests."""
    here = services()
    state = CollectorRegistry(auto_describe=False)
    state.register(StateCollector(here))
    text = generate_latest(state) + generate_latest(here.metrics.registry)
    return Response(text, content_type=CONTENT_TYPE_LATEST)


def _paused(here: Services) -> list[str]:
    """What stands still; nothing where the database cannot tell, which is a reason of its own."""
    try:
        with here.database.read() as session:
            return [row.what for row in pauses.all_pauses(session)]
    except SQLAlchemyError:
        return []


def not_ready(here: Services) -> list[str]:
    """Sentences for an operator, none when all is well."""
    reasons = []
    try:
        if not disk(here).accepts:
            reasons.append("The store has no room.")
        elif why := here.store.refuses():
            reasons.append(f"The store takes nothing: {why}.")
    except OSError:
        reasons.append("The store does not answer.")
    try:
        schema.check(here.database)
        with here.database.read() as session:
            if queue.waiting(session) >= here.settings.queue.max_waiting:
                reasons.append("The queue is full.")
            if pauses.is_paused(session, pauses.INTAKE):
                reasons.append("Intake is paused.")
            rows = presence.alive(session)
        workers = [row for row in rows if row.role == "worker"]
        if workers and all(row.info.get("problem") for row in workers):
            reasons.append("No worker can load its model.")
        alive = {row.role for row in rows}
        reasons += [f"No {role} is running." for role in ROLES if role not in alive]
    except schema.SchemaError:
        reasons.append("The database is of another version; run `cxr-sr db upgrade`.")
    except SQLAlchemyError as error:
        said = WORDS[trouble(error)]
        reasons.append(f"{said[0].upper()}{said[1:]}.")
    return reasons


class StateCollector(Collector):
    """What the database and the store say at this moment."""

    def __init__(self, here: Services) -> None:
        self.here = here

    def collect(self) -> Iterator[GaugeMetricFamily]:
        up = GaugeMetricFamily("cxr_sr_database_up", "Whether the database answers.")
        try:
            found = list(self._state())
            up.add_metric([], 1)
        except SQLAlchemyError:
            found = []
            up.add_metric([], 0)
        yield up
        yield from found
        yield from self._room()
        streams = GaugeMetricFamily("cxr_sr_event_streams", "Open event streams of this process.")
        streams.add_metric([], self.here.broadcaster.open_streams)
        yield streams

    def _state(self) -> Iterator[GaugeMetricFamily]:
        with self.here.database.read() as session:
            jobs = GaugeMetricFamily("cxr_sr_jobs", "Jobs by state.", labels=["state"])
            for state, count in browse.counts(session).items():
                jobs.add_metric([state.value], count)
            yield jobs
            query = select(Job.created_at).where(Job.state == JobState.QUEUED).order_by(Job.id).limit(1)
            oldest = session.scalar(query)
            wait = GaugeMetricFamily("cxr_sr_oldest_queued_seconds", "Age of the oldest queued job.")
            wait.add_metric([], (utcnow() - oldest).total_seconds() if oldest else 0)
            yield wait
            deliveries = GaugeMetricFamily(
                "cxr_sr_deliveries", "Deliveries by destination and state.", labels=["destination", "state"]
            )
            grouped = select(Delivery.destination_name, Delivery.state, func.count()).group_by(
                Delivery.state, Delivery.destination_name
            )
            found = {(name, state): count for name, state, count in session.execute(grouped)}
            names = {name for name, _state in found} | {d.name for d in self.here.settings.destinations}
            for name in sorted(names):
                for delivery_state in DeliveryState:
                    count = found.get((name, delivery_state), 0)
                    deliveries.add_metric([name, delivery_state.value], count)
            yield deliveries
            still = {row.what for row in pauses.all_pauses(session)}
            yield _standstill(still, [pauses.of_destination(d.name) for d in self.here.settings.destinations])
            roles = GaugeMetricFamily("cxr_sr_role_processes", "Living processes by role.", labels=["role"])
            living = presence.alive(session)
            alive = [row.role for row in living]
            for role in ROLES:
                roles.add_metric([role], alive.count(role))
            yield roles
            yield from _doors([row.info for row in living])

    def _room(self) -> Iterator[GaugeMetricFamily]:
        room = GaugeMetricFamily("cxr_sr_store_bytes", "Room of the object store.", labels=["kind"])
        try:
            view = disk(self.here)
        except OSError:
            return
        for kind, value in (
            ("free", view.free_bytes),
            ("total", view.total_bytes),
            ("reserve", view.reserve_bytes),
        ):
            if value is not None:
                room.add_metric([kind], value)
        yield room


def _standstill(still: set[str], destinations: list[str]) -> GaugeMetricFamily:
    """1 for what a person has paused."""
    paused = GaugeMetricFamily("cxr_sr_paused", "What a person has paused.", labels=["what"])
    for what in dict.fromkeys((pauses.INTAKE, pauses.PROCESSING, *destinations, *sorted(still))):
        paused.add_metric([what], int(what in still))
    return paused


def _doors(told: list[dict[str, Any]]) -> Iterator[GaugeMetricFamily]:
    """What receivers tell of their callers, and the scheduler of certificates."""
    open_now = GaugeMetricFamily(
        "cxr_sr_dicom_connections", "Callers connected to the receivers, silent ones included."
    )
    open_now.add_metric([], sum(info.get("connections", 0) for info in told))
    yield open_now
    established = GaugeMetricFamily("cxr_sr_dicom_associations", "Associations open at the receivers.")
    established.add_metric([], sum(info.get("associations", 0) for info in told))
    yield established
    untold = GaugeMetricFamily("cxr_sr_audit_waiting", "Audit entries that their repository has not taken.")
    untold.add_metric([], sum(info.get("audit_waiting", 0) for info in told))
    yield untold
    refused = GaugeMetricFamily(
        "cxr_sr_dicom_refused", "Callers turned away since their receiver began.", labels=["reason"]
    )
    counts: Counter[str] = Counter()
    for info in told:
        counts.update(info.get("refused") or {})
    for reason, count in sorted(counts.items()):
        refused.add_metric([reason], count)
    yield refused
    ends = GaugeMetricFamily(
        "cxr_sr_certificate_end_seconds", "When a certificate ends, in Unix time.", labels=["keys"]
    )
    for certificate in next((info["certificates"] for info in told if info.get("certificates")), []):
        if certificate.get("until"):
            ends.add_metric([certificate["keys"]], datetime.fromisoformat(certificate["until"]).timestamp())
    yield ends
