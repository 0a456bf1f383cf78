"""The nouns of the house as tables: what was received, what is to be done, what came of it, and for whom."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import CheckConstraint, Enum, ForeignKey, Index, MetaData, String, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from db.states import DeliveryState, JobState, Purpose, Relation
from db.types import BigId, Json, Line, UtcDateTime, utcnow

Uid = String(64)


def _words(enum: type[StrEnum]) -> Enum:
    """An enum kept as its values, in plain text."""
    return Enum(enum, native_enum=False, values_callable=lambda e: [member.value for member in e], length=16)


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - read by SQLAlchemy
        datetime: UtcDateTime,
        dict[str, Any]: Json,
        list[Any]: Json,
        JobState: _words(JobState),
        DeliveryState: _words(DeliveryState),
        Purpose: _words(Purpose),
        Relation: _words(Relation),
    }


class Installation(Base):
    """This installation's identity, made once: the salt of every derived UID."""

    __tablename__ = "installation"
    id: Mapped[int] = mapped_column(primary_key=True)
    uuid: Mapped[str] = mapped_column(String(36))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)


class Patient(Base):
    __tablename__ = "patient"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    patient_id: Mapped[str] = mapped_column(Line(64), default="")
    issuer: Mapped[str] = mapped_column(Line(64), default="")
    name: Mapped[str] = mapped_column(Line(324), default="")
    birth_date: Mapped[str] = mapped_column(Line(8), default="")
    sex: Mapped[str] = mapped_column(Line(16), default="")
    __table_args__ = (
        UniqueConstraint("patient_id", "issuer", "name", "birth_date"),
        Index("ix_patient_name", "name"),
    )


class Study(Base):
    __tablename__ = "study"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    patient_fk: Mapped[int] = mapped_column(ForeignKey("patient.id"), index=True)
    study_instance_uid: Mapped[str] = mapped_column(Uid, index=True)
    accession_number: Mapped[str] = mapped_column(Line(64), default="", index=True)
    study_id: Mapped[str] = mapped_column(Line(64), default="")
    study_date: Mapped[str] = mapped_column(Line(8), default="", index=True)
    study_time: Mapped[str] = mapped_column(Line(16), default="")
    description: Mapped[str] = mapped_column(Line(256), default="")
    referring_physician: Mapped[str] = mapped_column(Line(324), default="")
    patient: Mapped[Patient] = relationship()
    __table_args__ = (UniqueConstraint("patient_fk", "study_instance_uid"),)


class Series(Base):
    __tablename__ = "series"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    study_fk: Mapped[int] = mapped_column(ForeignKey("study.id"))
    series_instance_uid: Mapped[str] = mapped_column(Uid, index=True)
    modality: Mapped[str] = mapped_column(Line(16), default="")
    series_number: Mapped[int | None]
    body_part: Mapped[str] = mapped_column(Line(64), default="")
    description: Mapped[str] = mapped_column(Line(256), default="")
    performed_date: Mapped[str] = mapped_column(Line(8), default="")
    performed_time: Mapped[str] = mapped_column(Line(16), default="")
    """Start of the performed procedure step."""
    scheduled_step_id: Mapped[str] = mapped_column(Line(64), default="")
    requested_procedure_id: Mapped[str] = mapped_column(Line(64), default="")
    study: Mapped[Study] = relationship()
    __table_args__ = (UniqueConstraint("study_fk", "series_instance_uid"),)


