"""An image is its bytes and whose it is: the same picture uploaded for another patient is another source."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("source", sa.Column("identity", sa.String(64), nullable=True))
    op.execute("UPDATE source SET identity = sha256")
    with op.batch_alter_table("source") as source:
        source.alter_column("identity", existing_type=sa.String(64), nullable=False)
        source.drop_constraint("uq_source_sha256", type_="unique")
        source.create_unique_constraint("uq_source_identity", ["identity"])
        source.create_index("ix_source_sha256", ["sha256"])
