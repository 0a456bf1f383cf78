"""Tables of what people and programs do beside sending images: judgements, links, pauses, webhooks..."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models import Base
from db.types import BigId, Line, utcnow


class Judgement(Base):
    """What a reader thinks of a result: good, bad, or with invented detail."""

    __tablename__ = "judgement"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), index=True)
    user_id: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    actor: Mapped[str] = mapped_column(String(128))
    result_id: Mapped[int] = mapped_column(ForeignKey("result.id"))
    """What was judged, with the model and the scale that made it: the job may be done anew by others."""
    model_version_id: Mapped[int | None] = mapped_column(ForeignKey("model_version.id"))
    scale: Mapped[int | None]
    verdict: Mapped[str] = mapped_column(String(16))
    """`good`, `bad` or `invented`."""
    note: Mapped[str] = mapped_column(Line(2000), default="")
    rectangle: Mapped[dict[str, Any] | None]
    """`x`, `y`, `width`, `height` in pixels of the result."""
    at: Mapped[datetime] = mapped_column(default=utcnow)
    __table_args__ = (UniqueConstraint("job_id", "user_id"),)


class ShareLink(Base):
    """A link to a result inside the hospital; who follows it must log in all the same."""

    __tablename__ = "share_link"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), index=True)
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    created_by: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class Pause(Base):
    """Something that stands still because a person said so; the row goes when it goes on."""

    __tablename__ = "pause"
    what: Mapped[str] = mapped_column(String(80), primary_key=True)
    """`intake`, `processing`, or `destination:NAME`."""
    actor: Mapped[str] = mapped_column(String(128))
    reason: Mapped[str] = mapped_column(Line(256), default="")
    at: Mapped[datetime] = mapped_column(default=utcnow)


class IdempotencyKey(Base):
    """The answer to a request that may be sent again under the same key."""

    __tablename__ = "idempotency_key"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    key: Mapped[str] = mapped_column(String(128))
    request_sha256: Mapped[str] = mapped_column(String(64))
    status: Mapped[int | None]
    """None while the first request is still being answered."""
    answer: Mapped[dict[str, Any] | None]
    at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    __table_args__ = (UniqueConstraint("user_id", "key"),)


class Webhook(Base):
    """An address that wants to hear when jobs end."""

    __tablename__ = "webhook"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    url: Mapped[str] = mapped_column(String(1024))
    secret: Mapped[str] = mapped_column(String(128))
    """Signs each call by HMAC-SHA-256."""
    states: Mapped[list[Any]]
    """The job states that are told."""
    created_by: Mapped[int | None] = mapped_column(ForeignKey("user_account.id"))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    disabled_at: Mapped[datetime | None]


class WebhookCall(Base):
    """One thing to tell one address, with its attempts."""

    __tablename__ = "webhook_call"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhook.id"))
    event_id: Mapped[int | None] = mapped_column(BigId)
    """The job event that it tells of; None for a call that only tries the address."""
    job_id: Mapped[int | None] = mapped_column(ForeignKey("job.id"), index=True)
    job_state: Mapped[str] = mapped_column(String(16))
    """`test` for a call that only tries the address."""
    state: Mapped[str] = mapped_column(String(16), default="waiting")
    """`waiting`, `done` or `failed`."""
    attempts: Mapped[int] = mapped_column(default=0)
    not_before: Mapped[datetime] = mapped_column(default=utcnow)
    status_code: Mapped[int | None]
    message: Mapped[str | None] = mapped_column(Line(512))
    created_at: Mapped[datetime] = mapped_column(default=utcnow)
    ended_at: Mapped[datetime | None]
    __table_args__ = (
        UniqueConstraint("webhook_id", "event_id"),
        Index("ix_webhook_call_due", "state", "not_before"),
    )


class Measurement(Base):
    """A figure over time, for charts and forecasts: free disk, memory of a role, load of a device."""

    __tablename__ = "measurement"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    name: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(128), default="")
    """The host, role or device that it is of."""
    at: Mapped[datetime] = mapped_column(default=utcnow)
    value: Mapped[float]
    __table_args__ = (Index("ix_measurement_name", "name", "subject", "at"),)


class Alert(Base):
    """Something that somebody must look at: raised once, told once, cleared when it is over."""

    __tablename__ = "alert"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    subject: Mapped[str] = mapped_column(String(128), default="")
    message: Mapped[str] = mapped_column(Line(512))
    raised_at: Mapped[datetime] = mapped_column(default=utcnow)
    told_at: Mapped[datetime | None]
    trouble: Mapped[str | None] = mapped_column(Line(256))
    """Why it could not be told."""
    cleared_at: Mapped[datetime | None]
    __table_args__ = (Index("ix_alert_open", "cleared_at", "kind", "subject"),)


class LogLine(Base):
    """A line of a role's log that concerns a job."""

    __tablename__ = "log_line"
    id: Mapped[int] = mapped_column(BigId, primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey("job.id"), index=True)
    at: Mapped[datetime] = mapped_column(default=utcnow, index=True)
    role: Mapped[str] = mapped_column(String(16))
    level: Mapped[str] = mapped_column(String(16))
    event: Mapped[str] = mapped_column(Line(256))
    fields: Mapped[dict[str, Any]] = mapped_column(default=dict)
