"""What readers think of results, for those who train the next model. One judgement a reader and job.

A judgement names the result, the model and the scale that it is about and holds no patient data; it stays
when retention takes the result's object.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, delete, select
from sqlalchemy.orm import Session

from db import results
from db.desk import Judgement
from db.models import Job, ModelVersion, Result
from db.states import JobState
from db.types import utcnow

VERDICTS = ("good", "bad", "invented")
"""Good; bad; and detail that is not in the original."""

LONGEST_NOTE = 2000
_AT_ONCE = 500


class NotJudged(Exception):
    """The job has nothing that could be judged, or the rectangle lies outside; the message is for people."""


@dataclass(frozen=True)
class Rectangle:
    """A region in pixels of the result: its first column and row, its columns and rows."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Filter:
    """Which judgements; empty fields ask nothing."""

    verdict: str = ""
    model: str = ""
    """Name of the model, or `NAME VERSION`."""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Judged:
    """A judgement with what it is about."""

    judgement: Judgement
    result: Result
    model: ModelVersion | None


def put(
    session: Session,
    job: Job,
    *,
    user_id: int,
    actor: str,
    verdict: str,
    note: str = "",
    rectangle: Rectangle | None = None,
) -> Judgement:
    """Write down what a reader thinks of a job's result, instead of what the same one said before.

    Raises :class:`NotJudged`.
    """
    if verdict not in VERDICTS:
        raise ValueError(f"expected one of {', '.join(VERDICTS)}, got {verdict!r}")
    session.flush()
    result = results.kept(session, job) if job.state != JobState.RETRACTED else None
    if result is None:
        raise NotJudged("There is no result to judge.")
    if rectangle is not None and not _within(rectangle, result):
        raise NotJudged(
            f"The rectangle lies outside of the result of {result.columns} × {result.rows} pixels."
        )
    row = own(session, job.id, user_id)
    if row is None:
        row = Judgement(job_id=job.id, user_id=user_id, actor=actor)
        session.add(row)
    row.result_id, row.model_version_id, row.scale = result.id, job.model_version_id, job.scale
    row.verdict, row.note, row.at = verdict, note, utcnow()
    row.rectangle = vars(rectangle) if rectangle is not None else None
    session.flush()
    return row


def withdraw(session: Session, job_id: int, user_id: int) -> bool:
    """Take one's own judgement back; whether there was one."""
    gone = delete(Judgement).where(Judgement.job_id == job_id, Judgement.user_id == user_id)
    return bool(session.scalars(gone.returning(Judgement.id)).all())


def own(session: Session, job_id: int, user_id: int) -> Judgement | None:
    """What this reader said of the job."""
    query = select(Judgement).where(Judgement.job_id == job_id, Judgement.user_id == user_id)
    return session.scalar(query.execution_options(populate_existing=True))


def of_job(session: Session, job_id: int) -> list[Judgement]:
    """What readers said of a job, oldest first."""
    return list(session.scalars(select(Judgement).where(Judgement.job_id == job_id).order_by(Judgement.id)))


def page(
    session: Session, wanted: Filter, *, limit: int = 50, before: int | None = None
) -> tuple[list[Judged], int | None]:
    """At most `limit` (1 to 500) judgements, newest first, and the cursor of those after them."""
    limit = max(1, min(limit, _AT_ONCE))
    query = _chosen(wanted).order_by(Judgement.id.desc()).limit(limit + 1)
    if before is not None:
        query = query.where(Judgement.id < before)
    found = [Judged(*row) for row in session.execute(query)]
    return found[:limit], found[limit - 1].judgement.id if len(found) > limit else None


def every(session: Session, wanted: Filter) -> Iterator[Judged]:
    """All that are chosen, newest first, read some at a time."""
    cursor: int | None = None
    while True:
        some, cursor = page(session, wanted, limit=_AT_ONCE, before=cursor)
        yield from some
        if cursor is None:
            return
        session.expunge_all()


def models(session: Session) -> list[ModelVersion]:
    """The models that any judgement is about, by name."""
    judged = select(Judgement.model_version_id).where(Judgement.model_version_id.is_not(None))
    query = select(ModelVersion).where(ModelVersion.id.in_(judged))
    return list(session.scalars(query.order_by(ModelVersion.name, ModelVersion.version)))


def _chosen(wanted: Filter) -> Select[Judgement, Result, ModelVersion]:
    query = (
        select(Judgement, Result, ModelVersion)
        .join(Result, Result.id == Judgement.result_id)
        .outerjoin(ModelVersion, ModelVersion.id == Judgement.model_version_id)
    )
    if wanted.verdict:
        query = query.where(Judgement.verdict == wanted.verdict)
    if wanted.model:
        name = ModelVersion.name
        query = query.where((name == wanted.model) | (name + " " + ModelVersion.version == wanted.model))
    if wanted.since is not None:
        query = query.where(Judgement.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(Judgement.at < wanted.until)
    return query


def _within(region: Rectangle, result: Result) -> bool:
    return (
        region.x >= 0
        and region.y >= 0
        and region.width >= 1
        and region.height >= 1
        and region.x + region.width <= result.columns
        and region.y + region.height <= result.rows
    )