class Source(Base):
    """One received or uploaded object. The door fills the first block, examine the second."""

    __tablename__ = "source"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    identity: Mapped[str] = mapped_column(
        String(64), unique=True, default=lambda context: context.get_current_parameters()["sha256"]
    )
    """What makes it this source: the digest of its bytes, and of what a form said where there was one."""
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size_bytes: Mapped[int] = mapped_column(BigId)
    object_key: Mapped[str] = mapped_column(String(256), unique=True)
    media_type: Mapped[str] = mapped_column(String(64))
    sop_class_uid: Mapped[str | None] = mapped_column(Uid)
    sop_instance_uid: Mapped[str | None] = mapped_column(Uid, index=True)
    transfer_syntax_uid: Mapped[str | None] = mapped_column(Uid)
    origin_kind: Mapped[str] = mapped_column(String(16))
    origin_ae_title: Mapped[str | None] = mapped_column(Line(16))
    origin_called_ae_title: Mapped[str | None] = mapped_column(Line(16))
    origin_address: Mapped[str | None] = mapped_column(String(64))
    origin_user_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    file_name: Mapped[str | None] = mapped_column(Line(256))
    demographics: Mapped[dict[str, Any] | None]
    """What the upload form said of an image that is not DICOM: keywords to values."""
    received_at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    times_received: Mapped[int] = mapped_column(default=1)
    last_received_at: Mapped[datetime] = mapped_column(default=utcnow)

    examined_at: Mapped[datetime | None]
    relation: Mapped[Relation | None]
    related_source_id: Mapped[int | None] = mapped_column(ForeignKey("source.id"))
    series_fk: Mapped[int | None] = mapped_column(ForeignKey("series.id"), index=True)
    rows: Mapped[int | None]
    columns: Mapped[int | None]
    bits_allocated: Mapped[int | None]
    bits_stored: Mapped[int | None]
    instance_number: Mapped[int | None]
    photometric: Mapped[str | None] = mapped_column(Line(16))
    view_position: Mapped[str | None] = mapped_column(Line(16))
    pixel_digest: Mapped[str | None] = mapped_column(String(64))
    header_digest: Mapped[str | None] = mapped_column(String(64))
    preview_key: Mapped[str | None] = mapped_column(String(256))
    deleted_at: Mapped[datetime | None]
    series: Mapped[Series | None] = relationship()


class Batch(Base):
    """Jobs that belong together: one upload, one night's work."""

    __tablename__ = "batch"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(128), default="")
    kind: Mapped[str] = mapped_column(String(16), default="upload")
    """`upload`, or `fetch`: studies of an archive (`db.exchange.BatchItem`)."""
    state: Mapped[str] = mapped_column(String(16), default="open")
    """`open`; of a fetch also `paused`, `finished` (each item ended) or `cancelled`."""
    archive: Mapped[str | None] = mapped_column(String(64))
    query: Mapped[dict[str, Any] | None]
    """What was asked of the archive, and how the images are to be enhanced."""
    finished_at: Mapped[datetime | None]
    created_by: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)


class ModelVersion(Base):
    __tablename__ = "model_version"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(128))
    version: Mapped[str] = mapped_column(String(64))
    digest: Mapped[str] = mapped_column(String(64))
    first_used_at: Mapped[datetime] = mapped_column(default=utcnow)
    __table_args__ = (UniqueConstraint("name", "version", "digest"),)


class Job(Base):
    """One thing to do to a source. Only `db.queue` and `db.deliveries` change its state."""

    __tablename__ = "job"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    source_id: Mapped[int] = mapped_column(ForeignKey("source.id"), index=True)
    batch_id: Mapped[int | None] = mapped_column(ForeignKey("batch.id"), index=True)
    state: Mapped[JobState] = mapped_column(default=JobState.QUEUED)
    reason_code: Mapped[str | None] = mapped_column(String(64))
    reason: Mapped[str | None] = mapped_column(Line(1024))
    priority: Mapped[int] = mapped_column(default=10)
    purpose: Mapped[Purpose] = mapped_column(default=Purpose.CLINICAL)
    origin_kind: Mapped[str | None] = mapped_column(String(16))
    """The source's, once more: lists are filtered by it."""
    requested: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What the door asked for: optional `scale` (2, 4), `model`, `destinations` (names)."""
    created_by: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow, onupdate=utcnow)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    not_before: Mapped[datetime] = mapped_column(default=utcnow)
    attempts: Mapped[int] = mapped_column(default=0)
    progress: Mapped[float] = mapped_column(default=0.0)
    cancel_requested: Mapped[bool] = mapped_column(default=False)

    lease_token: Mapped[int] = mapped_column(default=0)
    """Grows with every claim; a worker that holds an older one is fenced off."""
    lease_owner: Mapped[str | None] = mapped_column(String(128))
    lease_expires_at: Mapped[datetime | None]

    rule: Mapped[str | None] = mapped_column(String(64))
    scale: Mapped[int | None]
    model_version_id: Mapped[int | None] = mapped_column(ForeignKey("model_version.id"))
    result_series_uid: Mapped[str | None] = mapped_column(Uid)
    result_sop_uid: Mapped[str | None] = mapped_column(Uid, index=True)
    release: Mapped[str] = mapped_column(String(8), default="auto")
    """`auto`, or `review`: the result waits as `held` until a person lets it go."""
    released_at: Mapped[datetime | None]
    result_id: Mapped[int | None] = mapped_column(ForeignKey("result.id"), index=True)

    source: Mapped[Source] = relationship()
    model_version: Mapped[ModelVersion | None] = relationship()
    result: Mapped[Result | None] = relationship(back_populates="jobs")
    deliveries: Mapped[list[Delivery]] = relationship(back_populates="job", order_by="Delivery.id")
    events: Mapped[list[JobEvent]] = relationship(order_by="JobEvent.id", viewonly=True)
    __table_args__ = (
        Index("ix_job_claim", "state", "priority", "id"),
        Index("ix_job_state", "state", "id"),
        Index("ix_job_reason", "state", "reason_code", "id"),
        Index("ix_job_lease", "state", "lease_expires_at"),
        Index("ix_job_rule", "rule", "id"),
        Index("ix_job_model", "model_version_id", "id"),
        Index("ix_job_priority", "priority", "id"),
        Index("ix_job_origin", "origin_kind", "id"),
        Index("ix_job_created", "created_at", "id"),
    )


class Result(Base):
    """A derived object, stored once and never overwritten; jobs that ask for the same thing share it."""

    __tablename__ = "result"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    object_key: Mapped[str] = mapped_column(String(256), unique=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(BigId)
    sop_class_uid: Mapped[str] = mapped_column(Uid)
    sop_instance_uid: Mapped[str] = mapped_column(Uid, unique=True)
    series_instance_uid: Mapped[str] = mapped_column(Uid, index=True)
    series_number: Mapped[int | None]
    series_description: Mapped[str] = mapped_column(Line(256), default="")
    rows: Mapped[int]
    columns: Mapped[int]
    figures: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Measured on this image: consistency, seconds, device, model."""
    preview_key: Mapped[str | None] = mapped_column(String(256))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    deleted_at: Mapped[datetime | None]
    jobs: Mapped[list[Job]] = relationship(back_populates="result", order_by="Job.id")


