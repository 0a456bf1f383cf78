"""What happened since: job events in order, for whoever shows them live.

PostgreSQL hands out ids before transactions commit, so a smaller id may become visible after a larger one. The
feed waits for the missing ids below what it sees, until they appear or their transaction cannot exist any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from db.engine import Database
from db.models import JobEvent

_WINDOW = 1000
"""Ids before the start that are watched for late arrivals."""
_PAGE = 1000
"""Events handed out at once."""
_MOST_GAPS = 10_000


@dataclass
class _Gap:
    """An id that is missing below one that is there."""

    since: float
    """Monotonic time when it was noticed."""
    horizon: int
    """First transaction number that was not yet given when it was noticed."""


class Feed:
    """Events for one reader of a process; not safe to share between threads.

    An event waits for those with smaller ids for at most `patience` seconds; one that is later still is handed
    out when it comes, out of order. None is skipped and none comes twice.
    """

    def __init__(
        self, database: Database, *, patience: float = 5.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.database, self.patience, self._clock = database, patience, clock
        self._position: int | None = None
        """Everything up to here was handed out or is in `_gaps`."""
        self._gaps: dict[int, _Gap] = {}

    @property
    def position(self) -> int | None:
        """The largest id handed out; None before the first call."""
        return self._position

    def after(self, cursor: int | None) -> list[JobEvent]:
        """New events by id, at most 1000 of them.

        With None, or the position reached, what is new since the last call (the first call with None only marks
        the present). With an earlier id, once more what was handed out after it: for one who reconnects; ask
        again with the last id received until nothing comes.
        """
        with self.database.read() as session:
            if self._position is None:
                self._begin(session, cursor)
            assert self._position is not None
            if cursor is not None and cursor < self._position:
                return self._replay(session, cursor)
            return self._advance(session)

    def _begin(self, session: Session, cursor: int | None) -> None:
        newest = session.scalar(select(func.max(JobEvent.id))) or 0
        self._position = newest if cursor is None else min(cursor, newest)
        if not self.database.sqlite:
            start = max(0, self._position - _WINDOW)
            inside = JobEvent.id.between(start + 1, self._position)
            there = set(session.scalars(select(JobEvent.id).where(inside)))
            self._note(session, set(range(start + 1, self._position + 1)) - there)

    def _replay(self, session: Session, cursor: int) -> list[JobEvent]:
        query = select(JobEvent).where(JobEvent.id > cursor, JobEvent.id <= self._position)
        return [event for event in self._page(session, query) if event.id not in self._gaps]

    def _advance(self, session: Session) -> list[JobEvent]:
        late: list[JobEvent] = []
        if self._gaps:
            horizon = _finished_below(session)
            late = list(session.scalars(select(JobEvent).where(JobEvent.id.in_(self._gaps)).order_by(JobEvent.id)))
            for event in late:
                del self._gaps[event.id]
            self._forget(horizon)
        new = self._page(session, select(JobEvent).where(JobEvent.id > self._position))
        if self.database.sqlite:  # one writer: ids become visible in their order
            if new:
                self._position = new[-1].id
            return new
        return self._in_order(session, late, new)

    def _in_order(self, session: Session, late: list[JobEvent], new: list[JobEvent]) -> list[JobEvent]:
        assert self._position is not None
        if new:
            missing = set(range(self._position + 1, new[-1].id)) - {event.id for event in new} - self._gaps.keys()
            self._note(session, missing - self._dead)
        ready = list(late)
        now = self._clock()
        waited_for = {number for number, gap in self._gaps.items() if now - gap.since < self.patience}
        stop = min((number for number in waited_for if number > self._position), default=None)
        for event in new:
            if stop is not None and event.id > stop:
                break
            ready.append(event)
            self._position = event.id
        return ready

    def _page(self, session: Session, query: object) -> list[JobEvent]:
        return list(session.scalars(query.order_by(JobEvent.id).limit(_PAGE)))  # type: ignore[attr-defined]
