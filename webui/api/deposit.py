"""Bringing images in: `POST /api/v1/jobs`."""

from __future__ import annotations

import re
import shutil
from datetime import date
from typing import Annotated, Any, Literal

from flask import Blueprint, Response, request, url_for
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from config import Settings
from db import audit, uploads
from db.states import JobState, Priority
from webui import auth, content, door, samples
from webui.api.models import Accepted, NewJob, PriorityName, Refused
from webui.api.operations import answer, operation, read_form
from webui.errors import ApiProblem, Invalid, intake_paused, no_room, queue_full
from webui.idempotency import idempotent
from webui.security import client_address
from webui.services import services
from webui.uploads import new_spool_file, upload

blueprint = Blueprint("deposit", __name__)

MAX_FILES = 200
_STATUS = {
    "too-large": 413,
    "archive-too-large": 413,
    "damaged": 422,
    "encrypted": 422,
    "not-picked": 422,
    "store": 503,
    "database": 503,
}
_BACKSLASH_OR_CONTROL = re.compile(r"[\\\x00-\x1f\x7f]")


def _clean(value: str) -> str:
    if _BACKSLASH_OR_CONTROL.search(value):
        raise ValueError("must hold no backslash and no control character")
    return value


def _dicom_date(value: str) -> str:
    text = value.replace("-", "")
    try:
        if len(text) != 8 or not text.isascii() or not text.isdecimal():
            raise ValueError
        date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        raise ValueError("must be a date as YYYY-MM-DD") from None
    return text