class Delivery(Base):
    """One object on its way to one destination, with a copy of the destination's settings."""

    __tablename__ = "delivery"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), index=True)
    what: Mapped[str] = mapped_column(String(8), default="result")
    """`result`, `original`, or `note` (a rejection note, `db.exchange.RejectionNote`)."""
    destination_name: Mapped[str] = mapped_column(String(64))
    destination: Mapped[dict[str, Any]]
    state: Mapped[DeliveryState] = mapped_column(default=DeliveryState.WAITING)
    priority: Mapped[int] = mapped_column(default=10)
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime] = mapped_column(default=utcnow)
    life_seconds: Mapped[float]
    """How long is tried, counted from the moment the result may go."""
    expires_at: Mapped[datetime]
    commitment: Mapped[bool] = mapped_column(default=False)
    """Whether the destination is to promise storage commitment: until then the object is kept."""
    ask_first: Mapped[bool] = mapped_column(default=False)
    """Whether the destination is asked first: an original that it has is not sent, nor a note about a result
    that it has not."""
    perhaps_there: Mapped[bool] = mapped_column(default=False)
    """Whether an attempt ended so that the destination may have the object without having said so."""
    lease_token: Mapped[int] = mapped_column(default=0)
    lease_owner: Mapped[str | None] = mapped_column(String(128))
    lease_expires_at: Mapped[datetime | None]
    status_code: Mapped[int | None]
    """The last DIMSE or HTTP status the destination answered."""
    comment: Mapped[str | None] = mapped_column(Line(1024))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    updated_at: Mapped[datetime] = mapped_column(default=utcnow, onupdate=utcnow)
    stored_at: Mapped[datetime | None]
    committed_at: Mapped[datetime | None]
    job: Mapped[Job] = relationship(back_populates="deliveries")
    __table_args__ = (
        UniqueConstraint("job_id", "what", "destination_name"),
        Index("ix_delivery_claim", "state", "destination_name", "priority", "id"),
        Index("ix_delivery_destination", "destination_name", "job_id"),
    )


class JobEvent(Base):
    """One transition of a job or of one of its deliveries; never changed."""

    __tablename__ = "job_event"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), index=True)
    delivery_id: Mapped[int | None] = mapped_column(ForeignKey("delivery.id"))
    at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    kind: Mapped[str] = mapped_column(String(32))
    """`state` for a job's transition, `delivery` for a delivery's, else what happened (`resend`, ...)."""
    before: Mapped[str | None] = mapped_column(String(16))
    after: Mapped[str | None] = mapped_column(String(16))
    message: Mapped[str | None] = mapped_column(Line(1024))
    actor: Mapped[str | None] = mapped_column(String(128))
    __table_args__ = (
        {"sqlite_autoincrement": True},
    )  # an id is never given twice, whatever retention removes


