"""Which instances DICOMweb shows, as one query over sources and results.

Of a source: the newest under its SOP Instance UID that is no conflict, while it is kept, if it came as DICOM.
Of a result: while it is kept and a job that made it neither waits for release nor took it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, false, func, or_, select, union_all
from sqlalchemy.orm import Session, aliased

from db.models import Job, Patient, Result, Series, Source, Study
from db.states import JobState, Relation

_VISIBLE = (JobState.DELIVERING, JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class Filter:
    """What is looked for; empty texts ask nothing. Dates are `YYYYMMDD` or ranges with a minus between."""

    study: str = ""
    series: str = ""
    instance: str = ""
    sop_class: str = ""
    modality: str = ""
    patient_name: str = ""
    patient_id: str = ""
    accession: str = ""
    study_date: str = ""
    study_id: str = ""
    study_description: str = ""
    series_description: str = ""
    body_part: str = ""


@dataclass(frozen=True)
class Instance:
    """One instance with everything above it."""

    study: Study
    patient: Patient
    series: Series
    """Of a result: that of its source."""
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    rows: int | None
    columns: int | None
    bits_stored: int | None
    object_key: str
    transfer_syntax_uid: str | None
    is_result: bool


def find(
    session: Session, wanted: Filter, *, level: str, limit: int, offset: int = 0
) -> list[list[Instance]]:
    """Studies, series or instances (`level`) that fit, newest first, each as the list of its instances."""
    keys = _keys(session, wanted, level, limit, offset)
    found = [instances(session, Filter(*key)) for key in keys]
    return [group for group in found if group]


def instances(session: Session, wanted: Filter) -> list[Instance]:
    """Every instance that fits, by growing age of its source; meant for one study or less."""
    found: list[Instance] = []
    for source in session.execute(_sources(wanted).order_by(Source.id.desc())):
        row, series, study, patient = source
        found.append(
            Instance(
                study=study,
                patient=patient,
                series=series,
                series_uid=series.series_instance_uid,
                sop_class_uid=row.sop_class_uid or "",
                sop_instance_uid=row.sop_instance_uid or "",
                rows=row.rows,
                columns=row.columns,
                bits_stored=row.bits_stored,
                object_key=row.object_key,
                transfer_syntax_uid=row.transfer_syntax_uid,
                is_result=False,
            )
        )
    seen: set[str] = set()
    for result, row, series, study, patient in session.execute(_results(wanted).order_by(Result.id.desc())):
        if result.sop_instance_uid in seen:  # jobs may share a result
            continue
        seen.add(result.sop_instance_uid)
        found.append(
            Instance(
                study=study,
                patient=patient,
                series=series,
                series_uid=result.series_instance_uid,
                sop_class_uid=result.sop_class_uid,
                sop_instance_uid=result.sop_instance_uid,
                rows=result.rows,
                columns=result.columns,
                bits_stored=row.bits_stored,
                object_key=result.object_key,
                transfer_syntax_uid=None,
                is_result=True,
            )
        )
    return found


def _keys(session: Session, wanted: Filter, level: str, limit: int, offset: int) -> list[tuple[str, ...]]:
    """UIDs of the studies, series or instances that fit."""
    depth = ("studies", "series", "instances").index(level) + 1
    of_source = (Study.study_instance_uid, Series.series_instance_uid, Source.sop_instance_uid)[:depth]
    of_result = (Study.study_instance_uid, Result.series_instance_uid, Result.sop_instance_uid)[:depth]
    names = ("study", "series", "instance")[:depth]
    both = union_all(
        _sources(wanted).with_only_columns(
            *(column.label(name) for column, name in zip(of_source, names, strict=True)),
            Source.id.label("age"),
        ),
        _results(wanted).with_only_columns(
            *(column.label(name) for column, name in zip(of_result, names, strict=True)),
            Source.id.label("age"),
        ),
    ).subquery()
    columns = [both.c[name] for name in names]
    query = (
        select(*columns)
        .group_by(*columns)
        .order_by(func.max(both.c.age).desc(), *columns)
        .limit(limit)
        .offset(offset)
    )
    return [tuple(str(value) for value in row) for row in session.execute(query)]


def _sources(wanted: Filter) -> Select[Source, Series, Study, Patient]:
    newer = aliased(Source)
    superseded = exists().where(
        newer.sop_instance_uid == Source.sop_instance_uid,
        newer.id > Source.id,
        newer.relation.in_((Relation.ORIGINAL, Relation.AMENDMENT)),
        newer.deleted_at.is_(None),
    )
    query = (
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
        )
    )
    own = _equal(
        (Series.series_instance_uid, wanted.series),
        (Source.sop_instance_uid, wanted.instance),
        (Source.sop_class_uid, wanted.sop_class),
        (Series.description, wanted.series_description),
    )
    return query.where(*own, *_common(wanted))


def _results(wanted: Filter) -> Select[Result, Source, Series, Study, Patient]:
    query = (
        select(Result, Source, Series, Study, Patient)
        .join(Job, Job.result_id == Result.id)
        .join(Source, Source.id == Job.source_id)
        .join(Series, Series.id == Source.series_fk)
        .join(Study, Study.id == Series.study_fk)
        .join(Patient, Patient.id == Study.patient_fk)
        .where(Result.deleted_at.is_(None), Job.state.in_(_VISIBLE))
        .where(or_(Job.release != "review", Job.released_at.is_not(None)))
    )
    own = _equal(
        (Result.series_instance_uid, wanted.series),
        (Result.sop_instance_uid, wanted.instance),
        (Result.sop_class_uid, wanted.sop_class),
    )
    if wanted.series_description:
        own.append(false())
    return query.where(*own, *_common(wanted))


def _common(wanted: Filter) -> list[ColumnElement[bool]]:
    conditions = _equal(
        (Study.study_instance_uid, wanted.study),
        (Series.modality, wanted.modality),
        (Series.body_part, wanted.body_part),
        (Patient.patient_id, wanted.patient_id),
        (Patient.name, wanted.patient_name),
        (Study.accession_number, wanted.accession),
        (Study.study_id, wanted.study_id),
        (Study.description, wanted.study_description),
    )
    if wanted.study_date:
        first, dash, last = wanted.study_date.partition("-")
        if not dash:
            conditions.append(Study.study_date == first)
        else:
            conditions.append(Study.study_date != "")
            if first:
                conditions.append(Study.study_date >= first)
            if last:
                conditions.append(Study.study_date <= last)
    return conditions


def _equal(*pairs: tuple[Any, str]) -> list[ColumnElement[bool]]:
    """Single values, lists of UIDs, `*` and `?` as wildcards; in names case counts for nothing."""
    conditions: list[ColumnElement[bool]] = []
    for column, value in pairs:
        if not value or value == "*":
            continue
        if "*" in value or "?" in value or column.key == "name":
            pattern = value.replace("/", "//").replace("%", "/%").replace("_", "/_")
            conditions.append(column.ilike(pattern.replace("*", "%").replace("?", "_"), escape="/"))
        elif "," in value and column.key.endswith("uid"):
            conditions.append(column.in_(value.split(",")))
        else:
            conditions.append(column == value)
    return conditions
