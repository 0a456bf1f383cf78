"""What a job must be about to be listed, as conditions that a database answers quickly however many jobs.

Each condition can be put in two ways: as the ids of the jobs that meet it, found by an index of its own, or
as a test of one job. Few hits are collected by their ids; many are met soon enough by walking the jobs in
order.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, false, func, select, text, union_all
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from db.models import Delivery, Job, ModelVersion, Patient, Result, Series, Source, Study
from db.states import Priority, Purpose
from db.words import PatientWord, begins, words_of

FEW = 20_000
"""So many rows are collected before their jobs are put in order; with more, jobs are walked."""
_UID = re.compile(r"[0-9.]{1,64}")
_SLACK = 1000
"""Jobs that may have been made at the same time: ids and times of creation grow together but for these."""


@dataclass(frozen=True)
class Search:
    """What a job must be about; empty fields ask nothing. Patient data: never in an address or a log."""

    text: str = ""
    """Beginnings of words of the patient's name; or wholly the patient's ID, accession number, or a UID."""
    patient: str = ""
    """Beginnings of words of the name, or the whole ID."""
    patient_name: str = ""
    """Beginnings of words of the name; upper and lower case and marks are one."""
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
    origin_kind: str = ""
    purpose: Purpose | None = None
    priority: Priority | None = None
    rule: str = ""
    model: str = ""
    """Name of a model."""
    destination: str = ""
    """Name of one that something of the job goes to."""
    batch_id: int | None = None

    def __bool__(self) -> bool:
        return self != Search()


@dataclass(frozen=True)
class Condition:
    """One thing that is asked of a job."""

    holds: ColumnElement[bool]
    """Of the statement's :class:`db.models.Job`."""
    ids: Any = None
    """Selects the ids of the same jobs by an index; None where there is no such way."""
    probe: Select[Any] | None = None
    """Selects the rows that `ids` begins with, to see whether they are few; None: they always are."""
    ordered: bool = False
    """Whether an index holds the jobs that meet it in their order."""


def conditions(session: Session, search: Search, states: Collection[str]) -> list[ColumnElement[bool]]:
    """The search as conditions of one statement over :class:`db.models.Job`; states only for their number."""
    asked = [*_asked(session, search), *_of_states(states)]
    postgres = session.get_bind().dialect.name == "postgresql"
    if postgres and search:
        # what is asked for is mostly in memory: it need not fear the way by an index
        session.execute(text("SET LOCAL random_page_cost = 1.1"))
    indirect = asked
    if postgres or len(asked) == 1:  # PostgreSQL knows by itself which columns of the job say most
        indirect = [one for one in asked if not one.ordered]
    counted = [(count, one) for one in indirect if (count := _count(session, one)) is not None]
    first = min(counted, key=lambda pair: pair[0])[1] if counted else None
    found = [Job.id.in_(one.ids) if one is first else one.holds for one in asked]
    return [*found, *_times(session, search)]


def _count(session: Session, condition: Condition) -> int | None:
    """The number of rows to collect; None for too many."""
    if condition.ids is None:
        return None
    if condition.probe is None:
        return 0
    rows = condition.probe.limit(FEW + 1).subquery()
    number = session.scalar(select(func.count()).select_from(rows)) or 0
    return number if number <= FEW else None


def _of_states(states: Collection[str]) -> Iterator[Condition]:
    for state in states if len(states) == 1 else ():
        yield _column(Job.state, state)


def _asked(session: Session, search: Search) -> Iterator[Condition]:
    if search.text:
        yield _text(session, search.text, _ids_of_patient, _ids_of_accession, _ids_of_uid)
    if search.patient:
        yield _text(session, search.patient, _ids_of_patient)
    if search.patient_name:
        yield _text(session, search.patient_name)
    for asked, ids in (
        (search.patient_id, _ids_of_patient),
        (search.accession_number, _ids_of_accession),
        (search.uid, _ids_of_uid),
    ):
        if asked:
            yield _wholly(ids(asked))
    if search.study_date_from or search.study_date_to:
        yield _study_dates(search.study_date_from, search.study_date_to)
    if search.modality:
        yield Condition(_has(Series.modality == search.modality))
    if search.origin:
        yield Condition(_has(Source.origin_ae_title == search.origin))
    for column, value in (
        (Job.origin_kind, search.origin_kind or None),
        (Job.purpose, search.purpose),
        (Job.priority, None if search.priority is None else int(search.priority)),
        (Job.rule, search.rule or None),
        (Job.batch_id, search.batch_id),
    ):
        if value is not None:
            yield Condition(column == value) if column is Job.purpose else _column(column, value)
    if search.model:
        yield _model(session, search.model)
    if search.destination:
        yield _destination(search.destination)


def _column(column: InstrumentedAttribute[Any], value: Any) -> Condition:
    """A column of the job itself, which has an index."""
    other = aliased(Job)
    ids = select(other.id).where(getattr(other, column.key) == value)
    return Condition(column == value, ids, ids, ordered=True)


def _model(session: Session, name: str) -> Condition:
    versions = session.scalars(select(ModelVersion.id).where(ModelVersion.name == name)).all()
    if len(versions) == 1:
        return _column(Job.model_version_id, versions[0])
    other = aliased(Job)
    ids = select(other.id).where(other.model_version_id.in_(versions))
    return Condition(Job.model_version_id.in_(versions), ids, ids)


