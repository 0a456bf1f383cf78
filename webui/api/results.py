"""Results to take home and to send on: all their depth, pictures for a talk, many in one archive."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, BinaryIO, Literal, Self

from flask import Blueprint, Response, request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from config.network import Destination
from db import audit, queue, sending
from db.deliveries import Address
from db.intact import intact
from db.models import Job, Result
from db.objects import ObjectStore
from db.picks import NotPicked
from db.states import IllegalTransition, JobState
from webui import auth, bundle, pictures
from webui.api.jobs import find
from webui.api.models import JobDetail
from webui.api.objects import CHUNK, kept
from webui.api.operations import answer, operation, read_body, read_query
from webui.api.values import Number
from webui.bundle import Entry
from webui.errors import Conflict, Invalid, NotFound
from webui.idempotency import idempotent
from webui.outcome import Box, Made, Values
from webui.security import client_address
from webui.services import services

blueprint = Blueprint("results", __name__)

MANY = 500
"""Jobs that are chosen at once, at most."""
PNG, ZIP = "image/png", "application/zip"
Kind = Literal["dicom", "png", "compare"]


class DepthQuery(BaseModel):
    model_config = ConfigDict(extra="forbid")

    values: Values = Field(
        "shown",
        description="`shown`: stored values in the highest bits, bright shown bright; `stored`: as they are, "
        "signed ones plus half their range. Both lose nothing.",
    )


class CompareQuery(BaseModel):
    """A region in pixels of the result, all four or none."""

    model_config = ConfigDict(extra="forbid")

    x: int | None = Field(None, ge=0, lt=1 << 16)
    y: int | None = Field(None, ge=0, lt=1 << 16)
    width: int | None = Field(None, ge=16, lt=1 << 16)
    height: int | None = Field(None, ge=16, lt=1 << 16)
    detail: bool = Field(False, description="The middle of a lung at its own size instead of the whole.")

    @model_validator(mode="after")
    def _whole_region(self) -> Self:
        if len({value is None for value in (self.x, self.y, self.width, self.height)}) > 1:
            raise ValueError("a region needs x, y, width and height")
        return self

    def box(self, made: Made) -> Box | None:
        """Edges in pixels of the result. Raises :class:`webui.errors.Invalid`."""
        if self.x is None or self.y is None or self.width is None or self.height is None:
            return pictures.middle(made) if self.detail else None
        right, lower = self.x + self.width, self.y + self.height
        if right > made.columns or lower > made.rows:
            raise Invalid(
                f"The region lies outside of the result of {made.columns} × {made.rows} pixels.",
                errors=[{"field": "region", "message": "outside of the image"}],
            )
        return self.x, self.y, right, lower


Chosen = Annotated[list[Number], Field(min_length=1, max_length=MANY, description="Numbers of jobs.")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=64)]


class Numbers(BaseModel):
    """Jobs that somebody chose."""

    jobs: Chosen


class Bundle(BaseModel):
    """Which results, and as what: DICOM, PNG of 16 bits, before/after pictures."""

    model_config = ConfigDict(extra="forbid")

    jobs: Chosen
    kind: list[Kind] = Field(["dicom"], min_length=1)


class Where(BaseModel):
    model_config = ConfigDict(extra="forbid")

    destination: list[Name] = Field(min_length=1, description="Names of configured destinations.")


class SendMany(Where):
    jobs: Chosen


class NotSent(BaseModel):
    job: int
    destination: str
    detail: str


class Sent(BaseModel):
    """What goes out now, and what does not, with the reason."""

    sent: list[int] = Field(description="Jobs of which something goes out.")
    refused: list[NotSent]


@blueprint.get("/jobs/<int:job_id>/result16.png")
@auth.role("radiologist")
@operation(
    "The result as a PNG of 16 bits", tag="jobs", query=DepthQuery, answers={200: PNG}, problems=(409, 410)
)
def result16_png(job_id: int) -> Response:
    """Full size and full depth, without a header: it says in its texts that it is AI-processed."""
    wanted = read_query(DepthQuery)
    made = _made(job_id)
    response = _attached(pictures.full_depth(services().store, made, wanted.values), _name(job_id, "png"))
    note([job_id], "png")
    return response


@blueprint.get("/jobs/<int:job_id>/compare.png")
@auth.role("radiologist")
@operation(
    "Before and after in one picture", tag="jobs", query=CompareQuery, answers={200: PNG}, problems=(409, 410)
)
def compare_png(job_id: int) -> Response:
    """For a talk: original and result side by side, labelled, without patient data; of images that say that
    text is burned into them none is made."""
    wanted = read_query(CompareQuery)
    made = _made(job_id)
    file = pictures.before_after(services().store, made, wanted.box(made))
    response = _attached(file, _name(job_id, "compare"))
    note([job_id], "compare")
    return response


@blueprint.post("/results.zip")
@auth.role("radiologist")
@operation("Results of many jobs in a ZIP", tag="jobs", body=Bundle, answers={200: ZIP}, problems=(409,))
def results_zip() -> Response:
    """Streamed; `contents.csv` in it says what each file is and which jobs have no result. 409 where none
    has."""
    return zipped(read_body(Bundle))


@blueprint.post("/jobs/<int:job_id>/send")
@auth.role("radiologist")
@operation("Send a result to destinations", tag="jobs", body=Where, answers={200: JobDetail}, problems=(409,))
def send(job_id: int) -> Response:
    """All of them or none: 409 where the state does not allow it or one has the result already."""
    send_one(job_id, read_body(Where))
    with services().database.read() as session:
        return answer(JobDetail.of(find(session, job_id)))


@blueprint.post("/results/send")
@auth.role("radiologist")
@operation("Send results of many jobs", tag="jobs", body=SendMany, answers={200: Sent}, problems=(409,))
@idempotent
def send_results() -> Response:
    """Each for itself; what is not sent is told with its reason."""
    return answer(send_many(read_body(SendMany)))


def send_one(job_id: int, wanted: Where) -> None:
    """Send one result to all of the destinations, or to none.

    Raises :class:`IllegalTransition`, :class:`db.picks.NotPicked`, 404, 422.
    """
    destinations = _destinations(wanted.destination)
    with services().database.write() as session:
        job = _locked(session, job_id)
        for destination in destinations:
            _send(session, job, destination)


def send_many(wanted: SendMany) -> Sent:
    """Send many results, each in a transaction of its own."""
    destinations = _destinations(wanted.destination)
    done = Sent(sent=[], refused=[])
    for job_id in dict.fromkeys(wanted.jobs):
        some = False
        for destination in destinations:
            try:
                with services().database.write() as session:
                    _send(session, _locked(session, job_id), destination)
                some = True
            except (IllegalTransition, NotPicked, NotFound) as refusal:
                detail = f"{refusal}.".replace("..", ".").capitalize()
                done.refused.append(NotSent(job=job_id, destination=destination.name, detail=detail))
        if some:
            done.sent.append(job_id)
    return done


def zipped(wanted: Bundle) -> Response:
    """The answer with the archive. Raises 409 where there is nothing to put in."""
    chosen = list(dict.fromkeys(wanted.jobs))
    with services().database.read() as session:
        found = {job.id: job for job in chosen_jobs(session, chosen)}
        there = [_Parcel.of(job) for number in chosen if (job := found.get(number)) and has_result(job)]
        missing = [_missing(number, found.get(number)) for number in chosen]
    if not there:
        raise Conflict("None of these jobs has a result.", kind="no-results")
    note([parcel.made.job_id for parcel in there], "zip")
    store, kinds = services().store, list(dict.fromkeys(wanted.kind))
    entries = (parcel.entry(store, kind) for parcel in there for kind in kinds)
    body = bundle.zipped(entries, [row for row in missing if row is not None])
    response = Response(body, content_type=ZIP)
    response.headers["Content-Disposition"] = 'attachment; filename="cxr-sr-results.zip"'
    return response


@dataclass(frozen=True)
class _Parcel:
    """A job's result as it goes into an archive."""

    made: Made
    size: int
    at: datetime
    row: dict[str, object]

    @classmethod
    def of(cls, job: Job) -> _Parcel:
        result = job.result
        assert result is not None
        made = Made.of(job)
        row: dict[str, object] = {
            "job": job.id, "state": job.state.value, "model": made.model, "scale": job.scale,
            "rows": result.rows, "columns": result.columns, "sop_instance_uid": result.sop_instance_uid,
        }  # fmt: skip
        return cls(made, result.size_bytes, result.created_at, {**row, "digest": result.sha256})

    def entry(self, store: ObjectStore, kind: Kind) -> Entry:
        row = {name: value for name, value in self.row.items() if name != "digest"}
        if kind == "dicom":
            row["sha256"] = self.row["digest"]
        size = self.size if kind == "dicom" else self.made.rows * self.made.columns * 2
        return Entry(
            _name(self.made.job_id, kind), self.at, lambda: _pieces(store, self.made, kind), row, size
        )


