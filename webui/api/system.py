"""How the node is: roles, destinations, disk, model, device; and a C-ECHO on request."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any, Self

from flask import Blueprint, Response
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from config import Destination
from config.network import Archive, Remote
from config.settings import DicomSettings
from db import audit, browse, deliveries, presence
from db.models import PeerStatus, RoleInstance
from db.states import JobState
from webui import auth, errands
from webui.api.operations import answer, operation
from webui.errors import NotFound
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
        told = {key: value for key, value in row.info.items() if key != "settings"}
        return cls(
            role=row.role,
            host=row.host,
            pid=row.pid,
            started_at=row.started_at,
            beat_at=row.beat_at,
            info=told,
        )


class PeerView(BaseModel):
    """A configured archive or destination, and how it answered last."""

    name: str
    kind: str = Field(description="dimse or dicomweb.")
    ae_title: str
    host: str
    port: int
    url: str = Field(description="Of one that speaks DICOMweb.")
    tls: bool
    reachable: bool | None = Field(description="None before the first answer.")
    checked_at: datetime | None
    seconds: float | None
    message: str | None

    @classmethod
    def of(cls, remote: Remote, status: PeerStatus | None, **more: Any) -> Self:
        return cls(
            name=remote.name,
            kind=remote.kind,
            ae_title=remote.ae_title,
            host=remote.host,
            port=remote.port,
            url=remote.url,
            tls=remote.tls,
            reachable=status.reachable if status else None,
            checked_at=status.checked_at if status else None,
            seconds=status.seconds if status else None,
            message=status.message if status else None,
            **more,
        )


class DestinationView(PeerView):
    """A destination: an archive that results go to."""

    storage_commitment: bool
    default: bool
    open_deliveries: int


class DiskView(BaseModel):
    """Room where objects lie; null where the store does not know."""

    free_bytes: int | None
    total_bytes: int | None
    reserve_bytes: int = Field(description="Kept free: the larger of the two counts of the reserve.")
    accepts: bool = Field(description="Whether new objects are taken.")


class CertificateView(BaseModel):
    """A configured certificate, as the scheduler found it last."""

    keys: str = Field(description="The settings that name its file.")
    subject: str
    until: datetime | None
    trouble: str | None = Field(description="What somebody has to do about it.")


class DoorView(BaseModel):
    """The receiver's listeners, and who is there."""

    ae_titles: list[str]
    port: int | None = Field(description="Of the plain listener.")
    tls_port: int | None
    tls_profile: str | None
    callers_show_certificates: bool
    associations: int | None
    connections: int | None = Field(description="Silent ones included.")
    max_associations: int
    max_associations_per_peer: int
    refused: dict[str, int] = Field(description="Callers turned away since the receiver began, by reason.")
    problem: str | None = Field(description="Why the TLS listener keeps an older certificate.")


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
    archives: list[PeerView]
    disk: DiskView
    enhancer: EnhancerView
    jobs: dict[JobState, int]
    ae_title: str
    dicom_port: int | None
    door: DoorView
    certificates: list[CertificateView]


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
    receivers = [row.info for row in rows if row.role == "receiver"]
    door = _door(here.settings.dicom, receivers)
    shown: list[Any] = next((row.info["certificates"] for row in rows if row.info.get("certificates")), [])
    return SystemView(
        roles=[RoleView.of(row) for row in rows],
        missing=[role for role in ROLES if role not in alive],
        destinations=[_destination(session, item) for item in here.settings.destinations],
        archives=[_archive(session, item) for item in here.settings.archives],
        disk=disk(here),
        enhancer=_enhancer(here, [row.info for row in rows if row.role == "worker"]),
        jobs=browse.counts(session),
        ae_title=here.settings.dicom.ae_title,
        dicom_port=door.port,
        door=door,
        certificates=[CertificateView.model_validate(one) for one in shown],
    )


def disk(here: Services) -> DiskView:
    """Room of the store, and whether it takes more."""
    room = here.store.room()
    return DiskView(
        free_bytes=room.free_bytes,
        total_bytes=room.total_bytes,
        reserve_bytes=room.reserve_bytes,
        accepts=room.accepts,
    )


def _destination(session: Session, destination: Destination) -> DestinationView:
    return DestinationView.of(
        destination,
        session.get(PeerStatus, destination.name),
        storage_commitment=destination.storage_commitment,
        default=destination.default,
        open_deliveries=deliveries.open_count(session, destination.name),
    )


def _archive(session: Session, archive: Archive) -> PeerView:
    return PeerView.of(archive, session.get(PeerStatus, archive.peer))


def _door(dicom: DicomSettings, receivers: list[dict[str, Any]]) -> DoorView:
    """What the settings say and the running receivers tell; counts of several are added."""
    first = receivers[0] if receivers else {}
    refused: Counter[str] = Counter()
    for info in receivers:
        refused.update(info.get("refused") or {})
    return DoorView(
        ae_titles=[dicom.ae_title, *dicom.ae_titles],
        port=first.get("port"),
        tls_port=first.get("tls_port"),
        tls_profile=dicom.tls.profile if dicom.tls else None,
        callers_show_certificates=bool(dicom.tls and dicom.tls.ca),
        associations=sum(info.get("associations", 0) for info in receivers) if receivers else None,
        connections=sum(info.get("connections", 0) for info in receivers) if receivers else None,
        max_associations=dicom.max_associations,
        max_associations_per_peer=dicom.max_associations_per_peer,
        refused=dict(sorted(refused.items())),
        problem=next((info["problem"] for info in receivers if info.get("problem")), None),
    )


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
        problem=info.get("problem") or info.get("degraded") or None,
    )


@blueprint.post("/destinations/<name>/echo")
@auth.role("radiologist")
@operation("Send a C-ECHO to a destination", tag="system", answers={200: Echo}, problems=(503, 504))
def echo(name: str) -> Response:
    """The sender does it, by DICOMweb with a search for one study; the answer may take some seconds."""
    if services().settings.destination(name) is None:
        raise NotFound("There is no such destination.")
    return answer(_echoed("destination", name))


@blueprint.post("/archives/<name>/echo")
@auth.role("radiologist")
@operation("Send a C-ECHO to an archive", tag="system", answers={200: Echo}, problems=(503, 504))
def echo_archive(name: str) -> Response:
    """As to a destination."""
    if services().settings.archive(name) is None:
        raise NotFound("There is no such archive.")
    return answer(_echoed("archive", name))


def _echoed(kind: str, name: str) -> Echo:
    def beside(session: Session) -> None:
        audit.record(
            session, auth.actor().user, f"{kind}.echo", object_type=kind, object_id=name,
            address=client_address(),
        )  # fmt: skip

    _number, found = errands.run("sender", "echo", {kind: name}, seconds=ECHO_SECONDS, beside=beside)
    seconds = found.get("seconds")
    return Echo(
        destination=name,
        ok=found.get("ok") is True,
        seconds=float(seconds) if isinstance(seconds, int | float) else None,
        message=str(found.get("message") or ""),
    )