def _destination(name: str) -> Condition:
    ids = select(Delivery.job_id).where(Delivery.destination_name == name)
    holds = exists().where(Delivery.job_id == Job.id, Delivery.destination_name == name)
    return Condition(holds, ids, ids)


def _text(session: Session, asked: str, *wholly: Any) -> Condition:
    """Words of a name by their beginnings, or one of the identifiers that `wholly` finds."""
    others = [ids for way in wholly for ids in way(asked)]
    words = words_of(asked)
    if not words:
        return _wholly(others)
    probes = {word: select(PatientWord.patient_fk).where(begins(word)) for word in words}
    counts = {word: _count(session, Condition(false(), ids=True, probe=probes[word])) for word in words}
    few = {word: count for word, count in counts.items() if count is not None}
    if not few:  # no identifier begins as so many names do
        return Condition(and_(*(_named(word) for word in words)))
    rarest = min(few, key=lambda word: few[word])
    patients = select(PatientWord.patient_fk).where(begins(rarest))
    for word in words:
        if word != rarest:
            patients = patients.where(_also(word, PatientWord.patient_fk))
    named = _jobs_of(select(Study.id).where(Study.patient_fk.in_(patients)))
    found = union_all(named, *others)
    return Condition(Job.id.in_(found), found, probes[rarest])


def _wholly(ids: list[Select[Any]]) -> Condition:
    """One of some identifiers, which few jobs have."""
    if not ids:
        return Condition(false())
    found = union_all(*ids)
    return Condition(Job.id.in_(found), found)


def _named(word: str) -> ColumnElement[bool]:
    """Whether a word of the name of a job's patient begins so."""
    return _has(_also(word, Study.patient_fk))


def _also(word: str, patient: InstrumentedAttribute[int]) -> ColumnElement[bool]:
    """Whether a word of that patient of the statement begins so."""
    other = aliased(PatientWord)
    return exists().where(other.patient_fk == patient, begins(word, other)).correlate(patient.class_)


def _study_dates(first: str, last: str) -> Condition:
    ranges = [Study.study_date >= first] if first else [Study.study_date != ""]
    if last:
        ranges.append(Study.study_date <= last)
    studies = select(Study.id).where(*ranges)
    return Condition(_has(*ranges), _jobs_of(studies), studies)


def _jobs_of(studies: Select[Any]) -> Select[Any]:
    """Ids of the jobs of studies. A list in a list: so the planner begins with the studies, nowhere else."""
    series = select(Series.id).where(Series.study_fk.in_(studies))
    sources = select(Source.id).where(Source.series_fk.in_(series))
    other = aliased(Job)
    return select(other.id).where(other.source_id.in_(sources))


def _has(*of_source: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether a job's source, series and study are so."""
    rows = (
        select(Source.id)
        .join(Series, Series.id == Source.series_fk, isouter=True)
        .join(Study, Study.id == Series.study_fk, isouter=True)
        .where(Source.id == Job.source_id, *of_source)
    )
    return rows.correlate(Job).exists()


def _spellings(text: str) -> list[str]:
    """An identifier as it was typed, and as it is mostly written."""
    return list(dict.fromkeys((text, text.upper(), text.lower())))


def _ids_of_patient(text: str) -> list[Select[Any]]:
    patients = select(Patient.id).where(Patient.patient_id.in_(_spellings(text)))
    return [_jobs_of(select(Study.id).where(Study.patient_fk.in_(patients)))]


def _ids_of_accession(text: str) -> list[Select[Any]]:
    return [_jobs_of(select(Study.id).where(Study.accession_number.in_(_spellings(text))))]


def _ids_of_uid(uid: str) -> list[Select[Any]]:
    if not _UID.fullmatch(uid):
        return []
    of_series, of_source, of_result = aliased(Job), aliased(Job), aliased(Job)
    series = select(Series.id).where(Series.series_instance_uid == uid)
    in_series = select(Source.id).where(Source.series_fk.in_(series))
    instance = select(Source.id).where(Source.sop_instance_uid == uid)
    made = select(Result.id).where(Result.sop_instance_uid == uid)
    made_series = select(Result.id).where(Result.series_instance_uid == uid)
    return [
        _jobs_of(select(Study.id).where(Study.study_instance_uid == uid)),
        select(of_series.id).where(of_series.source_id.in_(in_series)),
        select(of_source.id).where(of_source.source_id.in_(instance)),
        select(of_result.id).where(of_result.result_id.in_(union_all(made, made_series))),
    ]


def _times(session: Session, search: Search) -> Iterator[ColumnElement[bool]]:
    """The time of arrival as bounds of the ids, which the walk needs to begin and to end."""
    if search.received_from is not None:
        after = Job.created_at >= search.received_from
        first = session.scalar(select(Job.id).where(after).order_by(Job.created_at, Job.id).limit(1))
        yield Job.id >= first - _SLACK if first is not None else false()
        yield after
    if search.received_to is not None:
        before = Job.created_at < search.received_to
        query = select(Job.id).where(before).order_by(Job.created_at.desc(), Job.id.desc()).limit(1)
        last = session.scalar(query)
        yield Job.id <= last + _SLACK if last is not None else false()
        yield before
