"""Fetching from archives: search one, have studies fetched as a batch, follow and steer it.

The sender's process does the work. What is searched for comes in a body and is never logged; what was found
lies in the command's answer for some minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from sqlalchemy.orm import Session

from config.network import Archive
from db import audit, batches, commands
from db.exchange import BatchItem
from db.models import Batch
from webui import auth, errands, trail
from webui.api.operations import answer, operation, read_body
from webui.api.values import Day
from webui.errors import Invalid, NotFound
from webui.idempotency import idempotent
from webui.security import client_address
from webui.services import services

blueprint = Blueprint("batches", __name__)

_KIND = "search"


class ArchiveView(BaseModel):
    """A configured archive."""

    name: str
    kind: Literal["dimse", "dicomweb"]
    address: str

    @classmethod
    def of(cls, archive: Archive) -> ArchiveView:
        dimse = f"{archive.ae_title}@{archive.host}:{archive.port}"
        return cls(
            name=archive.name, kind=archive.kind, address=dimse if archive.kind == "dimse" else archive.url
        )


class Archives(BaseModel):
    archives: list[ArchiveView]


Text = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=64, pattern=r"^[^\\\x00-\x1f\x7f]*$")
]


class ArchiveSearch(BaseModel):
    """All that are given must fit; something must be given. `*` and `?` are wildcards."""

    model_config = ConfigDict(extra="forbid")

    patient: Text = Field("", description="Patient ID.")
    name: Text = Field("", description="Patient's name as DICOM writes it: `DOE^JANE`.")
    accession: Text = ""
    study_from: Day | None = None
    study_to: Day | None = None
    modality: Annotated[
        str, StringConstraints(strip_whitespace=True, to_upper=True, pattern=r"^[A-Za-z0-9_, ]{0,64}$")
    ] = Field("", description="One code or several with commas between them; left out: CR and DX.")
    limit: int = Field(100, ge=1, le=500)

    @model_validator(mode="after")
    def _asks_for_something(self) -> ArchiveSearch:
        if not (self.patient or self.name or self.accession or self.study_from or self.study_to):
            raise ValueError("a search needs a patient, a name, an accession number or a date")
        return self

    @property
    def terms(self) -> dict[str, str]:
        """As the fetcher reads them."""
        days = [f"{day:%Y%m%d}" if day else "" for day in (self.study_from, self.study_to)]
        terms = {name: getattr(self, name) for name in ("patient", "name", "accession", "modality")}
        if any(days):
            terms["date"] = "-".join(days)
        return {name: value for name, value in terms.items() if value}


class FoundStudy(BaseModel):
    """A study of an archive, as the archive describes it."""

    study: str = Field(description="Study Instance UID.")
    shown: dict[str, Any] = Field(description="DICOM keywords to what the archive said.")


class FoundStudies(BaseModel):
    search: int = Field(description="Number of this search, to make a batch of what it found.")
    studies: list[FoundStudy]
    more: bool = Field(description="There are more than `limit`.")


class NewBatch(BaseModel):
    """Studies of a search that was made a short while ago, and how they are to be enhanced."""

    model_config = ConfigDict(extra="forbid")

    search: int
    studies: list[str] | None = Field(None, description="Study Instance UIDs; left out: all that were found.")
    scale: Literal["auto", "2", "4"] = Field("auto", description="auto: as the rules say.")
    model: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None
    destination: list[str] = Field(default_factory=list, description="Left out: where the rules say.")
    name: Annotated[str, StringConstraints(strip_whitespace=True, max_length=128)] = ""


class BatchView(BaseModel):
    """A batch and how far it is."""

    id: int
    name: str
    state: batches.BatchState
    archive: str | None
    created_at: datetime
    finished_at: datetime | None
    studies: dict[str, int] = Field(description="How many studies are in each state.")
    jobs: dict[str, int] = Field(description="How many of its jobs are in each state.")
    received: int = Field(description="Objects that came.")
    total: int
    ended: int = Field(description="Studies with which nothing more happens by itself.")

    @classmethod
    def of(cls, session: Session, batch: Batch) -> BatchView:
        found = batches.progress(session, batch.id)
        return cls(
            id=batch.id,
            name=batch.name,
            state=batches.BatchState(batch.state),
            archive=batch.archive,
            created_at=batch.created_at,
            finished_at=batch.finished_at,
            studies=found.studies,
            jobs=found.jobs,
            received=found.received,
            total=found.total,
            ended=found.ended,
        )

    @property
    def actions(self) -> list[str]:
        """What its state allows."""
        steps = {"open": ["pause", "cancel"], "paused": ["resume", "cancel"]}.get(self.state.value, [])
        return steps + (["retry"] if self.studies.get("failed") and self.state.value != "cancelled" else [])


class Batches(BaseModel):
    batches: list[BatchView]


class ItemView(BaseModel):
    """A study of a batch."""

    study: str
    state: batches.ItemState
    reason: str | None
    received: int
    attempts: int
    shown: dict[str, Any]
    jobs: dict[str, int]

    @classmethod
    def of(cls, item: BatchItem, jobs: dict[str, int]) -> ItemView:
        return cls(
            study=item.study_instance_uid,
            state=batches.ItemState(item.state),
            reason=item.reason,
            received=item.received,
            attempts=item.attempts,
            shown=item.shown,
            jobs=jobs,
        )


class BatchDetail(BatchView):
    items: list[ItemView]


@blueprint.get("/archives")
@auth.role("radiologist")
@operation("Archives that can be searched", tag="batches", answers={200: Archives})
def archives() -> Response:
    """As they are configured."""
    return answer(Archives(archives=[ArchiveView.of(one) for one in services().settings.archives]))


@blueprint.post("/archives/<name>/search")
@auth.role("radiologist")
@operation(
    "Search an archive for studies", tag="batches", body=ArchiveSearch, answers={200: FoundStudies},
    problems=(502, 503, 504),
)  # fmt: skip
def search(name: str) -> Response:
    """The sender asks the archive; the answer may take a while. What it found is kept for some minutes."""
    return answer(found_in(name, read_body(ArchiveSearch)))


@blueprint.get("/batches")
@auth.role("radiologist")
@operation("Batches of fetched studies, newest first", tag="batches", answers={200: Batches})
def listing() -> Response:
    """The last hundred."""
    with services().database.read() as session:
        return answer(Batches(batches=recent(session, 100)))


@blueprint.post("/batches")
@auth.role("radiologist")
@operation(
    "Fetch studies and enhance them", tag="batches", body=NewBatch, answers={201: BatchView}, problems=(409,)
)
@idempotent
def create() -> Response:
    """Of what a search found. Their images wait behind everything clinical."""
    return answer(begin(read_body(NewBatch)), 201)


@blueprint.get("/batches/<int:batch_id>")
@auth.role("radiologist")
@operation("Look at a batch", tag="batches", answers={200: BatchDetail})
def show(batch_id: int) -> Response:
    """How far it is, and each of its studies."""
    with services().database.read() as session:
        return answer(detail(session, batch_id))


@blueprint.post("/batches/<int:batch_id>/pause")
@auth.role("radiologist")
@operation("Pause a batch", tag="batches", answers={200: BatchView}, problems=(409,))
def pause(batch_id: int) -> Response:
    """No further study is fetched; what is here is still enhanced."""
    return _act(batch_id, "pause", batches.pause)


@blueprint.post("/batches/<int:batch_id>/resume")
@auth.role("radiologist")
@operation("Go on with a batch", tag="batches", answers={200: BatchView}, problems=(409,))
def resume(batch_id: int) -> Response:
    """Of a paused one the next study is fetched."""
    return _act(batch_id, "resume", batches.resume)


@blueprint.post("/batches/<int:batch_id>/cancel")
@auth.role("radiologist")
@operation("Cancel a batch", tag="batches", answers={200: BatchView}, problems=(409,))
def cancel(batch_id: int) -> Response:
    """Nothing more is fetched, and its jobs that wait are cancelled."""
    who = auth.actor().user
    return _act(batch_id, "cancel", lambda session, batch: batches.cancel(session, batch, actor=who))


@blueprint.post("/batches/<int:batch_id>/retry")
@auth.role("radiologist")
@operation("Fetch failed studies again", tag="batches", answers={200: BatchView}, problems=(409,))
def retry(batch_id: int) -> Response:
    """Of a batch that was not cancelled."""
    return _act(batch_id, "retry", batches.retry)


def found_in(name: str, wanted: ArchiveSearch) -> FoundStudies:
    """Have an archive searched and wait for the answer. Raises :class:`ApiProblem`."""
    number, found = errands.ask_archive(
        name, _KIND, detail=trail.kept(wanted.terms), terms=wanted.terms, limit=wanted.limit
    )
    return FoundStudies(search=number, studies=found["studies"], more=bool(found.get("more")))


def begin(wanted: NewBatch) -> BatchView:
    """Make a batch of what a search found. Raises :class:`Invalid` where nothing is chosen or known."""
    here, who = services(), auth.actor()
    unknown = [name for name in wanted.destination if here.settings.destination(name) is None]
    if unknown:
        raise Invalid(
            "There is no such destination.", errors=[{"field": "destination", "message": "not configured"}]
        )
    requested: dict[str, Any] = {}
    if wanted.scale != "auto":
        requested["scale"] = int(wanted.scale)
    if wanted.model:
        requested["model"] = wanted.model
    if wanted.destination:
        requested["destinations"] = list(dict.fromkeys(wanted.destination))
    with here.database.write() as session:
        arguments, found = _answer_to(session, wanted.search, who.user_id)
        chosen = [
            batches.Chosen(study["study"], study["shown"])
            for study in found["studies"]
            if wanted.studies is None or study["study"] in wanted.studies
        ]
        if not chosen:
            raise Invalid("No study is chosen.", errors=[{"field": "studies", "message": "none is chosen"}])
        query = {
            "modalities": found["modalities"],
            "matches": arguments["terms"],
            "requested": requested,
        }
        batch = batches.create(
            session, arguments["archive"], chosen, query=query, name=wanted.name, created_by=who.user_id
        )
        audit.record(
            session, who.user, "batch.create", object_type="batch", object_id=batch.id,
            address=client_address(), detail={"archive": batch.archive, "studies": len(chosen)},
        )  # fmt: skip
        return BatchView.of(session, batch)


def recent(session: Session, limit: int) -> list[BatchView]:
    """The newest batches."""
    return [BatchView.of(session, batch) for batch in batches.listing(session, limit)]


def detail(session: Session, batch_id: int) -> BatchDetail:
    """A batch with its studies, or 404."""
    batch = _find(session, batch_id)
    jobs = batches.jobs_by_study(session, batch_id)
    items = [
        ItemView.of(one, jobs.get(one.study_instance_uid, {})) for one in batches.items(session, batch_id)
    ]
    return BatchDetail(**BatchView.of(session, batch).model_dump(), items=items)


def _answer_to(session: Session, number: int, user_id: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments and answer of a search that this person made."""
    command = commands.result(session, number) if number < 1 << 63 else None
    mine = command is not None and command.role == batches.ROLE and command.arguments.get("by") == user_id
    if not mine or command is None or not command.answer or not command.answer.get("ok"):
        raise Invalid(
            "That search is over: search again.",
            errors=[{"field": "search", "message": "not known any more"}],
        )
    return command.arguments, command.answer


def _find(session: Session, batch_id: int) -> Batch:
    batch = batches.get(session, batch_id) if batch_id < 1 << 63 else None
    if batch is None:
        raise NotFound("There is no such batch.")
    return batch


def _act(batch_id: int, action: str, change: Callable[[Session, Batch], object]) -> Response:
    """Change a batch in one transaction with its audit entry; IllegalTransition becomes 409."""
    who = auth.actor().user
    with services().database.write() as session:
        batch = _find(session, batch_id)
        change(session, batch)
        audit.record(
            session, who, f"batch.{action}", object_type="batch", object_id=batch_id, address=client_address()
        )
        session.flush()
        session.refresh(batch)
        return answer(BatchView.of(session, batch))
