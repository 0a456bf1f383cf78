"""Which object a delivery is about: the one place that chooses it.

A result goes as it is, or with the label that its destination asks for; an original as it came; a note is
the one that names what its destination has. What is not made yet is made by `pacs_node.packing`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from db import picks
from db.exchange import LabelledResult, RejectionNote
from db.models import Delivery

DICOM = "application/dicom"
KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"


@dataclass(frozen=True, slots=True)
class Consignment:
    """A stored object that goes to a destination: where it lies, its digest, and what it is."""

    object_key: str
    sha256: str
    sop_class_uid: str
    sop_instance_uid: str


class NothingToSend(Exception):
    """There is no such object, now or later; the message is for people."""


class NotMade(Exception):
    """The object, a note or a labelled result, is still to be made: `pacs_node.packing.Packer.pack` does."""


def consignment(session: Session, delivery: Delivery) -> Consignment:
    """The object of a delivery. Raises :class:`NothingToSend`, :class:`NotMade`."""
    job = delivery.job
    if delivery.what == "original":
        source = job.source
        if source.media_type != DICOM:
            raise NothingToSend("the original is not a DICOM object")
        if source.deleted_at is not None:
            raise NothingToSend("the original is no longer kept")
        return Consignment(
            source.object_key, source.sha256, source.sop_class_uid or "", source.sop_instance_uid or ""
        )
    result, label = job.result, label_of(delivery)
    if result is None:
        raise NothingToSend("the job has no result")
    if delivery.what == "note":
        note = session.scalar(select(RejectionNote).filter_by(job_id=job.id, label=label))
        if note is None:
            raise NotMade
        return Consignment(note.object_key, note.sha256, KEY_OBJECT_SELECTION, note.sop_instance_uid)
    if result.deleted_at is not None:
        raise NothingToSend("the result is no longer kept")
    if not picks.may_go(job.source, {**delivery.destination, "name": delivery.destination_name}):
        raise NothingToSend("its patient and study were not picked from this archive")
    if label == "none":
        return Consignment(result.object_key, result.sha256, result.sop_class_uid, result.sop_instance_uid)
    labelled = session.scalar(select(LabelledResult).filter_by(result_id=result.id, label=label))
    if labelled is None:
        raise NotMade
    return Consignment(labelled.object_key, labelled.sha256, result.sop_class_uid, labelled.sop_instance_uid)


def result_at(session: Session, delivery: Delivery) -> tuple[str, str] | None:
    """Series and instance UID under which the destination of a delivery was sent the result, if ever."""
    result, label = delivery.job.result, label_of(delivery)
    if result is None:
        return None
    if label == "none":
        return result.series_instance_uid, result.sop_instance_uid
    labelled = session.scalar(select(LabelledResult).filter_by(result_id=result.id, label=label))
    return (labelled.series_instance_uid, labelled.sop_instance_uid) if labelled is not None else None


def label_of(delivery: Delivery) -> str:
    """How the result says at this destination that it was enhanced: `none`, `overlay` or `burned`."""
    label = delivery.destination.get("label")
    return label if label in ("overlay", "burned") else "none"
