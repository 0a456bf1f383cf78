"""Figures over time: free disk, memory and load of the roles, jobs counted by the minute.

A figure is kept as it was written for a day, then by the hour for as long as anybody looks back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Row, delete, func, select
from sqlalchemy.orm import Session

from db.desk import Measurement
from db.engine import Database
from db.types import utcnow

Merge = Callable[[list[float]], float]
"""How several values become one."""


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


MERGES: dict[str, Merge] = {
    "disk-free": mean,
    "memory": mean,
    "processor": mean,
    "busy": mean,
    "device-memory": mean,
    "device-use": mean,
    "jobs-received": sum,
    "jobs-done": sum,
    "jobs-failed": sum,
    "jobs-skipped": sum,
    "wait-count": sum,
    "wait-seconds": sum,
    "wait-longest": max,
}
"""Every figure that is kept, and how its values of an hour become one: amounts are averaged, counts added."""

KEEP_FINE = timedelta(days=1)
KEEP = timedelta(days=90)


def record(
    session: Session, values: Mapping[str, float], subject: str = "", at: datetime | None = None
) -> None:
    """Write down what was measured. Raises KeyError for a name that is not in :data:`MERGES`."""
    moment = at or utcnow()
    for name, value in values.items():
        MERGES[name]
        session.add(Measurement(name=name, subject=subject[:128], at=moment, value=float(value)))


def points(
    session: Session, name: str, since: datetime, subject: str | None = None
) -> list[tuple[datetime, float]]:
    """When and what, oldest first; of one subject, or of all."""
    query = select(Measurement.at, Measurement.value).where(Measurement.name == name, Measurement.at >= since)
    if subject is not None:
        query = query.where(Measurement.subject == subject)
    return [(row.at, row.value) for row in session.execute(query.order_by(Measurement.at))]


def buckets(
    found: Iterable[tuple[datetime, float]], since: datetime, width: timedelta, count: int, merge: Merge
) -> list[float | None]:
    """The points merged into `count` equal parts of time from `since` on; None where there are none."""
    parts: dict[int, list[float]] = defaultdict(list)
    for at, value in found:
        number = (at - since) // width
        if 0 <= number < count:
            parts[number].append(value)
    return [merge(parts[number]) if number in parts else None for number in range(count)]


def mark(session: Session, name: str) -> datetime | None:
    """Up to when something was done that goes on: a row of that name, moved by :func:`set_mark`."""
    return session.scalar(
        select(Measurement.at).where(Measurement.name == name, Measurement.subject == _MARK)
    )


def set_mark(session: Session, name: str, at: datetime) -> None:
    """Note that it was done up to `at`."""
    session.execute(delete(Measurement).where(Measurement.name == name, Measurement.subject == _MARK))
    session.add(Measurement(name=name, subject=_MARK, at=at, value=0.0))


_MARK = "mark"
_THINNED = "thinned"


def thin(database: Database, now: datetime | None = None) -> int:
    """Merge what is older than a day by the hour and drop what is older than three months.

    Returns how many rows went. What is written into an hour after it was merged stays beside it.
    """
    now = now or utcnow()
    edge = (now - KEEP_FINE).replace(minute=0, second=0, microsecond=0)
    with database.write() as session:
        gone = len(_taken(session, now - KEEP * 2, now - KEEP))
    with database.read() as session:
        oldest = session.scalar(select(func.min(Measurement.at)).where(Measurement.name.in_(MERGES)))
        begin = mark(session, _THINNED) or oldest
    if begin is None:
        return gone
    hour = begin.replace(minute=0, second=0, microsecond=0)
    while hour < edge:
        with database.write() as session:
            gone += _merge(session, hour, hour + timedelta(hours=1))
            hour += timedelta(hours=1)
            set_mark(session, _THINNED, hour)
    return gone


def _merge(session: Session, hour: datetime, end: datetime) -> int:
    """Put one row a figure and subject in the place of all of an hour; returns how many rows are less."""
    rows = _taken(session, hour, end)
    parts: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        parts[row.name, row.subject].append(row.value)
    for (name, subject), values in parts.items():
        session.add(Measurement(name=name, subject=subject, at=hour, value=MERGES[name](values)))
    return len(rows) - len(parts)


def _taken(session: Session, since: datetime, until: datetime) -> Sequence[Row[str, str, float]]:
    """Rows of figures of that time, removed."""
    going = Measurement.name.in_(MERGES) & (Measurement.at >= since) & (Measurement.at < until)
    return session.execute(
        delete(Measurement).where(going).returning(Measurement.name, Measurement.subject, Measurement.value),
        execution_options={"synchronize_session": False},
    ).all()
