"""Which instances DICOMweb shows, as one query over sources and results.

Of a source: the newest under its SOP Instance UID that is no conflict, while it is kept, if it came as DICOM.
Of a result: while it is kept and a job that made it neither waits for release nor took it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, or_, select, union_all
from sqlalchemy.orm import Session, aliased

from db.models import Job, Patient, Result, Series, Source, Study
from db.states import JOB_FINISHED, JobState, Relation
from webui.dicomweb.keys import BY_KEYWORD, Key, Level, Test, condition

_HIDDEN = (JobState.QUEUED, JobState.RUNNING, JobState.HELD, JobState.SKIPPED, JobState.RETRACTED)
"""States of a job whose result is not shown; named so, as SQLite would rather read every job that is done."""
_GROUPED = (
    (Study.study_instance_uid, Series.series_instance_uid, Source.sop_instance_uid),
    (Study.study_instance_uid, Result.series_instance_uid, Result.sop_instance_uid),
)

Conditions = Sequence[tuple[Key, Test]]
"""Keys and what their values must fulfil, all of them."""


@dataclass(frozen=True)
class Instance:
    """One instance with everything above it. Rows and columns are None where nothing could be decoded."""

    study: Study
    patient: Patient
    series: Series
    """Of a result: that of its source."""
    series_uid: str
    series_number: int | None
    series_description: str
    sop_class_uid: str
    sop_instance_uid: str
    instance_number: int | None
    rows: int | None
    columns: int | None
    bits_allocated: int | None
    """Of a result: those of its source."""
    object_key: str
    sha256: str
    """Of the object's bytes."""
    preview_key: str | None
    transfer_syntax_uid: str | None
    """As it was received; None of a result."""
    is_result: bool
    accepted: bool
    """Whether its pixels were decoded and found sound (those of a result are our own)."""

    @property
    def uids(self) -> tuple[str, str, str]:
        return self.study.study_instance_uid, self.series_uid, self.sop_instance_uid


@dataclass(frozen=True)
class Found:
    """Studies, series or instances, each as the list of its instances, and how many more there are."""

    groups: list[list[Instance]]
    remaining: int


