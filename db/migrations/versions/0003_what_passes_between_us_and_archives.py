"""What passes between us and archives beside images: promises, rejections, labels, fetched studies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db import types

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batch", sa.Column("kind", sa.String(16), nullable=False, server_default="upload"))
    op.add_column("batch", sa.Column("state", sa.String(16), nullable=False, server_default="open"))
    op.add_column("batch", sa.Column("archive", sa.String(64)))
    op.add_column("batch", sa.Column("query", types.Json()))
    op.add_column("batch", sa.Column("finished_at", types.UtcDateTime()))
    _searched_by_archives()
    for flag in ("ask_first", "perhaps_there"):
        op.add_column("delivery", sa.Column(flag, sa.Boolean(), nullable=False, server_default=sa.false()))
    _stored_object("labelled_result", "result")
    _stored_object("rejection_note", "job")
    op.create_table(
        "commitment",
        sa.Column("id", types.BigId, primary_key=True),
        sa.Column("transaction_uid", sa.String(64), nullable=False, unique=True),
        sa.Column("delivery_id", types.BigId, sa.ForeignKey("delivery.id"), nullable=False),
        sa.Column("sop_class_uid", sa.String(64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", types.UtcDateTime(), nullable=False),
        sa.Column("failure_reason", sa.Integer()),
        sa.Column("asked_at", types.UtcDateTime(), nullable=False),
        sa.Column("due_at", types.UtcDateTime(), nullable=False),
        sa.Column("answered_at", types.UtcDateTime()),
    )
    op.create_index("ix_commitment_delivery_id", "commitment", ["delivery_id"])
    op.create_index("ix_commitment_due", "commitment", ["state", "due_at"])
    op.create_index("ix_commitment_claim", "commitment", ["state", "not_before"])
    op.create_table(
        "commitment_request",
        sa.Column("id", types.BigId, primary_key=True),
        sa.Column("transaction_uid", sa.String(64), nullable=False),
        sa.Column("calling_ae_title", types.Line(16), nullable=False),
        sa.Column("called_ae_title", types.Line(16), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("instances", types.Json(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", types.UtcDateTime(), nullable=False),
        sa.Column("expires_at", types.UtcDateTime(), nullable=False),
        sa.Column("comment", types.Line(1024)),
        sa.Column("received_at", types.UtcDateTime(), nullable=False),
        sa.Column("answered_at", types.UtcDateTime()),
        sa.UniqueConstraint("calling_ae_title", "transaction_uid"),
    )
    op.create_index("ix_commitment_request_due", "commitment_request", ["state", "not_before"])
    op.create_table(
        "batch_item",
        sa.Column("id", types.BigId, primary_key=True),
        sa.Column("batch_id", types.BigId, sa.ForeignKey("batch.id"), nullable=False),
        sa.Column("study_instance_uid", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", types.Line(1024)),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before", types.UtcDateTime(), nullable=False),
        sa.Column("received", sa.Integer(), nullable=False),
        sa.Column("shown", types.Json(), nullable=False),
        sa.Column("fetched_at", types.UtcDateTime()),
        sa.UniqueConstraint("batch_id", "study_instance_uid"),
    )
    op.create_index("ix_batch_item_claim", "batch_item", ["batch_id", "state", "id"])
    op.create_table(
        "bookmark",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("position", types.BigId, nullable=False),
        sa.Column("put_off", types.Json(), nullable=False),
        sa.Column("moved_at", types.UtcDateTime(), nullable=False),
    )
    op.create_table(
        "document",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("content", types.Json(), nullable=False),
        sa.Column("written_at", types.UtcDateTime(), nullable=False),
    )


def _searched_by_archives() -> None:
    """What DICOMweb searches by beside what pages show; of older objects it is empty."""
    for table, name, length in (
        ("study", "referring_physician", 324),
        ("series", "performed_date", 8),
        ("series", "performed_time", 16),
        ("series", "scheduled_step_id", 64),
        ("series", "requested_procedure_id", 64),
        ("result", "series_description", 256),
    ):
        op.add_column(table, sa.Column(name, types.Line(length), nullable=False, server_default=""))
    op.add_column("source", sa.Column("instance_number", sa.Integer()))
    op.add_column("source", sa.Column("bits_allocated", sa.Integer()))
    op.add_column("result", sa.Column("series_number", sa.Integer()))


def _stored_object(name: str, owner: str) -> None:
    """A table of objects in the store, one for each row of `owner` and label."""
    op.create_table(
        name,
        sa.Column("id", types.BigId, primary_key=True),
        sa.Column(f"{owner}_id", types.BigId, sa.ForeignKey(f"{owner}.id"), nullable=False),
        sa.Column("label", sa.String(8), nullable=False),
        sa.Column("object_key", sa.String(256), nullable=False, unique=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", types.BigId, nullable=False),
        sa.Column("sop_instance_uid", sa.String(64), nullable=False, unique=True),
        sa.Column("series_instance_uid", sa.String(64), nullable=False),
        sa.Column("created_at", types.UtcDateTime(), nullable=False),
        sa.UniqueConstraint(f"{owner}_id", "label"),
    )
