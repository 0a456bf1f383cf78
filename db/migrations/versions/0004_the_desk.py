"""What people and programs do beside sending images: judgements, links, pauses, webhooks, alerts, figures."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db import types, words

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("user_account", sa.Column("language", sa.String(8)))
    op.create_index("ix_job_state", "job", ["state", "id"])
    op.create_index("ix_job_reason", "job", ["state", "reason_code", "id"])
    op.add_column("peer_status", sa.Column("changed_at", types.UtcDateTime()))
    op.create_index("ix_audit_event_actor", "audit_event", ["actor", "id"])
    op.create_index("ix_audit_event_object", "audit_event", ["object_type", "object_id", "id"])
    _lists()
    _people()
    _programs()
    _watching()


def _lists() -> None:
    """What makes a long queue quick to look through."""
    op.add_column("job", sa.Column("origin_kind", sa.String(16)))
    op.execute(
        "UPDATE job SET origin_kind = (SELECT origin_kind FROM source WHERE source.id = job.source_id)"
    )
    op.create_index("ix_job_rule", "job", ["rule", "id"])
    op.create_index("ix_job_model", "job", ["model_version_id", "id"])
    op.create_index("ix_job_priority", "job", ["priority", "id"])
    op.create_index("ix_job_origin", "job", ["origin_kind", "id"])
    op.create_index("ix_job_created", "job", ["created_at", "id"])
    op.create_index("ix_delivery_destination", "delivery", ["destination_name", "job_id"])
    op.create_table(
        "patient_word",
        sa.Column("patient_fk", types.BigId, sa.ForeignKey("patient.id"), primary_key=True),
        sa.Column("word", words.Word, primary_key=True),
    )
    op.create_index("ix_patient_word", "patient_word", ["word", "patient_fk"])
    _note_words(op.get_bind())


def _note_words(connection: sa.Connection) -> None:
    """Write down the words of the names that are there."""
    patient = sa.table("patient", sa.column("id"), sa.column("name"))
    word = sa.table("patient_word", sa.column("patient_fk"), sa.column("word"))
    last = 0
    while True:
        query = sa.select(patient.c.id, patient.c.name).where(patient.c.id > last).order_by(patient.c.id)
        found = [(row.id, row.name) for row in connection.execute(query.limit(1000))]
        if not found:
            return
        last = found[-1][0]
        rows = words.rows(found)
        if rows:
            connection.execute(sa.insert(word), rows)


def _people() -> None:
    op.create_table(
        "judgement",
        sa.Column("id", types.BigId, primary_key=True),
        sa.Column("job_id", types.BigId, sa.ForeignKey("job.id"), nullable=False),
        sa.Column("user_id", types.BigId, sa.ForeignKey("user_account.id")),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("result_id", types.BigId, sa.ForeignKey("result.id"), nullable=False),
        sa.Column("model_version_id", types.BigId, sa.ForeignKey("model_version.id")),
        sa.Column("scale", sa.Integer()),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("note", types.Line(2000), nullable=False),
        sa.Column("rectangle", types.Json()),
        sa.Column("at", types.UtcDateTime(), nullable=False),
        sa.UniqueConstraint("job_id", "user_id"),
    )
    op.create_index("ix_judgement_job_id", "judgement", ["job_id"])
    op.create_table(
        "share_link",
        sa.Column("id", types.BigId, primary_key=True),
        sa.Column("job_id", types.BigId, sa.ForeignKey("job.id"), nullable=False),
        sa.Column("token_sha256", sa.String(64), nullable=False, unique=True),
        sa.Column("created_by", types.BigId, sa.ForeignKey("user_account.id")),
        sa.Column("created_at", types.UtcDateTime(), nullable=False),
        sa.Column("expires_at", types.UtcDateTime(), nullable=False),
        sa.Column("revoked_at", types.UtcDateTime()),
    )
    op.create_index("ix_share_link_job_id", "share_link", ["job_id"])
    op.create_table(
        "pause",
        sa.Column("what", sa.String(80), primary_key=True),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("reason", types.Line(256), nullable=False),
        sa.Column("at", types.UtcDateTime(), nullable=False),
    )


def _programs() -> None:
    op.create_table(
        "idempotency_key",
        sa.Column("id", types.BigId, primary_key=True),
        sa.Column("user_id", types.BigId, sa.ForeignKey("user_account.id"), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("answer", types.Json()),
        sa.Column("at", types.UtcDateTime(), nullable=False),
        sa.UniqueConstraint("user_id", "key"),
    )
    op.create_index("ix_idempotency_key_at", "idempotency_key", ["at"])
    op.create_table(
        "webhook",
        sa.Column("id", types.BigId, primary_key=True),
        sa.Column("name", sa.String(64), nullable=False, unique=True),
        sa.Column("url", sa.String(1024), nullable=False),
        sa.Column("secret", sa.String(128), nullable=False),
        sa.Column("states", types.Json(), nullable=False),
        sa.Column("created_by", types.BigId, sa.ForeignKey("user_account.id")),
        sa.Column("created_at", types.UtcDateTime(), nullable=False),
        sa.Column("disabled_at", types.UtcDateTime()),
    )
    op.create_table(
        "webhook_call",
        sa.Column("id", types.BigId, primary_key=True),
        sa.Column("webhook_id", types.BigId, sa.ForeignKey("webhook.id"), nullable=False),
        sa.Column("event_id", types.BigId),
        sa.Column("job_id", types.BigId, sa.ForeignKey("job.id")),
        sa.Column("job_state", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", types.UtcDateTime(), nullable=False),
        sa.Column("status_code", sa.Integer()),
        sa.Column("message", types.Line(512)),
        sa.Column("created_at", types.UtcDateTime(), nullable=False),
        sa.Column("ended_at", types.UtcDateTime()),
        sa.UniqueConstraint("webhook_id", "event_id"),
    )
    op.create_index("ix_webhook_call_due", "webhook_call", ["state", "not_before"])
    op.create_index("ix_webhook_call_job_id", "webhook_call", ["job_id"])


def _watching() -> None:
    op.create_table(
        "measurement",
        sa.Column("id", types.BigId, primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(128), nullable=False),
        sa.Column("at", types.UtcDateTime(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
    )
    op.create_index("ix_measurement_name", "measurement", ["name", "subject", "at"])
    op.create_table(
        "alert",
        sa.Column("id", types.BigId, primary_key=True),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(128), nullable=False),
        sa.Column("message", types.Line(512), nullable=False),
        sa.Column("raised_at", types.UtcDateTime(), nullable=False),
        sa.Column("told_at", types.UtcDateTime()),
        sa.Column("trouble", types.Line(256)),
        sa.Column("cleared_at", types.UtcDateTime()),
    )
    op.create_index("ix_alert_open", "alert", ["cleared_at", "kind", "subject"])
    op.create_table(
        "log_line",
        sa.Column("id", types.BigId, primary_key=True),
        sa.Column("job_id", types.BigId, sa.ForeignKey("job.id"), nullable=False),
        sa.Column("at", types.UtcDateTime(), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("level", sa.String(16), nullable=False),
        sa.Column("event", types.Line(256), nullable=False),
        sa.Column("fields", types.Json(), nullable=False),
    )
    op.create_index("ix_log_line_at", "log_line", ["at"])
    op.create_index("ix_log_line_job_id", "log_line", ["job_id"])
