"""Results: stored once under their SOP Instance UID, shared by the jobs that ask for the same thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Job, Result


@dataclass(frozen=True)
class NewResult:
    """What a worker has stored and now commits."""

    object_key: str
    sha256: str
    size_bytes: int
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    rows: int
    columns: int
    figures: dict[str, Any]
    preview_key: str | None = None
    series_number: int | None = None
    series_description: str = ""


def keep(session: Session, new: NewResult) -> Result:
    """The row of a stored result: one that another job has made under the same SOP Instance UID, as it is, or
    with the new object where retention took the old one; else a new row."""
    known = session.scalar(
        select(Result).where(Result.sop_instance_uid == new.sop_instance_uid).with_for_update(key_share=True)
    )
    if known is None:
        known = Result(**vars(new))
        session.add(known)
    elif known.deleted_at is not None:  # retention took the object; it was made again
        for name, value in vars(new).items():
            setattr(known, name, value)
        known.deleted_at = None
    session.flush()
    return known


def kept(session: Session, job: Job) -> Result | None:
    """The result while its object is there; locked, so that retention does not take it meanwhile."""
    if job.result_id is None:
        return None
    result = session.get_one(
        Result, job.result_id, populate_existing=True, with_for_update={"key_share": True}
    )
    return result if result.deleted_at is None else None
