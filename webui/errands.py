"""What a page needs of another role: a command is left for it, and its answer waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from db import audit, batches, commands, presence
from db.models import Command
from webui import auth
from webui.errors import ApiProblem, NotFound
from webui.security import client_address
from webui.services import services

ARCHIVE_SECONDS = 90.0
"""How long an archive may take; those with millions of studies are slow."""


def run(
    role: str,
    kind: str,
    arguments: dict[str, Any],
    *,
    seconds: float,
    by: str = "",
    forget: bool = False,
    beside: Callable[[Session], None] | None = None,
) -> tuple[int, dict[str, Any]]:
    """Number of the command, and what the role answered.

    by: the process that sees to the role's commands, where it is another one.
    forget: question and answer are removed once they are read, or given up: they may hold patient data.
    beside: what is written in the transaction that leaves the command.

    Raises :class:`ApiProblem` 503 where no such role runs, 504 where it does not answer in time.
    """
    here, by = services(), by or role
    with here.database.write() as session:
        if not any(row.role == by for row in presence.alive(session)):
            raise ApiProblem(f"No {by} is running to do it.", status=503, kind="role-missing")
        number = commands.ask(session, role, kind, arguments)
        if beside is not None:
            beside(session)
    try:
        found = _wait(number, seconds)
    finally:
        if forget:
            with here.database.write() as session:
                session.execute(delete(Command).where(Command.id == number))
    if found is None:
        raise ApiProblem(f"The {by} did not answer in time.", status=504, kind="no-answer")
    return number, found


def ask_archive(
    archive: str, kind: str, *, detail: dict[str, Any], **arguments: Any
) -> tuple[int, dict[str, Any]]:
    """Number of the command and what the archive answered. `detail` is what the audit trail keeps.

    Raises :class:`ApiProblem` as `run` does, and where the archive says no.
    """
    who = auth.actor()
    if services().settings.archive(archive) is None:
        raise NotFound("There is no such archive.")

    def beside(session: Session) -> None:
        batches.forget_searches(session)
        audit.record(
            session, who.user, f"archive.{kind}", object_type="archive", object_id=archive,
            address=client_address(), detail=detail,
        )  # fmt: skip

    asked = {"archive": archive, "by": who.user_id, **arguments}
    number, found = run(batches.ROLE, kind, asked, seconds=ARCHIVE_SECONDS, by="sender", beside=beside)
    if not found.get("ok"):
        said = str(found.get("message") or "it failed")
        raise ApiProblem(f"The search did not work: {said}.", status=502, kind="archive")
    return number, found


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
