"""Who did what and when. Rows are only added; the database itself refuses to change or remove one."""

from __future__ import annotations

from typing import Any, Literal

from sqlalchemy.orm import Session

from db.models import AuditEvent

Outcome = Literal["success", "refused", "failure"]


def record(
    session: Session,
    actor: str,
    action: str,
    *,
    object_type: str | None = None,
    object_id: int | str | None = None,
    address: str | None = None,
    outcome: Outcome | str = "success",
    detail: dict[str, Any] | None = None,
) -> AuditEvent:
    """Add an entry in the caller's transaction; what was done and its entry stand or fall together.

    `actor` is a user's name or a role, `action` a word with a dot (`login`, `job.retry`, `user.disable`).
    """
    entry = AuditEvent(
        actor=actor[:128],
        action=action,
        object_type=object_type,
        object_id=None if object_id is None else str(object_id)[:64],
        address=address,
        outcome=outcome,
        detail=detail or {},
    )
    session.add(entry)
    return entry