def _pieces(store: ObjectStore, made: Made, kind: Kind) -> Iterator[bytes]:
    if kind == "dicom":
        with intact(store, made.result_key, made.result_sha256) as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
        return
    make: Any = pictures.full_depth if kind == "png" else pictures.before_after
    yield from _read(make(store, made))


def chosen_jobs(session: Session, numbers: Sequence[int]) -> list[Job]:
    """Those of the jobs that there are, with source, result and model."""
    query = select(Job).where(Job.id.in_([number for number in numbers if 0 < number < 1 << 63]))
    loaded = (joinedload(Job.result), joinedload(Job.source), joinedload(Job.model_version))
    return list(session.scalars(query.options(*loaded)))


def has_result(job: Job) -> bool:
    """Whether a job has a result that can be handed out."""
    result: Result | None = job.result
    return job.state != JobState.RETRACTED and result is not None and result.deleted_at is None


def _missing(number: int, job: Job | None) -> dict[str, object] | None:
    """The row of the contents for a job without a result; None where it has one."""
    if job is not None and has_result(job):
        return None
    if job is None:
        return {"job": number, "note": "There is no such job."}
    gone = job.result is not None and job.state != JobState.RETRACTED
    note = "The result is not kept any more." if gone else "It has no result."
    return {"job": number, "state": job.state.value, "note": note}


