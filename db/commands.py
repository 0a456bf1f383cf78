"""What one role asks of another: a page wants a destination echoed, the sender does it and answers here."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from db.models import Command
from db.types import utcnow

WAITING, TAKEN, ANSWERED = "waiting", "taken", "answered"

STALE = timedelta(minutes=2)
"""A command nobody took within this time is not worth doing any more."""


def ask(session: Session, role: str, kind: str, arguments: dict[str, Any]) -> int:
    """Leave a command for a role; the number is for :func:`result`."""
    command = Command(role=role, kind=kind, arguments=arguments)
    session.add(command)
    session.flush()
    return command.id


def take(session: Session, role: str) -> Command | None:
    """The oldest fresh command for a role, now ours alone. Needs a write session."""
    candidate = (
        select(Command.id)
        .where(Command.role == role, Command.state == WAITING, Command.created_at >= utcnow() - STALE)
        .order_by(Command.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    taken = session.execute(
        update(Command)
        .where(Command.id == candidate, Command.state == WAITING)
        .values(state=TAKEN, taken_at=utcnow())
        .returning(Command.id),
        execution_options={"synchronize_session": False},
    ).scalar()
    return None if taken is None else session.get(Command, taken, populate_existing=True)


def answer(session: Session, command_id: int, answer: dict[str, Any]) -> None:
    """What came of a command; only the first answer counts."""
    session.execute(
        update(Command)
        .where(Command.id == command_id, Command.state != ANSWERED)
        .values(state=ANSWERED, answer=answer, answered_at=utcnow()),
        execution_options={"synchronize_session": False},
    )


def result(session: Session, command_id: int) -> Command | None:
    """The command as it stands: `state` is `answered` once `answer` is there."""
    return session.get(Command, command_id, populate_existing=True)
