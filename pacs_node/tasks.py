"""What a claimed job is about, read once at its beginning."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from db import queue
from db.leases import Lease
from db.models import Job, Source
from db.states import Purpose
from pacs_node.errors import GiveUp
from pacs_node.rules import Asked
from pacs_node.secondary import PictureContext


@dataclass(frozen=True, slots=True)
class Task:
    """A job's source and wishes. picture: what is known of an upload that is not DICOM, else None."""

    job_id: int
    source_id: int
    purpose: Purpose
    asked: Asked
    object_key: str
    sha256: str
    preview_key: str | None
    picture: PictureContext | None

    @property
    def by_person(self) -> bool:
        """Whether a person asked for it, rather than a rule."""
        return self.purpose is Purpose.MANUAL


def read_task(session: Session, lease: Lease, installation: UUID) -> Task:
    """The task of a claimed job. Raises :class:`db.leases.LeaseLost`, :class:`pacs_node.errors.GiveUp`."""
    return task_of(queue.held(session, lease), installation)


def task_of(job: Job, installation: UUID) -> Task:
    """What a job is about. Raises :class:`pacs_node.errors.GiveUp` when its source is no longer kept."""
    source = job.source
    if source.deleted_at is not None:
        raise GiveUp("source-gone", "The source is no longer kept.")
    is_picture = source.media_type.startswith("image/")
    picture = None
    if is_picture:
        received = source.received_at.astimezone()
        picture = PictureContext(installation, source.sha256, received, source.demographics)
    return Task(
        job_id=job.id,
        source_id=source.id,
        purpose=job.purpose,
        asked=_asked(job, source, is_picture),
        object_key=source.object_key,
        sha256=source.sha256,
        preview_key=source.preview_key,
        picture=picture,
    )


def _kind(job: Job, source: Source) -> str:
    """How this job's object came. One source may have come by both doors: its jobs' purposes tell."""
    if job.purpose is Purpose.MANUAL:
        return "upload"
    if job.batch_id is not None:
        return "fetch"
    return "dimse" if source.origin_kind == "upload" else source.origin_kind


def _asked(job: Job, source: Source, is_picture: bool) -> Asked:
    wishes = job.requested or {}
    named = wishes.get("destinations")
    return Asked(
        kind=_kind(job, source),
        calling_ae_title=source.origin_ae_title or "",
        called_ae_title=source.origin_called_ae_title or "",
        address=source.origin_address or "",
        is_picture=is_picture,
        scale=int(wishes["scale"]) if wishes.get("scale") in (2, 4) else None,
        model=str(wishes["model"]) if wishes.get("model") else None,
        destinations=tuple(str(name) for name in named) if named is not None else None,
        force=bool(wishes.get("force")),
    )
