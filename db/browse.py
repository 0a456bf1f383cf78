"""Looking through the jobs: in an order, by key, with what a list shows of each."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select, union_all
from sqlalchemy.orm import Session, joinedload, selectinload
from sqlalchemy.orm.interfaces import ORMOption

from db.criteria import Search, conditions
from db.models import Job, Series, Source, Study
from db.states import JobState

__all__ = ["Cursor", "Page", "Search", "Sort", "count", "counts", "ids", "job", "jobs"]

LARGEST_PAGE = 500
MOST_COUNTED = 1000
"""A list says how many it has up to here."""
_LARGEST_ID = (1 << 63) - 1


class Sort(StrEnum):
    """The order of a list."""

    NEWEST = "newest"
    OLDEST = "oldest"
    PRIORITY = "priority"
    """That of processing: `stat` first, the oldest of each first."""


@dataclass(frozen=True)
class Cursor:
    """The last job of a page, from which the next one goes on."""

    id: int
    priority: int = 0
    """What it was in the order by priority."""

    def __str__(self) -> str:
        return f"{self.id}.{self.priority}" if self.priority else str(self.id)

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor from its text. Raises ValueError."""
        found = re.fullmatch(r"([0-9]{1,18})(?:\.([0-9]{1,3}))?", text, re.ASCII)
        if found is None:
            raise ValueError("not a cursor")
        return cls(int(found[1]), int(found[2] or 0))


@dataclass(frozen=True)
class Page:
    """Some jobs and the cursor for those after them; None: these were the last."""

    jobs: list[Job]
    next_cursor: Cursor | None


def jobs(
    session: Session,
    *,
    states: Collection[JobState] | None = None,
    limit: int = 50,
    after: Cursor | None = None,
    search: Search | None = None,
    sort: Sort = Sort.NEWEST,
) -> Page:
    """At most `limit` jobs (to 500) in the order asked for, those behind `after`.

    Source, series, study, patient, result, model version and deliveries come with each job.
    """
    limit = max(1, min(limit, LARGEST_PAGE))
    hit = _hits(session, states, search, sort, after, limit + 1).subquery("hit")
    query = select(Job).join(hit, hit.c.id == Job.id).options(*_with_everything()).order_by(*_order(sort))
    found = list(session.scalars(query))
    more = len(found) > limit
    last = found[limit - 1] if more else None
    return Page(found[:limit], None if last is None else _cursor(last, sort))


def ids(
    session: Session,
    *,
    states: Collection[JobState] | None = None,
    limit: int,
    after: Cursor | None = None,
    search: Search | None = None,
) -> list[int]:
    """The ids alone, newest first."""
    query = _hits(session, states, search, Sort.NEWEST, after, limit)
    return [row[0] for row in session.execute(query)]


def count(
    session: Session, *, states: Collection[JobState] | None = None, search: Search | None = None
) -> int:
    """How many jobs there are, counted up to one more than :data:`MOST_COUNTED`."""
    hits = _hits(session, states, search, Sort.NEWEST, None, MOST_COUNTED + 1)
    return session.scalar(select(func.count()).select_from(hits.subquery())) or 0


def job(session: Session, job_id: int) -> Job | None:
    """One job with all that a list shows, and its events."""
    query = select(Job).where(Job.id == job_id).options(*_with_everything(), selectinload(Job.events))
    return session.scalar(query)


def counts(session: Session) -> dict[JobState, int]:
    """Number of jobs in each state, states without one included."""
    counted = session.execute(select(Job.state, func.count()).group_by(Job.state))
    found = {row[0]: row[1] for row in counted}
    return {state: found.get(state, 0) for state in JobState}


def _hits(
    session: Session,
    states: Collection[JobState] | None,
    search: Search | None,
    sort: Sort,
    after: Cursor | None,
    limit: int,
) -> Any:
    """Selects `id` and `priority` of the jobs of a page, in their order.

    Each state has an index of its own in that order: the beginnings of several are merged.
    """
    wanted = list(dict.fromkeys(states)) if states is not None else []
    begin = _behind(after, sort)
    if states is not None and not wanted:
        return select(Job.id, Job.priority).where(Job.id < 0)
    where = conditions(session, search or Search(), wanted)

    def part(*more: ColumnElement[bool]) -> Any:
        return select(Job.id, Job.priority).where(begin, *where, *more).order_by(*_order(sort)).limit(limit)

    if len(wanted) < 2:
        return part()
    merged = union_all(*(select(part(Job.state == state).subquery()) for state in wanted)).subquery()
    return select(merged).order_by(*_order(sort, merged.c)).limit(limit)


def _order(sort: Sort, of: Any = Job) -> tuple[Any, ...]:
    if sort is Sort.PRIORITY:
        return of.priority, of.id
    return (of.id if sort is Sort.OLDEST else of.id.desc(),)


def _behind(after: Cursor | None, sort: Sort) -> ColumnElement[bool]:
    """The jobs behind a cursor; without one all, said so that the walk begins at an end of the key."""
    if sort is Sort.NEWEST:
        return Job.id < (after.id if after is not None else _LARGEST_ID)
    if sort is Sort.OLDEST:
        return Job.id > (after.id if after is not None else 0)
    if after is None:
        return Job.priority >= 0
    same = and_(Job.priority == after.priority, Job.id > after.id)
    return and_(Job.priority >= after.priority, or_(Job.priority > after.priority, same))


def _cursor(last: Job, sort: Sort) -> Cursor:
    return Cursor(last.id, last.priority if sort is Sort.PRIORITY else 0)


def _with_everything() -> tuple[ORMOption, ...]:
    study = joinedload(Job.source).joinedload(Source.series).joinedload(Series.study)
    return (
        study.joinedload(Study.patient),
        joinedload(Job.result),
        joinedload(Job.model_version),
        selectinload(Job.deliveries),
    )
