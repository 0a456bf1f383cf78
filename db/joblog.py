"""The lines of a role's log that concern a job, kept where an administrator reads them without a shell.

Whoever logs only puts a line into a bounded list in memory; a thread of its own writes what has come, in
batches. A database that is slow or gone costs lines, which are counted, and never the work that they tell of.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from math import isfinite
from types import TracebackType
from typing import Any

import structlog
from sqlalchemy import insert, select
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from db.desk import LogLine
from db.engine import Database
from db.models import Job
from db.types import utcnow

log = structlog.get_logger(__name__)

MAX_WAITING = 2000
"""Lines in memory at most; the oldest give way."""
AT_ONCE = 200
EVERY_SECONDS = 1.0
LONGEST_TEXT = 500
MAX_FIELDS = 20

_OWN_COLUMN = frozenset({"job", "event", "level", "role", "timestamp"})


class JobLog:
    """Takes lines from any thread, keeps those with a number under `job`. Use as a context manager; at its
    end it writes what still waits."""

    def __init__(self, database: Database, role: str, *, every: float = EVERY_SECONDS) -> None:
        self.database, self.role, self.every = database, role, every
        self.dropped = 0
        """Lines lost because too many came, or because the database did not take them."""
        self._told = 0
        self._failing = False
        self._lines: deque[dict[str, Any]] = deque()
        self._lock = threading.Lock()
        self._some = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write_all, name="job-log", daemon=True)

    def __enter__(self) -> JobLog:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._some.set()
        self._thread.join(timeout=10)

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take a line, if it concerns a job. Never waits for anything and never raises."""
        job = event.get("job")
        if not isinstance(job, int) or isinstance(job, bool):
            return
        line = {
            "job_id": job,
            "at": _time(event.get("timestamp")),
            "role": str(event.get("role") or self.role)[:16],
            "level": str(event.get("level") or "info")[:16],
            "event": str(event.get("event") or ""),
            "fields": _fields(event),
        }
        with self._lock:
            if len(self._lines) >= MAX_WAITING:
                self._lines.popleft()
                self.dropped += 1
            self._lines.append(line)
        self._some.set()

    def _write_all(self) -> None:
        while not self._stop.is_set():
            self._some.wait()
            self._stop.wait(self.every)  # more will come: one transaction for all of them
            self._some.clear()
            if not self._flush():
                self._some.set()  # what waits is tried again
        self._flush()

    def _flush(self) -> bool:
        """Write what waits; whether that went well."""
        while True:
            with self._lock:
                batch = [self._lines.popleft() for _ in range(min(AT_ONCE, len(self._lines)))]
            if not batch:
                break
            try:
                with self.database.write() as session:
                    _add(session, batch)
            except (DataError, IntegrityError) as error:  # it would never go better
                self.dropped += len(batch)
                log.warning("job log refused", error=type(error).__name__)
            except SQLAlchemyError as error:
                self._put_back(batch)
                if not self._failing:
                    log.warning("job log waits for the database", error=type(error).__name__)
                self._failing = True
                return False
        self._failing = False
        if self.dropped > self._told:
            log.warning("job log lost lines", lines=self.dropped - self._told)
            self._told = self.dropped
        return True

    def _put_back(self, batch: list[dict[str, Any]]) -> None:
        with self._lock:
            room = max(0, MAX_WAITING - len(self._lines))
            self.dropped += max(0, len(batch) - room)
            self._lines.extendleft(reversed(batch[-room:] if room else []))


def lines(
    session: Session, job_id: int, *, limit: int = 1000, before: int | None = None
) -> tuple[list[LogLine], int | None]:
    """The newest lines of a job, oldest first, and the id to go on before; None where there are no older."""
    query = select(LogLine).where(LogLine.job_id == job_id).order_by(LogLine.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(LogLine.id < before)
    rows = list(session.scalars(query))
    return rows[:limit][::-1], rows[limit - 1].id if len(rows) > limit else None


def _add(session: Session, batch: list[dict[str, Any]]) -> None:
    """Insert lines; those of jobs that are not there (any more) are left out."""
    wanted = {line["job_id"] for line in batch if 0 < line["job_id"] < 1 << 63}
    known = set(session.scalars(select(Job.id).where(Job.id.in_(wanted))))
    rows = [line for line in batch if line["job_id"] in known]
    if rows:
        session.execute(insert(LogLine), rows)


def _fields(event: Mapping[str, Any]) -> dict[str, Any]:
    """What else stands in a line, short."""
    found: dict[str, Any] = {}
    for key, value in event.items():
        if key in _OWN_COLUMN or key.startswith("_") or len(found) >= MAX_FIELDS:
            continue
        plain = (
            value is None or isinstance(value, bool | int) or (isinstance(value, float) and isfinite(value))
        )
        found[str(key)[:64]] = value if plain else _short(value)
    return found


def _short(value: Any) -> str:
    if isinstance(value, str):
        return value[:LONGEST_TEXT]
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return ", ".join(str(item) for item in value)[:LONGEST_TEXT]
    return str(value)[:LONGEST_TEXT]


def _time(text: Any) -> datetime:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return utcnow()
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
