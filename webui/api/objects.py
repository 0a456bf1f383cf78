"""Pictures and objects of a job, streamed from the store. File names are made of numbers alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import BinaryIO

from flask import Blueprint, Response, request

from db import audit
from db.intact import intact
from db.models import Job, Result
from db.states import JOB_FINISHED, JobState
from webui import auth, trail
from webui.api.jobs import find
from webui.api.operations import operation
from webui.errors import ApiProblem, Conflict, NotFound
from webui.security import client_address
from webui.services import services

blueprint = Blueprint("objects", __name__)

CHUNK = 256 << 10
DICOM = "application/dicom"


@blueprint.get("/jobs/<int:job_id>/source.png")
@auth.role("radiologist")
@operation("Preview of the source", tag="jobs", answers={200: "image/png"}, problems=(409, 410))
def source_png(job_id: int) -> Response:
    """8 bits, long side at most 2048 pixels; 409 while it is not made yet."""
    with services().database.read() as session:
        job = find(session, job_id)
        key, gone = job.source.preview_key, job.source.deleted_at is not None
        finished = job.state in JOB_FINISHED
    if key is None or gone:
        raise _absent("preview", gone=gone, finished=finished)
    trail.looked(job_id)
    return _send(key, "image/png")


@blueprint.get("/jobs/<int:job_id>/result.png")
@auth.role("radiologist")
@operation("Preview of the result", tag="jobs", answers={200: "image/png"}, problems=(409, 410))
def result_png(job_id: int) -> Response:
    """8 bits, long side at most 2048 pixels; 409 while there is no result."""
    with services().database.read() as session:
        job = find(session, job_id)
        key = kept(job).preview_key
    if key is None:
        raise NotFound("There is no preview of this result.")
    trail.looked(job_id)
    return _send(key, "image/png")


@blueprint.get("/jobs/<int:job_id>/result.dcm")
@auth.role("radiologist")
@operation("The derived DICOM object", tag="jobs", answers={200: DICOM}, problems=(409, 410))
def result_dcm(job_id: int) -> Response:
    """As it was stored and as destinations get it; 409 while there is no result."""
    with services().database.read() as session:
        result = kept(find(session, job_id))
    response = _send(result.object_key, DICOM, name=f"cxr-sr-job-{job_id}.dcm", sha256=result.sha256)
    _note(job_id)
    return response


def kept(job: Job) -> Result:
    """The result that can be handed out. Raises 404, 409 or 410 where there is none."""
    result = job.result
    if job.state == JobState.RETRACTED:
        raise ApiProblem("The result was taken back.", status=410, kind="retracted")
    if result is None or result.deleted_at is not None:
        raise _absent("result", gone=result is not None, finished=job.state in JOB_FINISHED)
    return result


def _absent(what: str, *, gone: bool, finished: bool) -> ApiProblem:
    if gone:
        return ApiProblem(f"The {what} is not kept any more.", status=410, kind="object-gone")
    if finished:
        return NotFound(f"This job has no {what}.")
    return Conflict(f"The {what} is not there yet.", kind="not-yet")


def _note(job_id: int) -> None:
    with services().database.write() as session:
        audit.record(
            session, auth.actor().user, "job.download", object_type="job", object_id=str(job_id),
            address=client_address(),
        )  # fmt: skip


def _send(key: str, media_type: str, name: str | None = None, sha256: str | None = None) -> Response:
    """Stream an object; raises ObjectMissing and, where its digest is given, ObjectDamaged before the answer
    begins."""
    stack, store = ExitStack(), services().store
    try:
        stream = stack.enter_context(store.open(key) if sha256 is None else intact(store, key, sha256))
        size = stream.seek(0, 2)
        stream.seek(0)
    except BaseException:
        stack.close()
        raise
    if request.method == "HEAD":  # a server does not close what it never reads
        stack.close()
        response = Response(content_type=media_type)
    else:
        response = Response(_chunks(stream), content_type=media_type)
        response.call_on_close(stack.close)
    response.content_length = size
    response.headers["Cache-Control"] = "private, no-cache"
    if name is not None:
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk
