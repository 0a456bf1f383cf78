"""Run by Alembic for each command; the connection, its lock and its transaction are the caller's."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context

import db.desk
import db.exchange  # noqa: F401 - its tables belong to the metadata
from db.models import Base
from db.types import Json, Line, UtcDateTime


def render_item(kind: str, item: Any, _autogen: object) -> str | Literal[False]:
    """Write our column types into new revisions by their short names."""
    if kind != "type":
        return False
    if isinstance(item, UtcDateTime | Json):
        return f"types.{type(item).__name__}()"
    if isinstance(item, Line):
        return f"types.Line({item.length})"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    render_item=render_item,
    transactional_ddl=True,
    transaction_per_migration=False,
)
context.run_migrations()
