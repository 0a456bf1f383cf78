"""What happened since: rows of a growing table in order, for whoever shows events live or passes them on.

PostgreSQL hands out ids before transactions commit, so a smaller id may become visible after a larger one.
The feed waits for the ids missing below what it sees, until they appear or their transaction cannot exist.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.orm import Session

from db.engine import Database
from db.models import AuditEvent, JobEvent

Row = TypeVar("Row", JobEvent, AuditEvent)

_WINDOW = 1000
"""Ids before the start that are watched for late arrivals."""
_PAGE = 1000
"""Events handed out at once."""
_GRACE = 0.25
"""Seconds that a missing id is watched at least."""


@dataclass
class _Gap:
    """An id that is missing below one that is there."""

    since: float
    """Monotonic time when it was noticed."""
    horizon: int
    """First transaction number that was not yet given when it was noticed."""


class Feed(Generic[Row]):
    """Events for one reader of a process, from one table; not safe to share between threads.

    An event waits for those with smaller ids for at most `patience` seconds; one that is later still is
    handed out when it comes, out of order. None is skipped and none comes twice.
    """

    def __init__(
        self,
        database: Database,
        table: type[Row],
        *,
        patience: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.database, self.patience, self._clock = database, patience, clock
        self.table: type[Row] = table
        self._position: int | None = None
        """Everything up to here was handed out or is in `_gaps`."""
        self._gaps: dict[int, _Gap] = {}

    @property
    def position(self) -> int | None:
        """The largest id handed out; None before the first call."""
        return self._position

    @property
    def settled(self) -> int | None:
        """The id up to which nothing is missing: where one who stops now and comes back must begin."""
        return min([number - 1 for number in self._late()], default=self._position)

    def after(self, cursor: int | None) -> list[Row]:
        """New events by id, at most 1000 of them.

        With None, or the position reached, what is new since the last call (the first call with None only
        marks the present). With an earlier id, what was handed out after it once more: for one who returns;
        ask again with the last id received until nothing comes.
        """
        with self.database.read() as session:
            if self._position is None:
                self._begin(session, cursor)
            assert self._position is not None
            if cursor is not None and cursor < self._position:
                return self._replay(session, cursor)
            return self._advance(session)

    def _begin(self, session: Session, cursor: int | None) -> None:
        table = self.table
        newest = session.scalar(select(func.max(table.id))) or 0
        self._position = newest if cursor is None else min(cursor, newest)
        if not self.database.sqlite:
            start = max(0, self._position - _WINDOW)
            there = set(session.scalars(select(table.id).where(table.id.between(start + 1, self._position))))
            self._watch(set(range(start + 1, self._position + 1)) - there, _horizons(session)[1])

    def _replay(self, session: Session, cursor: int) -> list[Row]:
        known = self.table.id.between(cursor + 1, self._position)
        return [event for event in self._page(session, known) if event.id not in self._gaps]

    def _advance(self, session: Session) -> list[Row]:
        new = self._page(session, self.table.id > self._position)
        if self.database.sqlite:  # one writer: ids become visible in their order
            if new:
                self._position = new[-1].id
            return new
        finished, next_number = _horizons(session)
        appeared = self._page(session, self.table.id.in_(self._late()))
        late = [event for event in appeared if self._gaps.pop(event.id)]
        ready = late + self._in_order(new, finished, next_number)
        self._forget(finished)
        return ready

    def _late(self) -> list[int]:
        return [number for number in self._gaps if number <= (self._position or 0)]

    def _in_order(self, new: list[Row], finished: int, next_number: int) -> list[Row]:
        """The new events up to the first missing id that is worth waiting for."""
        ready: list[Row] = []
        for event in new:
            assert self._position is not None
            self._gaps.pop(event.id, None)
            missing = set(range(max(self._position + 1, event.id - _WINDOW), event.id))
            self._watch(missing - self._gaps.keys(), next_number)
            if any(self._worth_waiting(self._gaps[number], finished) for number in missing):
                break
            ready.append(event)
            self._position = event.id
        return ready

    def _watch(self, missing: set[int], horizon: int) -> None:
        now = self._clock()
        for number in missing:
            self._gaps[number] = _Gap(now, horizon)

    def _worth_waiting(self, gap: _Gap, finished: int) -> bool:
        return not self._dead(gap, finished) and self._clock() - gap.since < self.patience

    def _dead(self, gap: _Gap, finished: int) -> bool:
        """Every transaction that could have taken the id is over (it takes that just before its number)."""
        return gap.horizon <= finished and self._clock() - gap.since >= _GRACE

    def _forget(self, finished: int) -> None:
        for number in self._late():
            if self._dead(self._gaps[number], finished):
                del self._gaps[number]

    def _page(self, session: Session, which: ColumnElement[bool]) -> list[Row]:
        return list(session.scalars(select(self.table).where(which).order_by(self.table.id).limit(_PAGE)))


def _horizons(session: Session) -> tuple[int, int]:
    """Of PostgreSQL's transactions: the first that is not over, and the first that has not begun."""
    row = session.execute(
        text(
            "SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint "
            "FROM pg_current_snapshot() AS s"
        )
    ).one()
    return row[0], row[1]