def named(study: str = "", series: str = "", instance: str = "") -> Conditions:
    """The conditions that these UIDs make; empty ones ask nothing."""
    keys = (BY_KEYWORD[name] for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"))
    tests = [(key, condition(key, uid)) for key, uid in zip(keys, (study, series, instance), strict=True)]
    return [(key, test) for key, test in tests if test is not None]


def find(session: Session, wanted: Conditions, *, level: Level, limit: int, offset: int = 0) -> Found:
    """Studies, series or instances that fit, newest first."""
    query = _keys(wanted, level)
    page = query.limit(limit).offset(offset)
    keys = [tuple(str(value) for value in row) for row in session.execute(page)]
    remaining = 0
    if len(keys) == limit:
        matches = session.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0
        remaining = max(0, matches - offset - len(keys))
    groups: dict[tuple[str, ...], list[Instance]] = {key: [] for key in keys}
    if keys:
        for instance in instances(session, _any_of(keys)):
            if (key := instance.uids[: level + 1]) in groups:
                groups[key].append(instance)
    return Found([group for group in groups.values() if group], remaining)


def _any_of(keys: list[tuple[str, ...]]) -> Conditions:
    """What the instances of a page have at least in common."""
    return named(*(",".join(dict.fromkeys(uids)) for uids in zip(*keys, strict=True)))


def instances(session: Session, wanted: Conditions) -> list[Instance]:
    """Every instance that fits, by growing age of its source; meant for one study or less."""
    found = [_of_source(*row) for row in session.execute(_sources(wanted).order_by(Source.id.desc()))]
    seen: set[str] = set()
    for row in session.execute(_results(wanted).order_by(Result.id.desc())):
        result = _of_result(*row)
        if result.sop_instance_uid not in seen:  # jobs may share a result
            seen.add(result.sop_instance_uid)
            found.append(result)
    return found


def waiting(session: Session, sop_instance_uid: str) -> bool | None:
    """Of an object that came but was not examined: whether it still waits; None where none came."""
    query = (
        select(Job.state)
        .join(Source, Source.id == Job.source_id)
        .where(
            Source.sop_instance_uid == sop_instance_uid,
            Source.series_fk.is_(None),
            Source.deleted_at.is_(None),
        )
    )
    states = list(session.scalars(query))
    return any(state not in JOB_FINISHED for state in states) if states else None


def gone(session: Session, sop_instance_uid: str) -> bool:
    """Whether there was such an instance that is not kept any more, or a result that was taken back."""
    retracted = select(Job.id).where(Job.result_sop_uid == sop_instance_uid, Job.state == JobState.RETRACTED)
    deleted = select(Source.id).where(
        Source.sop_instance_uid == sop_instance_uid, Source.deleted_at.is_not(None)
    )
    dropped = select(Result.id).where(
        Result.sop_instance_uid == sop_instance_uid, Result.deleted_at.is_not(None)
    )
    return any(session.scalar(query.limit(1)) is not None for query in (retracted, deleted, dropped))


def _of_source(row: Source, series: Series, study: Study, patient: Patient) -> Instance:
    return Instance(
        study=study,
        patient=patient,
        series=series,
        series_uid=series.series_instance_uid,
        series_number=series.series_number,
        series_description=series.description,
        sop_class_uid=row.sop_class_uid or "",
        sop_instance_uid=row.sop_instance_uid or "",
        instance_number=row.instance_number,
        rows=row.rows,
        columns=row.columns,
        bits_allocated=row.bits_allocated,
        object_key=row.object_key,
        sha256=row.sha256,
        preview_key=row.preview_key,
        transfer_syntax_uid=row.transfer_syntax_uid,
        is_result=False,
        accepted=row.pixel_digest is not None,
    )


def _of_result(result: Result, row: Source, series: Series, study: Study, patient: Patient) -> Instance:
    return Instance(
        study=study,
        patient=patient,
        series=series,
        series_uid=result.series_instance_uid,
        series_number=result.series_number,
        series_description=result.series_description,
        sop_class_uid=result.sop_class_uid,
        sop_instance_uid=result.sop_instance_uid,
        instance_number=row.instance_number,
        rows=result.rows,
        columns=result.columns,
        bits_allocated=row.bits_allocated,
        object_key=result.object_key,
        sha256=result.sha256,
        preview_key=result.preview_key,
        transfer_syntax_uid=None,
        is_result=True,
        accepted=True,
    )


def _keys(wanted: Conditions, level: Level) -> Select[Any]:
    """UIDs of the studies, series or instances that fit, newest first."""
    names = ("study", "series", "instance")[: level + 1]
    both = union_all(
        *(
            query.with_only_columns(
                *(column.label(name) for column, name in zip(columns, names, strict=False)),
                Source.id.label("age"),
            )
            for query, columns in zip((_sources(wanted), _results(wanted)), _GROUPED, strict=True)
        )
    ).subquery()
    columns = [both.c[name] for name in names]
    return select(*columns).group_by(*columns).order_by(func.max(both.c.age).desc(), *columns)


def _sources(wanted: Conditions) -> Select[Source, Series, Study, Patient]:
    newer = aliased(Source)
    superseded = exists().where(
        newer.sop_instance_uid == Source.sop_instance_uid,
        newer.id > Source.id,
        newer.relation.in_((Relation.ORIGINAL, Relation.AMENDMENT)),
        newer.deleted_at.is_(None),
    )
    return (
        select(Source, Series, Study, Patient)
        .join(Series, Series.id == Source.series_fk)
        .join(Study, Study.id == Series.study_fk)
        .join(Patient, Patient.id == Study.patient_fk)
        .where(
            Source.media_type == "application/dicom",
            Source.deleted_at.is_(None),
            Source.sop_instance_uid.is_not(None),
            Source.sop_class_uid.is_not(None),
            Source.relation.in_((Relation.ORIGINAL, Relation.AMENDMENT)),
            ~superseded,
            *_where(wanted, of_result=False),
        )
    )


def _results(wanted: Conditions) -> Select[Result, Source, Series, Study, Patient]:
    return (
        select(Result, Source, Series, Study, Patient)
        .join(Job, Job.result_id == Result.id)
        .join(Source, Source.id == Job.source_id)
        .join(Series, Series.id == Source.series_fk)
        .join(Study, Study.id == Series.study_fk)
        .join(Patient, Patient.id == Study.patient_fk)
        .where(
            Result.deleted_at.is_(None),
            Job.state.not_in(_HIDDEN),
            or_(Job.release != "review", Job.released_at.is_not(None)),
            *_where(wanted, of_result=True),
        )
    )


def _where(wanted: Conditions, *, of_result: bool) -> list[ColumnElement[bool]]:
    return [
        _in_study(test) if key.keyword == "ModalitiesInStudy" else test(key.column(of_result=of_result))
        for key, test in wanted
    ]


def _in_study(test: Test) -> ColumnElement[bool]:
    other = aliased(Series)
    return exists().where(other.study_fk == Study.id, test(other.modality))