def _code(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


LongText = Annotated[str, StringConstraints(max_length=64), AfterValidator(_clean)]
ShortText = Annotated[str, StringConstraints(max_length=16), AfterValidator(_clean)]


class Demographics(BaseModel):
    """What a person says about images that are not DICOM; names are DICOM keywords."""

    PatientName: LongText | None = None
    PatientID: LongText | None = None
    PatientBirthDate: Annotated[str, AfterValidator(_dicom_date)] | None = Field(
        None, description="YYYY-MM-DD or YYYYMMDD."
    )
    PatientSex: Annotated[Literal["F", "M", "O"], BeforeValidator(_code)] | None = None
    StudyDate: Annotated[str, AfterValidator(_dicom_date)] | None = Field(
        None, description="YYYY-MM-DD or YYYYMMDD; left out: the day of the upload."
    )
    StudyDescription: LongText | None = None
    AccessionNumber: ShortText | None = None
    ViewPosition: Annotated[
        str, BeforeValidator(_code), StringConstraints(max_length=16, pattern=r"^[A-Z0-9 _]+$")
    ] | None = None  # fmt: skip


class DepositForm(Demographics):
    """Fields beside `file`; those of Demographics count only for images that are not DICOM."""

    model_config = ConfigDict(extra="ignore")

    scale: Literal["auto", "2", "4"] = "auto"
    model: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")] | None = None
    priority: PriorityName = "routine"
    destination: list[str] = Field(
        default_factory=list,
        description="Names; without any the result stays here. For DICOM alone: of other images, patient "
        "and study are picked from the archive first.",
    )
    batch: int | None = Field(None, ge=1, lt=1 << 63, description="A batch of `POST /api/v1/uploads`.")


class UploadBatch(BaseModel):
    batch: int = Field(description="Number to send as `batch` with each file.")


@blueprint.post("/uploads")
@auth.role("radiologist")
@operation("Begin an upload in several requests", tag="jobs", answers={201: UploadBatch}, problems=(409, 422))
@idempotent
def begin() -> Response:
    """Makes a batch: the jobs of all requests that name it belong together."""
    number = door.new_batch()
    with services().database.write() as session:
        audit.record(
            session, auth.actor().user, "upload.begin", object_type="batch", object_id=number,
            address=client_address(),
        )  # fmt: skip
    return answer(UploadBatch(batch=number), 201)


@blueprint.post("/jobs")
@auth.role("radiologist")
@upload
@operation(
    "Bring images in", tag="jobs", form=DepositForm, multipart_file=True, answers={202: Accepted},
    problems=(409, 413, 415, 422, 507),
)  # fmt: skip
@idempotent
def deposit() -> Response:
    """Field `file`, once or more: DICOM, PNG, JPEG, TIFF, or a ZIP of them.

    Some may be refused, each with its reason.

    When none is taken the answer is a problem with the reason of the first and `refused` for each.
    """
    if request.mimetype != "multipart/form-data":
        raise ApiProblem("Send a form of type multipart/form-data.", status=415, kind="unsupported-content")
    files = [(file.filename or "", file.stream) for file in request.files.getlist("file")]
    if not files:
        raise Invalid("There is no file.", errors=[{"field": "file", "message": "at least one is needed"}])
    if len(files) > MAX_FILES:
        raise ApiProblem(f"At most {MAX_FILES} files at once.", status=413, kind="too-large")
    settings = services().settings
    form = read_form(DepositForm, lists=frozenset({"destination"}))
    _check_batch(form.batch)
    wishes = _wishes(form, settings)
    parcels = door.unpack(files, max_bytes=settings.web.max_upload_bytes)
    together = len(files) > 1 or content.is_archive(files[0][1])
    return respond(door.take(parcels, wishes, together=together, batch=form.batch))


@blueprint.post("/uploads/sample")
@auth.role("radiologist")
@operation(
    "Try it with a sample", tag="jobs", answers={202: Accepted}, problems=(409, 422, 507)
)  # fmt: skip
@idempotent
def sample() -> Response:
    """Brings in a radiograph that comes with the software, as if it had been uploaded."""
    spooled = new_spool_file()
    with samples.opened() as stream:
        shutil.copyfileobj(stream, spooled)
    parcel = door.Parcel(samples.NAME, spooled, content.examine(spooled))
    return respond(door.take([parcel], door.Wishes(kind="upload"), together=False))


def respond(outcome: door.Outcome) -> Response:
    """202 with the jobs and the refusals, or the first refusal as a problem when nothing was taken."""
    refused = [
        Refused(file=parcel.name, kind=refusal.kind, detail=refusal.detail)
        for parcel, refusal in outcome.refused
    ]
    if not outcome.accepted:
        if not refused:
            raise ApiProblem("The archive holds no file.", status=422, kind="empty")
        raise _problem(refused)
    jobs = [
        NewJob(
            id=accepted.job_id,
            state=JobState.QUEUED,
            href=url_for("api.jobs.show", job_id=accepted.job_id),
            file=parcel.name,
            resend=accepted.resend,
        )
        for parcel, accepted in outcome.accepted
    ]
    return answer(Accepted(jobs=jobs, refused=refused, batch=outcome.batch), 202)


def _check_batch(number: int | None) -> None:
    """Raise :class:`Invalid` unless it is a batch of uploads that this person began."""
    if number is None:
        return
    with services().database.read() as session:
        batch = uploads.get(session, number)
        if batch is None or batch.created_by != auth.actor().user_id:
            raise Invalid(
                "There is no such batch of yours.", errors=[{"field": "batch", "message": "not known"}]
            )


def _problem(refused: list[Refused]) -> ApiProblem:
    listed = [item.model_dump() for item in refused]
    first = refused[0]
    if first.kind == "queue-full":
        problem: ApiProblem = queue_full()
    elif first.kind == "intake-paused":
        problem = intake_paused()
    elif first.kind == "no-room":
        problem = no_room()
    else:
        problem = ApiProblem(first.detail, status=_STATUS.get(first.kind, 415), kind=first.kind)
    problem.extra["refused"] = listed
    return problem


def _wishes(form: DepositForm, settings: Settings) -> door.Wishes:
    unknown = [name for name in form.destination if settings.destination(name) is None]
    if unknown:
        known = ", ".join(d.name for d in settings.destinations) or "none"
        raise Invalid(
            f"There is no such destination; configured: {known}.",
            errors=[{"field": "destination", "message": "not a configured destination"}],
        )
    requested: dict[str, Any] = {}
    if form.scale != "auto":
        requested["scale"] = int(form.scale)
    if form.model is not None:
        requested["model"] = form.model
    if form.destination:
        requested["destinations"] = list(dict.fromkeys(form.destination))
    said = {name: value for name in Demographics.model_fields if (value := getattr(form, name)) is not None}
    return door.Wishes(
        kind="upload",
        priority=Priority[form.priority.upper()],
        requested=requested,
        demographics=said or None,
    )
