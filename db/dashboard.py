"""How the node stands: what an administrator looks at first, each answer cheap at 100,000 jobs.

Counts read indexes alone; what cannot be counted so is bounded: the oldest few, the newest one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db import measurements, tallies
from db.models import ApiToken, Delivery, Job, JobEvent, PeerStatus, Source, User
from db.states import DELIVERY_ARRIVED, DeliveryState, JobState, Priority
from db.types import utcnow

_CANDIDATES = 50
"""Waiting jobs of each priority whose time is looked up: those that were retried stand before older ones."""
MANY = 1000
"""More than so many are not counted."""
EXPIRED_SHOWN = timedelta(days=7)
"""How long a token that has ended is still told of."""


@dataclass(frozen=True)
class Waiting:
    """A queued job and since when it waits."""

    job_id: int
    since: datetime
    priority: Priority


@dataclass(frozen=True)
class Failures:
    """Failed jobs with one reason code, and the newest of them."""

    code: str
    count: int
    newest_job: int
    sentence: str
    at: datetime | None


@dataclass
class Traffic:
    """What goes to one destination."""

    destination: str
    waiting: int = 0
    """Not those of results that are held for review."""
    sending: int = 0
    failed: int = 0
    """Expired ones included."""
    oldest_at: datetime | None = None
    last_success_at: datetime | None = None
    peer: PeerStatus | None = None


@dataclass(frozen=True)
class ExpiringToken:
    id: int
    name: str
    user: str
    until: datetime


@dataclass(frozen=True)
class Span:
    """A time that a chart shows, in equal parts."""

    name: str
    part: timedelta
    parts: int

    def begin(self, now: datetime) -> datetime:
        """Start of the first part; the last one holds `now`."""
        seconds = int(self.part.total_seconds())
        end = (int(now.timestamp()) // seconds + 1) * seconds
        return datetime.fromtimestamp(end - seconds * self.parts, now.tzinfo)


SPANS = {
    span.name: span
    for span in (
        Span("hour", timedelta(minutes=1), 60),
        Span("day", timedelta(minutes=30), 48),
        Span("week", timedelta(hours=3), 56),
    )
}


@dataclass(frozen=True)
class Part:
    """What happened in one part of a span."""

    at: datetime
    received: int
    done: int
    failed: int
    skipped: int
    wait_mean: float | None
    """Seconds from arrival until a worker began; None where no worker did."""
    wait_longest: float | None
    busy: float | None
    """Part of the time that the workers worked, 0 to 1; None where none told."""


@dataclass(frozen=True)
class History:
    span: Span
    parts: list[Part] = field(default_factory=list)


def oldest_waiting(session: Session, priorities: Iterable[Priority] = tuple(Priority)) -> Waiting | None:
    """The job that has waited longest for a worker, retries counted from when they were asked for."""
    found: list[Waiting] = []
    for priority in priorities:
        first = (
            select(Job.id)
            .where(Job.state == JobState.QUEUED, Job.priority == int(priority))
            .order_by(Job.id)
            .limit(_CANDIDATES)
        )
        ids = session.scalars(first).all()
        queued = (
            select(JobEvent.job_id, func.max(JobEvent.at))
            .where(
                JobEvent.job_id.in_(ids),
                JobEvent.kind == "state",
                JobEvent.after == JobState.QUEUED.value,
            )
            .group_by(JobEvent.job_id)
        )
        found += [Waiting(job_id, since, priority) for job_id, since in session.execute(queued)]
    return min(found, key=lambda waiting: waiting.since, default=None)


def failures(session: Session, limit: int = 12) -> list[Failures]:
    """Failed jobs by reason code, most first."""
    number = func.count().label("number")
    groups = session.execute(
        select(Job.reason_code, number, func.max(Job.id))
        .where(Job.state == JobState.FAILED)
        .group_by(Job.reason_code)
        .order_by(number.desc())
        .limit(limit)
    ).all()
    newest = {
        row.id: row
        for row in session.execute(
            select(Job.id, Job.reason, Job.finished_at).where(Job.id.in_([row[2] for row in groups]))
        )
    }
    return [
        Failures(code or "", count, job_id, newest[job_id].reason or "", newest[job_id].finished_at)
        for code, count, job_id in groups
    ]


def failed_jobs(session: Session, code: str, *, after: int = 0, limit: int = 200) -> list[int]:
    """Ids of failed jobs with that reason code, from the id after `after` on."""
    same = Job.reason_code == code if code else Job.reason_code.is_(None)
    query = select(Job.id).where(Job.state == JobState.FAILED, same, Job.id > after)
    return list(session.scalars(query.order_by(Job.id).limit(limit)))


def traffic(session: Session, destinations: Sequence[str]) -> list[Traffic]:
    """Deliveries by destination: those that are configured, then others that still have open ones."""
    by_name = {name: Traffic(name) for name in destinations}
    lost = (DeliveryState.FAILED, DeliveryState.EXPIRED)
    counted = session.execute(
        select(Delivery.destination_name, Delivery.state, Delivery.priority, func.count())
        .where(Delivery.state.in_([DeliveryState.WAITING, DeliveryState.SENDING, *lost]))
        .group_by(Delivery.state, Delivery.destination_name, Delivery.priority)
    )
    waiting: dict[str, list[int]] = defaultdict(list)
    for name, state, priority, number in counted:
        row = by_name.setdefault(name, Traffic(name))
        if state == DeliveryState.WAITING:
            row.waiting += number
            waiting[name].append(priority)
        elif state == DeliveryState.SENDING:
            row.sending += number
        else:
            row.failed += number
    for name, number in _held(session):
        by_name[name].waiting -= number
    for name, row in by_name.items():
        row.oldest_at = min(
            filter(None, (_oldest(session, name, priority) for priority in waiting[name])), default=None
        )
        row.last_success_at = _last_success(session, name)
        row.peer = session.get(PeerStatus, name)
    return list(by_name.values())


def _held(session: Session) -> list[tuple[str, int]]:
    """Deliveries that wait for a person, by destination."""
    query = (
        select(Delivery.destination_name, func.count())
        .join(Job, Job.id == Delivery.job_id)
        .where(Job.state == JobState.HELD, Delivery.state == DeliveryState.WAITING)
        .group_by(Delivery.destination_name)
    )
    return [(name, number) for name, number in session.execute(query)]


def _oldest(session: Session, name: str, priority: int) -> datetime | None:
    """When the oldest delivery of a priority began to wait, one that may go."""
    query = (
        select(Delivery.created_at, Job.released_at)
        .join(Job, Job.id == Delivery.job_id)
        .where(
            Delivery.state == DeliveryState.WAITING,
            Delivery.destination_name == name,
            Delivery.priority == priority,
            Job.state != JobState.HELD,
        )
        .order_by(Delivery.id)
        .limit(1)
    )
    row = session.execute(query).first()
    return None if row is None else max(row.created_at, row.released_at or row.created_at)


def _last_success(session: Session, name: str) -> datetime | None:
    """When the newest delivery that arrived did so."""
    newest = [
        select(func.max(Delivery.id))
        .where(
            Delivery.state == state,
            Delivery.destination_name == name,
            Delivery.priority == int(priority),
        )
        .scalar_subquery()
        for state in DELIVERY_ARRIVED
        for priority in Priority
    ]
    ids = [number for number in session.execute(select(*newest)).one() if number is not None]
    return session.scalar(select(func.max(Delivery.stored_at)).where(Delivery.id.in_(ids))) if ids else None


def unexamined(session: Session) -> int:
    """Queued and running jobs whose image nobody has looked into yet, :data:`MANY` at most: whose image it
    is, is not known."""
    some = (
        select(Job.id)
        .join(Source, Source.id == Job.source_id)
        .where(Job.state.in_([JobState.QUEUED, JobState.RUNNING]), Source.examined_at.is_(None))
        .limit(MANY)
    )
    return session.scalar(select(func.count()).select_from(some.subquery())) or 0


def before_in_queue(session: Session, job: Job) -> int:
    """Queued jobs that a worker takes before this one."""
    ahead = (Job.priority < job.priority) | ((Job.priority == job.priority) & (Job.id < job.id))
    query = select(func.count()).select_from(Job).where(Job.state == JobState.QUEUED, ahead)
    return session.scalar(query) or 0


def expiring_tokens(session: Session, days: float, now: datetime | None = None) -> list[ExpiringToken]:
    """API tokens that end within `days`, or ended lately, the first to end first."""
    now = now or utcnow()
    query = (
        select(ApiToken.id, ApiToken.name, User.name, ApiToken.expires_at)
        .join(User, User.id == ApiToken.user_id)
        .where(
            ApiToken.revoked_at.is_(None),
            User.disabled_at.is_(None),
            ApiToken.expires_at > now - EXPIRED_SHOWN,
            ApiToken.expires_at <= now + timedelta(days=days),
        )
        .order_by(ApiToken.expires_at)
    )
    rows = session.execute(query)
    return [ExpiringToken(number, name, user, until) for number, name, user, until in rows if until]


def history(session: Session, span: Span, now: datetime | None = None) -> History:
    """What happened in a span that ends now."""
    now = now or utcnow()
    begin = span.begin(now)
    tally = tallies.read(session, begin, now)
    busy = measurements.points(session, "busy", begin)
    parts = measurements.buckets(busy, begin, span.part, span.parts, measurements.mean)
    figures: list[dict[str, float]] = [defaultdict(float) for _ in range(span.parts)]
    for minute, counted in tally.items():
        number = (minute - begin) // span.part
        if 0 <= number < span.parts:
            for name, value in counted.items():
                merge = max if name == "wait-longest" else float.__add__
                figures[number][name] = merge(float(figures[number][name]), float(value))
    return History(
        span,
        [
            _part(begin + number * span.part, found, part)
            for number, (found, part) in enumerate(zip(figures, parts, strict=True))
        ],
    )


def _part(at: datetime, found: dict[str, float], busy: float | None) -> Part:
    waited = found["wait-count"]
    return Part(
        at=at,
        received=round(found["jobs-received"]),
        done=round(found["jobs-done"]),
        failed=round(found["jobs-failed"]),
        skipped=round(found["jobs-skipped"]),
        wait_mean=found["wait-seconds"] / waited if waited else None,
        wait_longest=found["wait-longest"] if waited else None,
        busy=busy,
    )
