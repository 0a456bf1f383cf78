"""What an examination writes into the database: patient, study, series, and what a source is to earlier
ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db import picks, queue
from db.models import Job, ModelVersion, Patient, Result, Series, Source, Study
from db.states import JOB_TRANSITIONS, JobState, Purpose, Relation
from db.types import utcnow
from enhancer import ModelInfo
from pacs_node.examine import Examination
from pacs_node.facts import HeaderFacts

_Row = TypeVar("_Row")
_ALIVE = (
    JobState.QUEUED,
    JobState.RUNNING,
    JobState.HELD,
    JobState.DELIVERING,
    JobState.DONE,
    JobState.RETRACTED,
    JobState.SKIPPED,
)
"""States of an earlier job after which a resend asks for nothing new."""


@dataclass(frozen=True, slots=True)
class Related:
    """What a source is to earlier ones with the same SOP Instance UID, and which of them says so."""

    relation: Relation
    to: int | None = None


def note_examination(
    session: Session, source: Source, examined: Examination, *, by_person: bool = False
) -> Related:
    """Fill the source's second block and its patient, study and series; say what it is to other sources.

    Of two that are examined at once, the second sees the first. by_person: the job is one that a person asked
    for; what persons bring says nothing about what modalities send, only the other way round.
    """
    said = examined.facts
    _lock_same(session, source, said.sop_instance)
    source.sop_class_uid = said.sop_class or source.sop_class_uid
    source.sop_instance_uid = said.sop_instance or source.sop_instance_uid
    source.transfer_syntax_uid = source.transfer_syntax_uid or examined.transfer_syntax or None
    source.header_digest = examined.header_digest
    source.pixel_digest = examined.pixel_digest
    source.view_position = said.view_position or None
    source.instance_number = said.instance_number
    if examined.image is not None:
        fmt = examined.image.format
        source.rows, source.columns, source.bits_stored = fmt.rows, fmt.columns, fmt.bits_stored
        source.bits_allocated, source.photometric = fmt.bits_allocated, fmt.photometric
    source.series = _series(session, said)
    session.flush()
    related = _relate(session, source, clinical=not by_person)
    source.relation, source.related_source_id = related.relation, related.to
    source.examined_at = source.examined_at or utcnow()
    return related


def is_superseded(session: Session, source: Source) -> bool:
    """Whether the same pixels arrived later under corrected attributes: a result of `source` would be
    stale."""
    return any(
        other.id > source.id
        and other.pixel_digest == source.pixel_digest
        and other.header_digest != source.header_digest
        for other in _others(session, source, clinical=True)
    )


def already_served(session: Session, source_id: int) -> Job | None:
    """The clinical job of an earlier copy that makes a new one needless: not failed, not cancelled."""
    query = (
        select(Job)
        .where(Job.source_id == source_id, Job.purpose == Purpose.CLINICAL, Job.state.in_(_ALIVE))
        .order_by(Job.id.desc())
    )
    return session.scalar(query.limit(1))


def jobs_to_retract(session: Session, source: Source) -> list[Job]:
    """Clinical jobs of earlier sources with the same pixels, whose results an amendment replaces."""
    ids = [
        other.id
        for other in _others(session, source, clinical=True)
        if other.id < source.id and other.pixel_digest == source.pixel_digest
    ]
    query = (
        select(Job)
        .where(
            Job.source_id.in_(ids),
            Job.purpose == Purpose.CLINICAL,
            Job.result_id.is_not(None),
            Job.state != JobState.RETRACTED,
        )
        .order_by(Job.id)
    )
    return list(session.scalars(query)) if ids else []


def retract_amended(session: Session, source: Source, job: Job, *, actor: str) -> None:
    """Take back what was made of earlier sources that `source`, served by `job`, has corrected."""
    for old in jobs_to_retract(session, source):
        reason = f"amended by job {job.id}: the image came with corrected attributes"
        queue.retract(session, old, reason=reason, actor=actor, why="amended")


def take_back_replaced(session: Session, job: Job, *, actor: str) -> None:
    """End the job that `job` replaces, an uploaded picture's whose patient and study were picked since: its
    result stands under another identity and is retracted as an amended one."""
    number = (job.requested or {}).get(picks.REPLACES)
    old = queue.get(session, number, lock=True) if isinstance(number, int) else None
    if old is None or old.id == job.id:
        return
    if old.result_id is None:
        if JobState.CANCELLED in JOB_TRANSITIONS[old.state]:
            queue.cancel(session, old, actor=actor)
    elif old.result_id != job.result_id and JobState.RETRACTED in JOB_TRANSITIONS[old.state]:
        reason = f"amended by job {job.id}: its patient and study were picked from an archive"
        queue.retract(session, old, reason=reason, actor=actor, why="amended")


def was_taken_back(session: Session, sop_instance_uid: str) -> bool:
    """Whether a result under that UID has been retracted."""
    query = (
        select(Job.id)
        .join(Result, Result.id == Job.result_id)
        .where(Result.sop_instance_uid == sop_instance_uid, Job.state == JobState.RETRACTED)
    )
    return session.scalar(query.limit(1)) is not None


def reusable_result(session: Session, source: Source, model_version_id: int, scale: int) -> Result | None:
    """A stored result on the same pixels by the same model at the same scale, to rebuild the header on."""
    others = _others(session, source, clinical=False)
    ids = [other.id for other in others if other.pixel_digest == source.pixel_digest]
    if not ids or source.pixel_digest is None:
        return None
    query = (
        select(Result)
        .join(Job, Job.result_id == Result.id)
        .where(
            Job.source_id.in_(ids),
            Job.model_version_id == model_version_id,
            Job.scale == scale,
            Result.deleted_at.is_(None),
        )
        .order_by(Result.id.desc())
        .limit(1)
    )
    return session.scalar(query)


def model_version(session: Session, info: ModelInfo) -> ModelVersion:
    """The row of a model, made at its first use."""
    key = {"name": info.name[:128], "version": info.version[:64], "digest": info.digest[:64]}
    return _get_or_make(
        session,
        lambda: session.scalar(select(ModelVersion).filter_by(**key)),
        lambda: ModelVersion(**key),
    )


def _relate(session: Session, source: Source, *, clinical: bool) -> Related:
    """The relation to the other sources of the same SOP Instance UID that are examined already.

    The same content is a resend. The same pixels that arrived earlier under other attributes are amended
    by this one. Other pixels are a conflict, in whatever order they came. A source that is examined again
    compares itself with what was there the first time.
    """
    others = _others(session, source, clinical=clinical)
    if source.examined_at is not None:
        others = [o for o in others if o.examined_at is not None and o.examined_at <= source.examined_at]
    if source.pixel_digest is None:
        return Related(Relation.ORIGINAL)
    for other in others:
        if (other.pixel_digest, other.header_digest) == (source.pixel_digest, source.header_digest):
            return Related(Relation.RESEND, other.id)
    amended = [o for o in others if o.pixel_digest == source.pixel_digest and o.id < source.id]
    if amended:
        return Related(Relation.AMENDMENT, amended[-1].id)
    if any(other.pixel_digest == source.pixel_digest for other in others):
        return Related(Relation.ORIGINAL)  # amended already by one that arrived later: see is_superseded
    apart = [other for other in others if other.pixel_digest is not None]
    return Related(Relation.CONFLICT, apart[0].id) if apart else Related(Relation.ORIGINAL)


def _lock_same(session: Session, source: Source, sop_instance_uid: str) -> None:
    """Lock the sources of one SOP Instance UID, in order and before any is changed: nobody waits in a
    circle."""
    query = select(Source.id).where(
        or_(Source.id == source.id, Source.sop_instance_uid == (sop_instance_uid or source.sop_instance_uid))
    )
    session.execute(query.order_by(Source.id).with_for_update(key_share=True)).all()


def _others(session: Session, source: Source, *, clinical: bool) -> list[Source]:
    """Examined sources with the same SOP Instance UID in the order in which they arrived.

    clinical: only those that a modality sent.
    """
    if not source.sop_instance_uid:
        return []
    query = (
        select(Source)
        .where(Source.sop_instance_uid == source.sop_instance_uid)
        .order_by(Source.id)
        .execution_options(populate_existing=True)
    )
    others = [other for other in session.scalars(query) if other.id != source.id and other.examined_at]
    if clinical and others:
        by_modality = select(Job.source_id).where(
            Job.source_id.in_([other.id for other in others]), Job.purpose == Purpose.CLINICAL
        )
        sent = set(session.scalars(by_modality))
        others = [other for other in others if other.id in sent]
    return others


def _series(session: Session, said: HeaderFacts) -> Series:
    who, what, where = said.patient, said.study, said.series
    identity = {
        "patient_id": who.patient_id, "issuer": who.issuer, "name": who.name, "birth_date": who.birth_date,
    }  # fmt: skip
    patient = _get_or_make(
        session,
        lambda: session.scalar(select(Patient).filter_by(**identity)),
        lambda: Patient(**identity, sex=who.sex),
    )
    study = _get_or_make(
        session,
        lambda: session.scalar(select(Study).filter_by(patient_fk=patient.id, study_instance_uid=what.uid)),
        lambda: Study(
            patient_fk=patient.id,
            study_instance_uid=what.uid,
            accession_number=what.accession_number,
            study_id=what.study_id,
            study_date=what.date,
            study_time=what.time,
            description=what.description,
            referring_physician=what.referring_physician,
        ),
    )
    return _get_or_make(
        session,
        lambda: session.scalar(select(Series).filter_by(study_fk=study.id, series_instance_uid=where.uid)),
        lambda: Series(
            study_fk=study.id,
            series_instance_uid=where.uid,
            modality=where.modality,
            series_number=where.number,
            body_part=where.body_part,
            description=where.description,
            performed_date=where.performed_date,
            performed_time=where.performed_time,
            scheduled_step_id=where.scheduled_step_id,
            requested_procedure_id=where.requested_procedure_id,
        ),
    )


def _get_or_make(session: Session, find: Callable[[], _Row | None], make: Callable[[], _Row]) -> _Row:
    """The row, also when another worker makes it at the same moment."""
    known = find()
    if known is not None:
        return known
    try:
        with session.begin_nested():
            row = make()
            session.add(row)
            session.flush()
        return row
    except IntegrityError:
        known = find()
        if known is None:
            raise
        return known
