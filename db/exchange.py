"""Tables of what passes between us and others beside images: promises, rejections, fetched studies."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.models import Base, Delivery, Job, Result, Uid
from db.types import BigId, Line, utcnow


class StoredObject:
    """A DICOM object of ours in the store."""

    object_key: Mapped[str] = mapped_column(String(256), unique=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigId)
    sop_instance_uid: Mapped[str] = mapped_column(Uid, unique=True)
    series_instance_uid: Mapped[str] = mapped_column(Uid)
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class LabelledResult(StoredObject, Base):
    """A result with a visible label: an object of its own, as its bytes are not the result's."""

    __tablename__ = "labelled_result"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    result_id: Mapped[int] = mapped_column(ForeignKey("result.id"))
    label: Mapped[str] = mapped_column(String(8))
    """`overlay` or `burned`."""
    result: Mapped[Result] = relationship()
    __table_args__ = (UniqueConstraint("result_id", "label"),)


class RejectionNote(StoredObject, Base):
    """A Key Object Selection document that withdraws a delivered result (IHE IOCM)."""

    __tablename__ = "rejection_note"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"))
    label: Mapped[str] = mapped_column(String(8))
    """Which object it names: the result (`none`), or its copy with a label (`overlay`, `burned`)."""
    job: Mapped[Job] = relationship()
    __table_args__ = (UniqueConstraint("job_id", "label"),)


class Commitment(Base):
    """Storage commitment that we asked of a destination for one delivery."""

    __tablename__ = "commitment"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(Uid, unique=True)
    delivery_id: Mapped[int] = mapped_column(ForeignKey("delivery.id"), index=True)
    sop_class_uid: Mapped[str] = mapped_column(Uid)
    sop_instance_uid: Mapped[str] = mapped_column(Uid)
    state: Mapped[str] = mapped_column(String(16), default="waiting")
    """`waiting` (to be asked), `asked`, `committed`, `refused`, `expired`, or `ended` (refused or expired,
    and it was the last that was tried)."""
    attempts: Mapped[int] = mapped_column(default=0)
    """How often it was asked, or tried to be."""
    not_before: Mapped[datetime] = mapped_column(default=utcnow)
    failure_reason: Mapped[int | None]
    """FailureReason (0008,1197) of a refusal."""
    asked_at: Mapped[datetime] = mapped_column(default=utcnow)
    due_at: Mapped[datetime]
    answered_at: Mapped[datetime | None]
    delivery: Mapped[Delivery] = relationship()
    __table_args__ = (
        Index("ix_commitment_due", "state", "due_at"),
        Index("ix_commitment_claim", "state", "not_before"),
    )


class CommitmentRequest(Base):
    """Storage commitment that a caller asked of us."""

    __tablename__ = "commitment_request"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    transaction_uid: Mapped[str] = mapped_column(Uid)
    calling_ae_title: Mapped[str] = mapped_column(Line(16))
    called_ae_title: Mapped[str] = mapped_column(Line(16))
    address: Mapped[str] = mapped_column(String(64))
    instances: Mapped[list[Any]]
    """`{"sop_class_uid", "sop_instance_uid"}` of each."""
    state: Mapped[str] = mapped_column(String(16), default="waiting")
    """`waiting`, `answered`, or `failed` (the caller could not be told)."""
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime]
    comment: Mapped[str | None] = mapped_column(Line(1024))
    received_at: Mapped[datetime] = mapped_column(default=utcnow)
    answered_at: Mapped[datetime | None]
    __table_args__ = (
        UniqueConstraint("calling_ae_title", "transaction_uid"),
        Index("ix_commitment_request_due", "state", "not_before"),
    )


class BatchItem(Base):
    """One study that a batch fetches from an archive."""

    __tablename__ = "batch_item"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    batch_id: Mapped[int] = mapped_column(ForeignKey("batch.id"))
    study_instance_uid: Mapped[str] = mapped_column(Uid)
    state: Mapped[str] = mapped_column(String(16), default="waiting")
    """`waiting`, `fetching`, `fetched`, `failed` or `cancelled`."""
    reason: Mapped[str | None] = mapped_column(Line(1024))
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime] = mapped_column(default=utcnow)
    received: Mapped[int] = mapped_column(default=0)
    """Objects that came of it."""
    shown: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What the archive said of the study: for the page of the batch."""
    fetched_at: Mapped[datetime | None]
    __table_args__ = (
        UniqueConstraint("batch_id", "study_instance_uid"),
        Index("ix_batch_item_claim", "batch_id", "state", "id"),
    )


class Bookmark(Base):
    """How far somebody has read a table of events, such as whoever writes audit messages from it."""

    __tablename__ = "bookmark"
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    position: Mapped[int] = mapped_column(BigId)
    """Everything up to this id has been read."""
    put_off: Mapped[list[Any]] = mapped_column(default=list)
    """Ids up to `position` that are still to be dealt with."""
    moved_at: Mapped[datetime] = mapped_column(default=utcnow, onupdate=utcnow)


class Document(Base):
    """A text that one role has written for the pages of another, such as the conformance statement."""

    __tablename__ = "document"
    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    content: Mapped[dict[str, Any]]
    written_at: Mapped[datetime] = mapped_column(default=utcnow, onupdate=utcnow)
