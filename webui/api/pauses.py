"""Letting intake, processing or the deliveries to one destination stand still, and go on."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from sqlalchemy.orm import Session

from db import audit, pauses
from db.desk import Pause
from webui import auth
from webui.api.operations import answer, operation, read_body
from webui.errors import Conflict, NotFound
from webui.security import client_address
from webui.services import services

blueprint = Blueprint("pauses", __name__)


class PauseView(BaseModel):
    """Something that stands still."""

    what: str = Field(description="`intake`, `processing`, or `destination:NAME`.")
    actor: str
    reason: str
    at: datetime

    @classmethod
    def of(cls, row: Pause) -> PauseView:
        return cls.model_validate(row, from_attributes=True)


class Pauses(BaseModel):
    pauses: list[PauseView]


class Resume(BaseModel):
    model_config = ConfigDict(extra="forbid")

    what: Annotated[str, StringConstraints(strip_whitespace=True, max_length=80)] = Field(
        description="`intake`, `processing`, or `destination:NAME`.", examples=["destination:pacs"]
    )


class NewPause(Resume):
    reason: Annotated[str, StringConstraints(strip_whitespace=True, max_length=256)] = Field(
        "", description="Why, for whoever wonders; no patient data."
    )


@blueprint.get("/pauses")
@auth.role("radiologist")
@operation("What stands still", tag="system", answers={200: Pauses})
def listing() -> Response:
    """Intake, processing and destinations that somebody has paused."""
    with services().database.read() as session:
        return answer(told(session))


@blueprint.post("/pauses")
@auth.role("admin")
@operation(
    "Pause intake, processing or a destination", tag="system", body=NewPause, answers={200: Pauses},
    problems=(409,),
)  # fmt: skip
def pause() -> Response:
    """Holds from the next claim or arrival on; what runs may end, what has been acknowledged is kept."""
    wanted = read_body(NewPause)
    stop(wanted.what, wanted.reason)
    with services().database.read() as session:
        return answer(told(session))


@blueprint.post("/pauses/resume")
@auth.role("admin")
@operation(
    "Let intake, processing or a destination go on", tag="system", body=Resume, answers={200: Pauses},
    problems=(409,),
)  # fmt: skip
def resume() -> Response:
    """Deliveries that waited get back the time that they stood still."""
    go_on(read_body(Resume).what)
    with services().database.read() as session:
        return answer(told(session))


def told(session: Session) -> Pauses:
    """Everything that stands still."""
    return Pauses(pauses=[PauseView.of(row) for row in pauses.all_pauses(session)])


def stop(what: str, reason: str) -> None:
    """Pause it as the one who asks. Raises :class:`Conflict`, :class:`NotFound`."""
    here, who = services(), auth.actor().user
    name = pauses.destination_in(what)
    known = what in {pauses.INTAKE, pauses.PROCESSING} if name is None else here.settings.destination(name)
    if not known:
        raise NotFound("There is nothing of that name to pause.")
    try:
        with here.database.write() as session:
            pauses.pause(session, what, actor=who, reason=reason)
            _note(session, "pause", what, {"reason": reason} if reason else None)
    except pauses.AlreadyPaused as error:
        raise Conflict(f"{error}.") from error


def go_on(what: str) -> None:
    """Let it go on, also a destination that is not configured any more. Raises :class:`Conflict`."""
    try:
        with services().database.write() as session:
            pauses.resume(session, what)
            _note(session, "resume", what)
    except pauses.NotPaused as error:
        raise Conflict(f"{error}.") from error


def _note(session: Session, action: str, what: str, detail: dict[str, str] | None = None) -> None:
    audit.record(
        session, auth.actor().user, f"queue.{action}", object_type="pause", object_id=what,
        address=client_address(), detail=detail,
    )  # fmt: skip
