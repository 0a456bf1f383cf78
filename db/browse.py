"""Looking through the jobs: newest first, by key, with what a list shows of each."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.orm import Session, joinedload, selectinload
from sqlalchemy.orm.interfaces import ORMOption

from db.models import Job, Patient, Result, Series, Source, Study
from db.states import JobState, Purpose

LARGEST_PAGE = 500


@dataclass(frozen=True)
class Page:
    """Some jobs and the cursor for those after them; None: these were the last."""

    jobs: list[Job]
    next_cursor: int | None


@dataclass(frozen=True)
class Search:
    """What a job must be about; empty fields ask nothing. Patient data: never in an address or a log."""

    text: str = ""
    """Part of the patient's name; or wholly the patient's ID, the accession number, or a UID."""
    patient: str = ""
    """Part of the name or the whole ID."""
    patient_name: str = ""
    """Part of the name, upper and lower case are one."""
    patient_id: str = ""
    accession_number: str = ""
    uid: str = ""
    """A study, series or SOP Instance UID of the source or the result."""
    study_date_from: str = ""
    """YYYYMMDD, as are the dates below."""
    study_date_to: str = ""
    received_from: datetime | None = None
    received_to: datetime | None = None
    modality: str = ""
    origin: str = ""
    """Calling AE title."""
    purpose: Purpose | None = None
    batch_id: int | None = None

    def __bool__(self) -> bool:
        return self != Search()


def jobs(
    session: Session,
    *,
    states: Collection[JobState] | None = None,
    limit: int = 50,
    before: int | None = None,
    search: Search | None = None,
) -> Page:
    """Jobs by falling id, at most `limit` (to 500) with an id below `before`.

    Source, series, study, patient, result, model version and deliveries come with each job.
    """
    limit = max(1, min(limit, LARGEST_PAGE))
    query = select(Job).options(*_with_everything()).order_by(Job.id.desc()).limit(limit + 1)
    if states is not None:
        query = query.where(Job.state.in_(list(states)))
    if before is not None:
        query = query.where(Job.id < before)
    if search:
        query = _about(query, search)
    found = list(session.scalars(query))
    more = len(found) > limit
    return Page(found[:limit], found[limit - 1].id if more else None)


def job(session: Session, job_id: int) -> Job | None:
    """One job with all that a list shows, and its events."""
    query = select(Job).where(Job.id == job_id).options(*_with_everything(), selectinload(Job.events))
    return session.scalar(query)


def counts(session: Session) -> dict[JobState, int]:
    """Number of jobs in each state, states without one included."""
    counted = session.execute(select(Job.state, func.count()).group_by(Job.state))
    found = {row[0]: row[1] for row in counted}
    return {state: found.get(state, 0) for state in JobState}


def _with_everything() -> tuple[ORMOption, ...]:
    study = joinedload(Job.source).joinedload(Source.series).joinedload(Series.study)
    return (
        study.joinedload(Study.patient),
        joinedload(Job.result),
        joinedload(Job.model_version),
        selectinload(Job.deliveries),
    )


def _about(query: Select[Job], search: Search) -> Select[Job]:
    query = query.join(Source, Source.id == Job.source_id)
    query = query.outerjoin(Series, Series.id == Source.series_fk).outerjoin(
        Study, Study.id == Series.study_fk
    )
    query = query.outerjoin(Patient, Patient.id == Study.patient_fk).outerjoin(
        Result, Result.id == Job.result_id
    )
    if search.text:
        query = query.where(
            or_(
                func.lower(Patient.name).contains(search.text.lower(), autoescape=True),
                func.lower(Patient.patient_id) == search.text.lower(),
                func.lower(Study.accession_number) == search.text.lower(),
                _has_uid(search.text),
            )
        )
    if search.patient:
        name = search.patient.strip("*").lower()
        named = func.lower(Patient.name).contains(name, autoescape=True)
        query = query.where(or_(named, Patient.patient_id == search.patient))
    if search.patient_name:
        name = search.patient_name.strip("*").lower()
        query = query.where(func.lower(Patient.name).contains(name, autoescape=True))
    if search.patient_id:
        query = query.where(Patient.patient_id == search.patient_id)
    if search.accession_number:
        query = query.where(Study.accession_number == search.accession_number)
    if search.uid:
        query = query.where(_has_uid(search.uid))
    if search.study_date_from:
        query = query.where(Study.study_date >= search.study_date_from)
    if search.study_date_to:
        query = query.where(Study.study_date != "", Study.study_date <= search.study_date_to)
    if search.received_from is not None:
        query = query.where(Source.received_at >= search.received_from)
    if search.received_to is not None:
        query = query.where(Source.received_at < search.received_to)
    if search.modality:
        query = query.where(Series.modality == search.modality)
    if search.origin:
        query = query.where(Source.origin_ae_title == search.origin)
    if search.purpose is not None:
        query = query.where(Job.purpose == search.purpose)
    if search.batch_id is not None:
        query = query.where(Job.batch_id == search.batch_id)
    return query


def _has_uid(uid: str) -> ColumnElement[bool]:
    return or_(
        Study.study_instance_uid == uid,
        Series.series_instance_uid == uid,
        Source.sop_instance_uid == uid,
        Result.sop_instance_uid == uid,
        Result.series_instance_uid == uid,
    )