def _made(job_id: int) -> Made:
    with services().database.read() as session:
        job = find(session, job_id)
        kept(job)
        return Made.of(job)


def _name(job_id: int, kind: Kind) -> str:
    ending = {"dicom": ".dcm", "png": "-16bit.png", "compare": "-before-after.png"}[kind]
    return f"cxr-sr-job-{job_id}{ending}"


def _attached(file: BinaryIO, name: str) -> Response:
    length = file.seek(0, 2)
    file.seek(0)
    if request.method == "HEAD":  # a server does not close what it never reads
        file.close()
        response = Response(content_type=PNG)
    else:
        response = Response(_read(file), content_type=PNG)
        response.call_on_close(file.close)
    response.content_length = length
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _read(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK):
            yield chunk


def note(job_ids: Sequence[int], kind: str) -> None:
    """Write down that someone took results out."""
    with services().database.write() as session:
        for job_id in job_ids:
            audit.record(
                session, auth.actor().user, "job.download", object_type="job", object_id=job_id,
                address=client_address(), detail={"as": kind},
            )  # fmt: skip


def _destinations(names: Sequence[str]) -> list[Destination]:
    settings = services().settings
    found = [settings.destination(name) for name in dict.fromkeys(names)]
    if None in found:
        known = ", ".join(d.name for d in settings.destinations) or "none"
        raise Invalid(
            f"There is no such destination; configured: {known}.",
            errors=[{"field": "destination", "message": "not a configured destination"}],
        )
    return [destination for destination in found if destination is not None]


def _locked(session: Session, job_id: int) -> Job:
    job = queue.get(session, job_id, lock=True) if 0 < job_id < 1 << 63 else None
    if job is None:
        raise NotFound("There is no such job.")
    return job


def _send(session: Session, job: Job, destination: Destination) -> None:
    who = auth.actor().user
    life = timedelta(hours=destination.expire_after_hours)
    sending.send(
        session, job, Address(destination.name, destination.model_dump(mode="json"), life), actor=who
    )
    audit.record(
        session, who, "job.send", object_type="job", object_id=job.id, address=client_address(),
        detail={"destination": destination.name},
    )  # fmt: skip
