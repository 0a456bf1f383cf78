"""What a page asks an archive: a command to the sender's process, and the wait for its answer."""

from __future__ import annotations

import time
from typing import Any

from db import audit, batches, commands, presence
from webui import auth
from webui.errors import ApiProblem, NotFound
from webui.security import client_address
from webui.services import services

SECONDS = 90.0
"""How long it may take; archives with millions of studies are slow."""


def ask(archive: str, kind: str, *, detail: dict[str, Any], **arguments: Any) -> tuple[int, dict[str, Any]]:
    """Number of the command and what the archive answered. `detail` is what the audit trail keeps.

    Raises :class:`ApiProblem` where no sender runs, nobody answers in time, or the archive says no.
    """
    here, who = services(), auth.actor()
    if here.settings.archive(archive) is None:
        raise NotFound("There is no such archive.")
    with here.database.write() as session:
        if not any(row.role == "sender" for row in presence.alive(session)):
            raise ApiProblem("No sender is running to do it.", status=503, kind="role-missing")
        batches.forget_searches(session)
        asked = {"archive": archive, "by": who.user_id, **arguments}
        number = commands.ask(session, batches.ROLE, kind, asked)
        audit.record(
            session, who.user, f"archive.{kind}", object_type="archive", object_id=archive,
            address=client_address(), detail=detail,
        )  # fmt: skip
    found = _wait(number, SECONDS)
    if found is None:
        raise ApiProblem("The archive did not answer in time.", status=504, kind="no-answer")
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
