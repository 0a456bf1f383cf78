"""The audit trail is chained and sealed: a changed or missing row is found."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from db import types

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _chains()
    _seals()


def _chains() -> None:
    """Rows that are there stay without a chain; the first seal takes them as they are."""
    op.add_column("audit_event", sa.Column("chain", sa.String(40)))
    op.add_column("audit_event", sa.Column("number", types.BigId))
    op.add_column("audit_event", sa.Column("digest", sa.String(64)))
    op.create_index("ix_audit_event_chain", "audit_event", ["chain", "number"], unique=True)


def _seals() -> None:
    op.create_table(
        "audit_seal",
        sa.Column("id", types.BigId, primary_key=True),
        sa.Column("at", types.UtcDateTime(), nullable=False),
        sa.Column("rows", types.BigId, nullable=False),
        sa.Column("position", types.BigId, nullable=False),
        sa.Column("heads", types.Json(), nullable=False),
        sa.Column("before", types.Json()),
        sa.Column("previous", sa.String(64), nullable=False, unique=True),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
    )
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_seal_no_{change.lower()} BEFORE {change} ON audit_seal "
                "BEGIN SELECT RAISE(ABORT, 'audit seals are only added'); END"
            )
        return
    op.execute(
        "CREATE TRIGGER audit_seal_only_grows BEFORE UPDATE OR DELETE ON audit_seal "
        "FOR EACH ROW EXECUTE FUNCTION audit_event_only_grows()"
    )
    for table in ("audit_event", "audit_seal"):
        op.execute(
            f"CREATE TRIGGER {table}_never_empties BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION audit_event_only_grows()"
        )
