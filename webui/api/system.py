"""How the node is: roles, destinations, disk, model, device; and a C-ECHO on request."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from flask import Blueprint, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from config import Destination
from db import audit, browse, commands, deliveries, presence
from db.models import PeerStatus, RoleInstance
from db.states import JobState
from webui import auth
from webui.api.operations import answer, operation
from webui.errors import ApiProblem, NotFound
from webui.security import client_address
from webui.services import Services, services

blueprint = Blueprint("system", __name__)

ROLES = ("receiver", "worker", "sender", "web", "scheduler")
ECHO_SECONDS = 15.0


class RoleView(BaseModel):
    """A running process."""

    role: str
    host: str
    pid: int
    started_at: datetime
    beat_at: datetime
    info: dict[str, Any] = Field(description="The role's own facts: ports, model, device, counts.")

    @classmethod
    def of(cls, row: RoleInstance) -> RoleView:
        return cls.model_validate(row, from_attributes=True)


class DestinationView(BaseModel):
    """A configured archive, and how it answered last."""

    name: str
    ae_title: str
    host: str
    port: int
    tls: bool
    storage_commitment: bool
    default: bool
    reachable: bool | None = Field(description="None before the first answer.")
    checked_at: datetime | None
    seconds: float | None
    message: str | None
    open_deliveries: int

    @classmethod
    def of(cls, destination: Destination, status: PeerStatus | None, open_deliveries: int) -> DestinationView:
        return cls(
            name=destination.name,
            ae_title=destination.ae_title,
            host=destination.host,
            port=destination.port,
            tls=destination.tls,
            storage_commitment=destination.storage_commitment,
            default=destination.default,
            reachable=status.reachable if status else None,
            checked_at=status.checked_at if status else None,
            seconds=status.seconds if status else None,
            message=status.message if status else None,
            open_deliveries=open_deliveries,
        )


class DiskView(BaseModel):
    """Room where objects lie; null where the store does not know."""

    free_bytes: int | None
    total_bytes: int | None
    reserve_bytes: int
    accepts: bool = Field(description="Whether new objects are taken.")


class EnhancerView(BaseModel):
    """Model and device: those a living worker names, else those that are configured."""

    model: str
    version: str | None
    device: str
    running: bool
    problem: str | None = Field(description="Why a running worker cannot enhance.")


class SystemView(BaseModel):
    roles: list[RoleView]
    missing: list[str] = Field(description="Roles of which no process is alive.")
    destinations: list[DestinationView]
    disk: DiskView
    enhancer: EnhancerView
    jobs: dict[JobState, int]
    ae_title: str
    dicom_port: int | None


class Echo(BaseModel):
    """The answer to a C-ECHO."""

    destination: str
    ok: bool
    seconds: float | None
    message: str


@blueprint.get("/system")
@auth.role("radiologist")
@operation("How the node is", tag="system", answers={200: SystemView})
def system() -> Response:
    """Roles alive, destinations with their last echo and open deliveries, disk, model and device."""
    here = services()
    with here.database.read() as session:
        return answer(overview(session, here))


def overview(session: Session, here: Services) -> SystemView:
    """What the system page and its route show."""
    rows = presence.alive(session)
    alive = {row.role for row in rows}
    receiver = next((row.info for row in rows if row.role == "receiver"), {})
    port = receiver.get("port")
    return SystemView(
        roles=[RoleView.of(row) for row in rows],
        missing=[role for role in ROLES if role not in alive],
        destinations=[_destination(session, item) for item in here.settings.destinations],
        disk=disk(here),
        enhancer=_enhancer(here, [row.info for row in rows if row.role == "worker"]),
        jobs=browse.counts(session),
        ae_title=here.settings.dicom.ae_title,
        dicom_port=port if isinstance(port, int) else None,
    )


def disk(here: Services) -> DiskView:
    """Room of the store, and whether it takes more."""
    room = here.store.room()
    reserve = here.settings.storage.reserve_bytes
    return DiskView(
        free_bytes=room.free_bytes,
        total_bytes=room.total_bytes,
        reserve_bytes=reserve,
        accepts=room.free_bytes is None or room.free_bytes >= reserve,
    )


def _destination(session: Session, destination: Destination) -> DestinationView:
    status = session.get(PeerStatus, destination.name)
    return DestinationView.of(destination, status, deliveries.open_count(session, destination.name))


def _enhancer(here: Services, workers: list[dict[str, Any]]) -> EnhancerView:
    able = [info for info in workers if not info.get("problem")]
    info = (able or workers or [{}])[0]
    configured = here.settings.enhancer
    version = info.get("version")
    return EnhancerView(
        model=str(info.get("model") or configured.model.rsplit("/", 1)[-1]),
        version=str(version) if version else None,
        device=str(info.get("device") or configured.device),
        running=bool(workers),
        problem=str(info["problem"]) if info.get("problem") else None,
    )


@blueprint.post("/destinations/<name>/echo")
@auth.role("radiologist")
@operation("Send a C-ECHO to a destination", tag="system", answers={200: Echo}, problems=(503, 504))
def echo(name: str) -> Response:
    """The sender does it; the answer may take some seconds."""
    here = services()
    if here.settings.destination(name) is None:
        raise NotFound("There is no such destination.")
    with here.database.write() as session:
        if not any(row.role == "sender" for row in presence.alive(session)):
            raise ApiProblem("No sender is running to do it.", status=503, kind="role-missing")
        number = commands.ask(session, "sender", "echo", {"destination": name})
        audit.record(
            session, auth.actor().user, "destination.echo", object_type="destination", object_id=name,
            address=client_address(),
        )  # fmt: skip
    found = _wait(here, number, ECHO_SECONDS)
    if found is None:
        raise ApiProblem("The sender did not answer in time.", status=504, kind="no-answer")
    seconds = found.get("seconds")
    return answer(
        Echo(
            destination=name,
            ok=found.get("ok") is True,
            seconds=float(seconds) if isinstance(seconds, int | float) else None,
            message=str(found.get("message") or ""),
        )
    )


def _wait(here: Services, number: int, longest: float) -> dict[str, Any] | None:
    deadline = time.monotonic() + longest
    pause = 0.05
    while time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(0.3, pause * 1.5)
        with here.database.read() as session:
            command = commands.result(session, number)
            if command is not None and command.answer is not None:
                return command.answer
    return None
