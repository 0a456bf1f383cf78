"""The shapes of JSON answers. Each knows how it is made from a row; the OpenAPI document reads them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from db.deliveries import NOTES_LOST
from db.models import Delivery, Job, JobEvent, Patient, Result, Source, Study
from db.states import DeliveryState, JobState, Priority, Purpose

PriorityName = Literal["stat", "routine", "bulk"]


class Problem(BaseModel):
    """RFC 9457. `type` is `urn:cxr-sr:problem:` and a word for programs, `detail` a sentence for people."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldError] | None = None
    refused: list[Refused] | None = None


class FieldError(BaseModel):
    field: str
    message: str


class Refused(BaseModel):
    """A file of an upload that was not taken."""

    file: str = Field(
        description="The file's name as it was sent; inside an archive after its name and a slash."
    )
    kind: str
    detail: str


class NewJob(BaseModel):
    id: int
    state: JobState
    href: str
    file: str = Field(description="The name of the file it was made from.")
    resend: bool = Field(description="The same bytes were here before; the job may be the one they had.")


class Accepted(BaseModel):
    jobs: list[NewJob]
    refused: list[Refused]
    batch: int | None = Field(None, description="The batch that the jobs form, where they are several.")


class EventView(BaseModel):
    """One transition of a job (`state`) or a delivery (`delivery`), or what else happened."""

    id: int
    job_id: int
    delivery_id: int | None
    at: datetime
    kind: str
    before: str | None
    after: str | None
    message: str | None
    actor: str | None

    @classmethod
    def of(cls, event: JobEvent) -> EventView:
        return cls.model_validate(event, from_attributes=True)


class PatientView(BaseModel):
    id: str
    issuer: str
    name: str
    birth_date: str
    sex: str

    @classmethod
    def of(cls, patient: Patient) -> PatientView:
        return cls(
            id=patient.patient_id,
            issuer=patient.issuer,
            name=patient.name,
            birth_date=patient.birth_date,
            sex=patient.sex,
        )


class StudyView(BaseModel):
    study_instance_uid: str
    accession_number: str
    study_date: str
    study_time: str
    description: str

    @classmethod
    def of(cls, study: Study) -> StudyView:
        return cls.model_validate(study, from_attributes=True)


class SourceView(BaseModel):
    id: int
    media_type: str
    size_bytes: int
    file_name: str | None
    origin: str = Field(description="`dimse`, `upload`, `stow`, `fetch` or `demo`.")
    origin_ae_title: str | None
    received_at: datetime
    times_received: int
    sop_class_uid: str | None
    sop_instance_uid: str | None
    series_instance_uid: str | None
    modality: str | None
    body_part: str | None
    view_position: str | None
    rows: int | None
    columns: int | None
    bits_stored: int | None
    photometric: str | None
    relation: str | None
    kept: bool
    preview: str | None = Field(description="Address of the preview, once it is made.")

    @classmethod
    def of(cls, source: Source, job_id: int) -> SourceView:
        series = source.series
        return cls(
            id=source.id,
            media_type=source.media_type,
            size_bytes=source.size_bytes,
            file_name=source.file_name,
            origin=source.origin_kind,
            origin_ae_title=source.origin_ae_title,
            received_at=source.received_at,
            times_received=source.times_received,
            sop_class_uid=source.sop_class_uid,
            sop_instance_uid=source.sop_instance_uid,
            series_instance_uid=series.series_instance_uid if series else None,
            modality=series.modality if series else None,
            body_part=series.body_part if series else None,
            view_position=source.view_position,
            rows=source.rows,
            columns=source.columns,
            bits_stored=source.bits_stored,
            photometric=source.photometric,
            relation=source.relation.value if source.relation else None,
            kept=source.deleted_at is None,
            preview=f"/api/v1/jobs/{job_id}/source.png" if source.preview_key else None,
        )


class Caveat(BaseModel):
    code: str = Field(examples=["fine"])
    sentence: str


class ResultView(BaseModel):
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    size_bytes: int
    rows: int
    columns: int
    created_at: datetime
    figures: dict[str, Any]
    caveats: list[Caveat] = Field(description="Where the result is beyond its model, or unlike its source.")
    kept: bool
    object: str | None = Field(description="Address of the derived DICOM object.")
    preview: str | None

    @classmethod
    def of(cls, result: Result, job: Job) -> ResultView:
        kept = result.deleted_at is None
        shown = kept and job.state != JobState.RETRACTED
        base = f"/api/v1/jobs/{job.id}"
        return cls(
            sop_class_uid=result.sop_class_uid,
            sop_instance_uid=result.sop_instance_uid,
            series_instance_uid=result.series_instance_uid,
            size_bytes=result.size_bytes,
            rows=result.rows,
            columns=result.columns,
            created_at=result.created_at,
            figures=result.figures,
            caveats=[Caveat.model_validate(each) for each in result.figures.get("caveats", [])],
            kept=kept,
            object=f"{base}/result.dcm" if shown else None,
            preview=f"{base}/result.png" if shown and result.preview_key else None,
        )


