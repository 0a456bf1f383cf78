"""Whose image an uploaded picture is: its patient and study, picked from an archive."""

from __future__ import annotations

import shutil
from typing import Annotated, Any

from flask import Blueprint, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from config.network import Archive, Destination
from db import audit, browse, events, picks, queue
from db.intact import intact
from db.models import Job
from db.states import JobState, Priority
from webui import auth, content, door, errands
from webui.api.models import NewJob
from webui.api.operations import answer, operation, read_body
from webui.errors import ApiProblem, Conflict, Invalid, NotFound
from webui.security import client_address
from webui.services import services
from webui.uploads import new_spool_file

blueprint = Blueprint("identity", __name__)

_WAITS = frozenset({JobState.QUEUED, JobState.RUNNING})
_ENDED = frozenset({JobState.HELD, JobState.DELIVERING, JobState.DONE, JobState.FAILED, JobState.CANCELLED})


class Pick(BaseModel):
    """A study of an archive, as a search found it."""

    model_config = ConfigDict(extra="forbid")

    archive: str = Field(max_length=64, description="Name of the archive that has it.")
    study: Annotated[str, StringConstraints(max_length=64, pattern=r"^[0-9]+(\.[0-9]+)*$")] = Field(
        description="Study Instance UID."
    )
    destination: list[str] = Field(
        default_factory=list,
        description="Where the result goes then; each must be that archive (`GET /api/v1/archives`).",
    )


class Picked(BaseModel):
    job: NewJob = Field(description="The job that makes the result anew under that patient and study.")
    replaces: int = Field(description="The job whose result is retracted once that is made.")


@blueprint.post("/jobs/<int:job_id>/identity")
@auth.role("radiologist")
@operation(
    "Say whose image an uploaded picture is", tag="jobs", body=Pick, answers={202: Picked},
    problems=(409, 502, 503, 504, 507),
)  # fmt: skip
def identify(job_id: int) -> Response:
    """A PNG, JPEG or TIFF goes to an archive only after its patient and study were picked there.

    The archive is asked for that study, and the result is made anew under what it answers, on the stored
    pixels and under new UIDs, by a job of its own; the old one is retracted then.
    """
    return answer(pick(job_id, read_body(Pick)), 202)


def pick(job_id: int, wanted: Pick) -> Picked:
    """Have a picture's patient and study taken from an archive. Raises :class:`ApiProblem`."""
    archive = _archive(wanted)
    with services().database.read() as session:
        _check(_find(session, job_id))
    _number, said = errands.ask_archive(
        wanted.archive, "identify", detail={"job": job_id}, study=wanted.study
    )  # fmt: skip
    with services().database.read() as session:
        old = _find(session, job_id)
        _check(old)
        source = old.source
        demographics = picks.pick(source.demographics, archive.model_dump(mode="json"), said["identity"])
        if demographics == source.demographics:
            raise Conflict("It has this patient and study already.", kind="picked-already")
        wishes = _wishes(old, demographics, wanted.destination)
        key, sha256 = source.object_key, source.sha256
        name, batch = source.file_name or "", old.batch_id
    parcel = _parcel(key, sha256, name)
    outcome = door.take([parcel], wishes, together=False, batch=batch)
    if not outcome.accepted:
        _parcel_again, refusal = outcome.refused[0]
        raise ApiProblem(refusal.detail, status=503, kind=refusal.kind)
    new = outcome.accepted[0][1]
    _note(job_id, new.job_id, wanted.archive)
    with services().database.read() as session:
        made = session.get_one(Job, new.job_id)
        view = NewJob(
            id=made.id, state=made.state, href=f"/api/v1/jobs/{made.id}", file=name, resend=new.resend
        )
    return Picked(job=view, replaces=job_id)


def allowed(job: Job) -> bool:
    """Whether patient and study can be picked for this job now."""
    return (
        picks.is_picture(job.source)
        and job.source.deleted_at is None
        and (job.state in _WAITS or (job.state in _ENDED and job.result_id is not None))
    )


def destinations_of(archive: Archive) -> list[Destination]:
    """The destinations that are the same system as an archive."""
    settings = archive.model_dump(mode="json")
    every = services().settings.destinations
    return [one for one in every if picks.same_system(settings, one.model_dump(mode="json"))]


def _archive(wanted: Pick) -> Archive:
    archive = services().settings.archive(wanted.archive)
    if archive is None:
        raise NotFound("There is no such archive.")
    same = {one.name for one in destinations_of(archive)}
    if not same.issuperset(wanted.destination):
        raise Invalid(
            f"It can go only to the archive that it was picked from: {', '.join(sorted(same)) or 'none'}.",
            errors=[{"field": "destination", "message": "not that archive"}],
        )
    return archive


def _find(session: Any, job_id: int) -> Job:
    job = browse.job(session, job_id) if job_id < 1 << 63 else None
    if job is None:
        raise NotFound("There is no such job.")
    return job


def _check(job: Job) -> None:
    """Raise :class:`Conflict` where there is nothing to pick a patient for."""
    if not picks.is_picture(job.source):
        raise Conflict("A DICOM image names its patient and study itself.", kind="not-a-picture")
    if job.source.deleted_at is not None:
        raise Conflict("The upload is no longer kept here; upload it again.", kind="object-gone")
    if not allowed(job):
        raise Conflict("The job has no result whose patient could be picked.", kind="state", state=job.state)


def _wishes(old: Job, demographics: dict[str, Any], destinations: list[str]) -> door.Wishes:
    requested = {key: value for key, value in old.requested.items() if key in {"scale", "model"}}
    if destinations:
        requested["destinations"] = list(dict.fromkeys(destinations))
    requested[picks.REPLACES] = old.id
    return door.Wishes(
        kind="upload", priority=Priority(old.priority), requested=requested, demographics=demographics
    )


def _parcel(key: str, sha256: str, name: str) -> door.Parcel:
    """A copy of the upload in the spool: it comes in again, under another identity."""
    spooled = new_spool_file()
    with intact(services().store, key, sha256) as stream:
        shutil.copyfileobj(stream, spooled, 1 << 20)
    return door.Parcel(name, spooled, content.examine(spooled))


def _note(old_id: int, new_id: int, archive: str) -> None:
    """The pick stands in the trail and in both jobs' timelines; an old job that still waits is not needed."""
    who = auth.actor().user
    with services().database.write() as session:
        for number, words in ((old_id, f"by job {new_id}"), (new_id, f"in place of job {old_id}")):
            message = f"from {archive}, {words}"
            events.record(session, number, "patient-and-study-picked", message=message, actor=who)
        audit.record(
            session, who, "job.identify", object_type="job", object_id=old_id, address=client_address(),
            detail={"archive": archive, "job": new_id},
        )  # fmt: skip
        old = queue.get(session, old_id, lock=True)
        if old is not None and old.id != new_id and old.state in _WAITS and not old.cancel_requested:
            queue.cancel(session, old, actor=who)
