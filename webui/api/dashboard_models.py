"""The shapes of what the dashboard shows."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from db.desk import Alert
from db.forecast import Forecast
from db.models import RoleInstance
from db.states import JobState
from webui.api.models import PriorityName
from webui.api.pauses import PauseView
from webui.api.system import CertificateView, DiskView

SpanName = Literal["hour", "day", "week"]


class WaitingView(BaseModel):
    job: int
    href: str
    since: datetime
    priority: PriorityName


class FailuresView(BaseModel):
    """Failed jobs with one reason."""

    code: str = Field(description="Empty where a job has none.", examples=["decode"])
    count: int
    sentence: str = Field(description="Of the newest.")
    newest_job: int
    at: datetime | None


class TrafficView(BaseModel):
    """Deliveries to one destination."""

    destination: str
    waiting: int = Field(description="Not those of results held for review.")
    sending: int
    failed: int
    oldest_at: datetime | None = Field(description="Since when the oldest waits.")
    last_success_at: datetime | None
    reachable: bool | None = Field(description="Null before the first answer.")
    since: datetime | None = Field(description="Since when it answers, or does not.")
    message: str | None
    paused: bool


class ProcessView(BaseModel):
    """A living process of a role, and what it used when it looked last; null before it looked."""

    host: str
    pid: int
    since: datetime
    memory_bytes: float | None
    processors: float | None = Field(description="Processors in use on the average.")
    busy: float | None = Field(description="Of a worker: the part of the time that it worked.")
    device: str | None
    device_memory: float | None = Field(description="The part of the device's memory that is taken.")
    device_use: float | None
    problem: str | None

    @classmethod
    def of(cls, row: RoleInstance) -> ProcessView:
        load: dict[str, Any] = row.info.get("load") or {}
        return cls(
            host=row.host,
            pid=row.pid,
            since=row.started_at,
            memory_bytes=load.get("memory"),
            processors=load.get("processor"),
            busy=load.get("busy"),
            device=row.info.get("device"),
            device_memory=load.get("device-memory"),
            device_use=load.get("device-use"),
            problem=row.info.get("problem") or row.info.get("degraded") or None,
        )


class RoleState(BaseModel):
    role: str
    alive: bool
    processes: list[ProcessView]


class ForecastView(BaseModel):
    """A line through the free space of the last week."""

    days: float | None = Field(description="Until full; null where the space does not shrink.")
    bytes_per_day: float | None
    covered_hours: float
    enough: bool = Field(description="False: too few figures to say anything.")

    @classmethod
    def of(cls, found: Forecast) -> ForecastView:
        return cls(
            days=found.days,
            bytes_per_day=found.bytes_per_day,
            covered_hours=round(found.covered.total_seconds() / 3600, 2),
            enough=found.enough,
        )


class TokenView(BaseModel):
    id: int
    name: str
    user: str
    until: datetime


class AlertView(BaseModel):
    """Something that somebody must look at."""

    id: int
    kind: str
    subject: str
    message: str
    raised_at: datetime
    told_at: datetime | None = Field(description="When everybody had been told last.")
    trouble: str | None = Field(description="Why somebody could not be told.")
    cleared_at: datetime | None

    @classmethod
    def of(cls, row: Alert) -> AlertView:
        return cls.model_validate(row, from_attributes=True)


class DashboardView(BaseModel):
    jobs: dict[JobState, int]
    oldest_waiting: WaitingView | None
    failures: list[FailuresView] = Field(description="By reason, most first.")
    deliveries: list[TrafficView]
    roles: list[RoleState]
    disk: DiskView | None = Field(description="Null where the store does not answer.")
    forecast: ForecastView
    certificates: list[CertificateView] = Field(description="Those that end soon, or are wrong.")
    tokens: list[TokenView] = Field(description="Those that end soon.")
    alerts: list[AlertView] = Field(description="Those that stand.")
    pauses: list[PauseView]
    made_at: datetime


class PartView(BaseModel):
    """What happened in one part of the span."""

    at: datetime
    received: int
    done: int
    failed: int
    skipped: int
    wait_mean: float | None = Field(description="Seconds from arrival until a worker began.")
    wait_longest: float | None
    busy: float | None = Field(description="The part of the time that workers worked.")


class HistoryView(BaseModel):
    span: SpanName
    part_seconds: float
    parts: list[PartView] = Field(description="Oldest first; the last one is not over.")