class DeliveryView(BaseModel):
    id: int
    what: str
    destination: str
    state: DeliveryState
    attempts: int
    not_before: datetime
    expires_at: datetime
    status_code: int | None
    comment: str | None
    stored_at: datetime | None

    @classmethod
    def of(cls, delivery: Delivery) -> DeliveryView:
        return cls(
            id=delivery.id,
            what=delivery.what,
            destination=delivery.destination_name,
            state=delivery.state,
            attempts=delivery.attempts,
            not_before=delivery.not_before,
            expires_at=delivery.expires_at,
            status_code=delivery.status_code,
            comment=delivery.comment,
            stored_at=delivery.stored_at,
        )


class JobSummary(BaseModel):
    """A job as the list shows it."""

    id: int
    href: str
    state: JobState
    reason_code: str | None
    reason: str | None
    priority: PriorityName
    purpose: Purpose
    progress: float
    attempts: int
    cancel_requested: bool
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    scale: int | None
    model: str | None
    rule: str | None
    release: str
    batch_id: int | None
    patient: PatientView | None
    study: StudyView | None
    source: SourceView
    result: ResultView | None
    deliveries: list[DeliveryView]
    actions: list[Action] = Field(description="What the state allows now.")

    @classmethod
    def fields(cls, job: Job) -> dict[str, Any]:
        """The values of these fields from a row whose relations are loaded."""
        series = job.source.series
        study = series.study if series else None
        return {
            "id": job.id,
            "href": f"/api/v1/jobs/{job.id}",
            "state": job.state,
            "reason_code": job.reason_code,
            "reason": job.reason,
            "priority": Priority(job.priority).name.lower(),
            "purpose": job.purpose,
            "progress": job.progress,
            "attempts": job.attempts,
            "cancel_requested": job.cancel_requested,
            "created_at": job.created_at,
            "updated_at": job.updated_at,
            "started_at": job.started_at,
            "finished_at": job.finished_at,
            "scale": job.scale,
            "model": job.model_version.name if job.model_version else None,
            "rule": job.rule,
            "release": job.release,
            "batch_id": job.batch_id,
            "patient": PatientView.of(study.patient) if study else None,
            "study": StudyView.of(study) if study else None,
            "source": SourceView.of(job.source, job.id),
            "result": ResultView.of(job.result, job) if job.result else None,
            "deliveries": [DeliveryView.of(delivery) for delivery in job.deliveries],
            "actions": allowed(job),
        }

    @classmethod
    def of(cls, job: Job) -> JobSummary:
        return cls(**cls.fields(job))


class JobDetail(JobSummary):
    """A job with everything that happened to it."""

    timeline: list[EventView]

    @classmethod
    def of(cls, job: Job) -> JobDetail:
        return cls(**cls.fields(job), timeline=[EventView.of(event) for event in job.events])


class JobPage(BaseModel):
    """Newest first; `next` is the cursor of the following page."""

    jobs: list[JobSummary]
    next: str | None


Action = Literal["retry", "cancel", "release", "retract"]


def allowed(job: Job) -> list[Action]:
    """Actions that the job's state allows; retraction is for administrators."""
    found: list[Action] = []
    if job.state in {JobState.FAILED, JobState.SKIPPED, JobState.CANCELLED} or (
        job.state == JobState.RETRACTED
        and any(d.what == "note" and d.state in NOTES_LOST for d in job.deliveries)
    ):
        found.append("retry")
    if job.state in {JobState.QUEUED, JobState.HELD, JobState.DELIVERING, JobState.FAILED} or (
        job.state == JobState.RUNNING and not job.cancel_requested
    ):
        found.append("cancel")
    if job.state == JobState.HELD:
        found.append("release")
    if (
        job.state in {JobState.HELD, JobState.DELIVERING, JobState.DONE, JobState.FAILED}
        and job.result is not None
    ):
        found.append("retract")
    return found


JobSummary.model_rebuild()
JobDetail.model_rebuild()
Problem.model_rebuild()
