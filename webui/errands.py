"""What a page needs of another role: a command is left for it, and its answer waited for."""

from __future__ import annotations

import time
from typing import Any

from db import commands, presence
from db.models import Command
from webui.errors import ApiProblem
from webui.services import services


def run(
    role: str, kind: str, arguments: dict[str, Any], *, seconds: float, forget: bool = False
) -> dict[str, Any]:
    """The answer of a role to a command.

    forget: question and answer are removed once they are read, or given up: they may hold patient data.

    Raises :class:`ApiProblem` 503 where no such role runs, 504 where it does not answer in time.
    """
    here = services()
    with here.database.write() as session:
        if not any(row.role == role for row in presence.alive(session)):
            raise ApiProblem(f"No {role} is running to do it.", status=503, kind="role-missing")
        number = commands.ask(session, role, kind, arguments)
    try:
        found = _wait(number, seconds)
    finally:
        if forget:
            with here.database.write() as session:
                session.query(Command).filter(Command.id == number).delete()
    if found is None:
        raise ApiProblem(f"The {role} did not answer in time.", status=504, kind="no-answer")
    return found


def _wait(number: int, seconds: float) -> dict[str, Any] | None:
    deadline, pause = time.monotonic() + seconds, 0.05
    while time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(0.5, pause * 1.5)
        with services().database.read() as session:
            command = commands.result(session, number)
            if command is not None and command.answer is not None:
                return command.answer
    return None
