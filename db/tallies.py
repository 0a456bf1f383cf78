"""Jobs counted by the minute from what happened to them: a chart of a week reads no week of events."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from db import measurements
from db.desk import Measurement
from db.engine import Database
from db.models import Job, JobEvent
from db.states import JobState
from db.types import utcnow

MINUTE = timedelta(minutes=1)
LATE = timedelta(minutes=2)
"""A transaction may commit an event some time after its hour: the last minutes are counted once more."""
BACK = timedelta(days=7)
"""How far back a node counts that never counted before."""
STEP = timedelta(hours=1)
"""Time that is counted in one transaction."""

_TALLIED = "tallied"
_ENDS = {
    JobState.DONE.value: "jobs-done",
    JobState.FAILED.value: "jobs-failed",
    JobState.SKIPPED.value: "jobs-skipped",
}
_NAMES = (*_ENDS.values(), "jobs-received", "wait-count", "wait-seconds", "wait-longest")

Tally = dict[datetime, dict[str, float]]
"""Figures by the minute in which they were."""


def count(session: Session, since: datetime, until: datetime) -> Tally:
    """What happened from `since` until before `until`; minutes without anything are missing.

    A wait is the time from a job's arrival to the first time that a worker took it: a retry is no arrival.
    """
    query = (
        select(JobEvent.at, JobEvent.before, JobEvent.after, Job.created_at, Job.started_at)
        .join(Job, Job.id == JobEvent.job_id)
        .where(
            JobEvent.at >= since,
            JobEvent.at < until,
            JobEvent.kind == "state",
            JobEvent.after.in_([JobState.QUEUED.value, JobState.RUNNING.value, *_ENDS]),
        )
    )
    found: Tally = defaultdict(lambda: defaultdict(float))
    for at, before, after, created, started in session.execute(query):
        figures = found[at.replace(second=0, microsecond=0)]
        if after in _ENDS:
            figures[_ENDS[after]] += 1
        elif after == JobState.QUEUED:
            figures["jobs-received"] += before is None
        elif started is not None and abs(at - started) < timedelta(seconds=1):
            wait = max(0.0, (started - created).total_seconds())
            figures["wait-count"] += 1
            figures["wait-seconds"] += wait
            figures["wait-longest"] = max(figures["wait-longest"], wait)
    return found


def keep(database: Database, now: datetime | None = None) -> None:
    """Count up to the last full minute and write it down; safe to repeat, and to begin late."""
    end = (now or utcnow()).replace(second=0, microsecond=0)
    with database.read() as session:
        done = measurements.mark(session, _TALLIED)
        first = session.scalar(select(func.min(JobEvent.at)).where(JobEvent.at >= end - BACK))
    began = done - LATE if done else (first or end).replace(second=0, microsecond=0)
    since = max(began, end - BACK)
    while since < end:
        until = min(since + STEP, end)
        with database.read() as session:
            found = count(session, since, until)
        with database.write() as session:
            session.execute(delete(Measurement).where(_counted(since, until)))
            for minute, figures in found.items():
                measurements.record(session, {name: v for name, v in figures.items() if v}, at=minute)
            measurements.set_mark(session, _TALLIED, until)
        since = until


def read(session: Session, since: datetime, now: datetime) -> Tally:
    """Figures from `since` to `now`: those that were written down, and what has happened since, of an hour at
    most."""
    done = measurements.mark(session, _TALLIED) or since
    tail = max(min(done, now), now - STEP, since)
    found: Tally = defaultdict(lambda: defaultdict(float))
    query = select(Measurement.name, Measurement.at, Measurement.value).where(_counted(since, tail))
    for name, at, value in session.execute(query):
        found[at][name] += value
    for minute, figures in count(session, tail, now).items():
        found[minute].update(figures)
    return found


def _counted(since: datetime, until: datetime) -> ColumnElement[bool]:
    inside = (Measurement.at >= since) & (Measurement.at < until)
    return Measurement.name.in_(_NAMES) & (Measurement.subject == "") & inside