class User(Base):
    __tablename__ = "user_account"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[str] = mapped_column(String(16))
    password_hash: Mapped[str | None] = mapped_column(String(256))
    outside_identity: Mapped[str | None] = mapped_column(String(256), unique=True)
    """Subject at an outside identity provider; None for local accounts."""
    must_change_password: Mapped[bool] = mapped_column(default=False)
    language: Mapped[str | None] = mapped_column(String(8))
    """The language that the person chose; None: what the browser asks for."""
    disabled_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    last_login_at: Mapped[datetime | None]
    __table_args__ = (CheckConstraint("role IN ('radiologist', 'admin')", name="known_role"),)


class WebSession(Base):
    """A login that can be revoked; the cookie carries a random token, the row its SHA-256."""

    __tablename__ = "web_session"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    csrf_token: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    last_seen_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    address: Mapped[str | None] = mapped_column(String(64))
    user: Mapped[User] = relationship()


class ApiToken(Base):
    __tablename__ = "api_token"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    role: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    user: Mapped[User] = relationship()


class AuditEvent(Base):
    """Who did what and when; rows are only added."""

    __tablename__ = "audit_event"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    actor: Mapped[str] = mapped_column(String(128))
    action: Mapped[str] = mapped_column(String(64), index=True)
    object_type: Mapped[str | None] = mapped_column(String(32))
    object_id: Mapped[str | None] = mapped_column(String(64))
    address: Mapped[str | None] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(16), default="success")
    detail: Mapped[dict[str, Any]] = mapped_column(default=dict)
    chain: Mapped[str | None] = mapped_column(String(40))
    """Of the process that wrote it (`db.chain`); None for rows from before there were chains."""
    number: Mapped[int | None] = mapped_column(BigId)
    """Within its chain, from 1, without gaps."""
    digest: Mapped[str | None] = mapped_column(String(64))
    """SHA-256 of this row and of the digest before it in its chain."""
    __table_args__ = (
        Index("ix_audit_event_actor", "actor", "id"),
        Index("ix_audit_event_object", "object_type", "object_id", "id"),
        Index("ix_audit_event_chain", "chain", "number", unique=True),
    )


class AuditSeal(Base):
    """How far the chains of the audit trail had come at a moment; never changed (`db.seals`)."""

    __tablename__ = "audit_seal"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    at: Mapped[datetime]
    rows: Mapped[int] = mapped_column(BigId)
    """How many rows are sealed by it and were not before."""
    position: Mapped[int] = mapped_column(BigId)
    """The largest id of a row that was there."""
    heads: Mapped[dict[str, Any]]
    """Of each chain that has grown since the last seal: number and digest of its last row."""
    before: Mapped[dict[str, Any] | None]
    """Of the first seal: count, last id and digest of the rows that have no chain."""
    previous: Mapped[str] = mapped_column(String(64), unique=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)


class Command(Base):
    """What a page needs of another role: echo a destination, fetch from an archive."""

    __tablename__ = "command"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    role: Mapped[str] = mapped_column(String(16))
    kind: Mapped[str] = mapped_column(String(32))
    arguments: Mapped[dict[str, Any]] = mapped_column(default=dict)
    state: Mapped[str] = mapped_column(String(16), default="waiting")
    answer: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    taken_at: Mapped[datetime | None]
    answered_at: Mapped[datetime | None]
    __table_args__ = (Index("ix_command_claim", "role", "state", "id"),)


class RoleInstance(Base):
    """A running process of a role, by its last sign of life."""

    __tablename__ = "role_instance"
    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    role: Mapped[str] = mapped_column(String(16), index=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    started_at: Mapped[datetime] = mapped_column(default=utcnow)
    beat_at: Mapped[datetime] = mapped_column(default=utcnow)
    stopped_at: Mapped[datetime | None]
    info: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Role's own facts: model, device, bound port, counts."""


class PeerStatus(Base):
    """The last answer of each destination to a C-ECHO or a delivery."""

    __tablename__ = "peer_status"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    checked_at: Mapped[datetime] = mapped_column(default=utcnow)
    changed_at: Mapped[datetime | None]
    """Since when it answers so, or does not."""
    reachable: Mapped[bool]
    seconds: Mapped[float | None]
    message: Mapped[str | None] = mapped_column(Line(512))
