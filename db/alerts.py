"""What somebody must look at: found by looking at the state, raised once, cleared when it is over.

`look` says what is wrong now; `update` keeps the table of alerts in step with it. Who is told and how is the
affair of `cxr_sr.alerting`. No sentence names a patient, unless `alerts.names` asks for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from config import Settings
from db import adrift, dashboard, measurements, pauses, presence, verification
from db.desk import Alert
from db.forecast import WINDOW, Forecast, forecast
from db.models import Job, JobEvent, PeerStatus, RoleInstance, Series, Source, Study
from db.objects import Room
from db.states import JobState, Priority
from db.types import utcnow

ROLE_GRACE = timedelta(seconds=60)
"""Time that a role may be away: a restart is no alert."""
ROLE_KNOWN = timedelta(days=30)
"""A role that has not run for so long does not belong to this node."""
FAILED_WITHIN = timedelta(hours=1)
NAMED = 5
"""Failed jobs that an alert names at most."""
STORE = "store"

Key = tuple[str, str]
"""Kind and subject: what an alert is about."""


@dataclass(frozen=True)
class Condition:
    """Something that is wrong now."""

    kind: str
    subject: str
    message: str

    @property
    def key(self) -> Key:
        return self.kind, self.subject


@dataclass(frozen=True)
class Changes:
    """What is to be told: rows of alerts, each with its sentence."""

    raised: list[Alert] = field(default_factory=list)
    standing: list[Alert] = field(default_factory=list)
    """Told long ago, or never, and still there."""
    cleared: list[Alert] = field(default_factory=list)


def look(
    session: Session, settings: Settings, room: Room | None, now: datetime | None = None
) -> list[Condition]:
    """Everything that is wrong now; `room`: of the object store, None where it does not answer."""
    now = now or utcnow()
    alive = presence.alive(session)
    return [
        *_missing_roles(session, alive, now),
        *_problems(alive),
        *_waiting(session, settings, now),
        *_failures(session, settings, now),
        *_unreachable(session, settings, now),
        *_disk(session, settings, room, now),
        *_certificates(alive, settings, now),
        *_tokens(session, settings, now),
        *_pauses(session, settings, now),
        *_trail(session),
        *_restored(session),
    ]


def open_alerts(session: Session) -> list[Alert]:
    """Those that stand, oldest first."""
    return list(session.scalars(select(Alert).where(Alert.cleared_at.is_(None)).order_by(Alert.id)))


def past(session: Session, *, before: int | None = None, limit: int = 50) -> list[Alert]:
    """All alerts, newest first, with an id below `before`."""
    query = select(Alert).order_by(Alert.id.desc()).limit(limit)
    return list(session.scalars(query if before is None else query.where(Alert.id < before)))


def update(
    session: Session,
    found: Iterable[Condition],
    *,
    repeat: timedelta,
    gone: Iterable[Key] | None = None,
    now: datetime | None = None,
) -> Changes:
    """Raise what is new, renew the sentences of what stands, clear what is over.

    gone: the only keys that may be cleared, where the caller waits to be sure; None: whatever is not found.
    """
    now = now or utcnow()
    here = {condition.key: condition for condition in found}
    clearable = None if gone is None else set(gone)
    changes = Changes()
    for alert in open_alerts(session):
        key = (alert.kind, alert.subject)
        condition = here.pop(key, None)
        if condition is not None:
            alert.message = condition.message
            if alert.told_at is None or alert.told_at <= now - repeat:
                changes.standing.append(alert)
        elif clearable is None or key in clearable:
            alert.cleared_at = now
            changes.cleared.append(alert)
    for condition in here.values():
        kind, subject, message = condition.kind, condition.subject[:128], condition.message
        alert = Alert(kind=kind, subject=subject, message=message, raised_at=now)
        session.add(alert)
        changes.raised.append(alert)
    session.flush()
    return changes


def told(
    session: Session, alert_ids: Sequence[int], trouble: str | None, now: datetime | None = None
) -> None:
    """Note that everybody has been told of these, or why somebody could not be."""
    for alert in session.scalars(select(Alert).where(Alert.id.in_(alert_ids))):
        alert.trouble = trouble[:256] if trouble else None
        if trouble is None:
            alert.told_at = now or utcnow()


def purge(session: Session, before: datetime) -> int:
    """Remove alerts that were over before that time; returns how many."""
    gone = delete(Alert).where(Alert.cleared_at < before).returning(Alert.id)
    return len(session.execute(gone, execution_options={"synchronize_session": False}).all())


def disk_forecast(session: Session, reserve_bytes: int, now: datetime) -> Forecast:
    """When the object store is full, by the figures of the last week."""
    points = measurements.points(session, "disk-free", now - WINDOW, STORE)
    return forecast(points, reserve_bytes)


def _missing_roles(session: Session, alive: Sequence[RoleInstance], now: datetime) -> Iterator[Condition]:
    living = {row.role for row in alive}
    query = select(RoleInstance.role, func.max(RoleInstance.beat_at)).group_by(RoleInstance.role)
    for role, last in session.execute(query.order_by(RoleInstance.role)):
        if role not in living and now - ROLE_KNOWN < last < now - ROLE_GRACE:
            yield Condition("role-missing", role, f"No {role} has been running since {_time(last)}.")


def _problems(alive: Sequence[RoleInstance]) -> Iterator[Condition]:
    for role in sorted({row.role for row in alive}):
        rows = [row for row in alive if row.role == role]
        if all(row.info.get("problem") for row in rows):
            said = str(rows[0].info["problem"]).rstrip(".")
            what = "No worker can enhance" if role == "worker" else f"The {role} has a problem"
            yield Condition("problem", role, f"{what}: {said}.")


def _waiting(session: Session, settings: Settings, now: datetime) -> Iterator[Condition]:
    oldest = dashboard.oldest_waiting(session, (Priority.STAT, Priority.ROUTINE))
    if oldest is not None and now - oldest.since > timedelta(minutes=settings.alerts.waiting_minutes):
        age = _long(now - oldest.since)
        yield Condition("waiting", "", f"Job {oldest.job_id} has waited for a worker for {age}.")


def _failures(session: Session, settings: Settings, now: datetime) -> Iterator[Condition]:
    query = (
        select(JobEvent.job_id)
        .where(
            JobEvent.at >= now - FAILED_WITHIN,
            JobEvent.kind == "state",
            JobEvent.after == JobState.FAILED.value,
        )
        .order_by(JobEvent.id.desc())
    )
    failed = list(dict.fromkeys(session.scalars(query)))
    if len(failed) < settings.alerts.failed_jobs:
        return
    codes = select(Job.reason_code, func.count()).where(Job.id.in_(failed[:500])).group_by(Job.reason_code)
    reasons = sorted(session.execute(codes), key=lambda row: -row[1])
    why = ", ".join(f"{code or 'no reason'} ({number})" for code, number in reasons[:3])
    message = f"{len(failed)} jobs failed within an hour: {why}."
    if settings.alerts.names:
        message += f" {_named(session, failed[:NAMED])}"
    yield Condition("failures", "", message)


def _named(session: Session, jobs: Sequence[int]) -> str:
    """Whose images those jobs are about; asked for by `alerts.names` alone."""
    rows = select(Job).where(Job.id.in_(jobs)).order_by(Job.id.desc())
    said = []
    for job in session.scalars(rows):
        series: Series | None = session.get_one(Source, job.source_id).series
        study: Study | None = series.study if series else None
        if study is None:
            said.append(f"job {job.id}")
        else:
            name = study.patient.name.replace("^", " ").strip() or study.patient.patient_id
            accession = f", accession {study.accession_number}" if study.accession_number else ""
            said.append(f"job {job.id}: {name}{accession}")
    return "; ".join(said) + "."


def _unreachable(session: Session, settings: Settings, now: datetime) -> Iterator[Condition]:
    patience = timedelta(minutes=settings.alerts.unreachable_minutes)
    for destination in settings.destinations:
        peer = session.get(PeerStatus, destination.name)
        since = None if peer is None or peer.reachable else peer.changed_at or peer.checked_at
        if peer is not None and since is not None and now - since > patience:
            said = f": {peer.message.rstrip('.')}" if peer.message else ""
            message = f"Destination {destination.name} has not answered since {_time(since)}{said}."
            yield Condition("unreachable", destination.name, message)


def _disk(session: Session, settings: Settings, room: Room | None, now: datetime) -> Iterator[Condition]:
    if room is None:
        yield Condition("disk", STORE, "The object store does not answer.")
        return
    if room.free_bytes is None:
        return
    free = f"{room.free_bytes / 1e9:.1f} GB free"
    if not room.accepts:
        yield Condition("disk", STORE, f"The object store is full, {free}: new images are refused.")
    elif not room.has(2.0):
        yield Condition("disk", STORE, f"The object store is almost full: {free}.")
    else:
        days = disk_forecast(session, room.reserve_bytes, now).days
        if days is not None and days < settings.alerts.disk_days:
            message = f"The object store is full in about {_days(days)} at the rate of the last week: {free}."
            yield Condition("disk", STORE, message)


def _certificates(alive: Sequence[RoleInstance], settings: Settings, now: datetime) -> Iterator[Condition]:
    told_of = (row.info["certificates"] for row in alive if row.info.get("certificates"))
    shown: list[dict[str, str | None]] = next(told_of, [])
    for one in shown:
        keys, until = str(one["keys"]), one.get("until")
        if until is None:
            trouble = one.get("trouble") or "is wrong"
            yield Condition("certificate", keys, f"The certificate {keys} {trouble}.")
            continue
        end = datetime.fromisoformat(until)
        if end - now <= timedelta(days=settings.alerts.expiry_days):
            yield Condition("certificate", keys, f"The certificate {keys} {_ends(end, now)}.")


def _tokens(session: Session, settings: Settings, now: datetime) -> Iterator[Condition]:
    for token in dashboard.expiring_tokens(session, settings.alerts.expiry_days, now):
        message = f"The API token {token.name} of {token.user} {_ends(token.until, now)}."
        yield Condition("token", str(token.id), message)


def _trail(session: Session) -> Iterator[Condition]:
    verified = verification.last(session)
    if verified is not None and verified.outcome != "success":
        message = "The audit trail is not what was written: `cxr-sr audit verify` names the rows."
        yield Condition("audit", "", message)


def _restored(session: Session) -> Iterator[Condition]:
    if adrift.restored(session) is not None:
        message = "A copy of the database was put back: cxr-sr db adopt takes in what came after it."
        yield Condition("restored", "", message)


def _pauses(session: Session, settings: Settings, now: datetime) -> Iterator[Condition]:
    for pause in pauses.all_pauses(session):
        if now - pause.at > timedelta(hours=settings.alerts.paused_hours):
            message = f"{pauses.said(pause.what)} has been paused by {pause.actor} since {_time(pause.at)}."
            yield Condition("paused", pause.what, message)


def _ends(end: datetime, now: datetime) -> str:
    day = f"{end:%Y-%m-%d}"
    return f"has expired on {day}" if end <= now else f"expires on {day}, in {_days((end - now).days)}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _long(age: timedelta) -> str:
    minutes = age.total_seconds() / 60
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.0f} hours"


def _days(days: float) -> str:
    whole = round(days)
    return "less than a day" if days < 1 else f"{whole} {'day' if whole == 1 else 'days'}"
