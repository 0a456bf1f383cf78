"""What the viewer of a job's images is told: where they are, and why there may be less to see."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, url_for
from flask_babel import gettext as _

from db.models import Job, Result, Source
from db.states import JOB_FINISHED, JobState, Relation
from webui.dicomweb.media import DICOM
from webui.pages import words

_UNSEEN = (JobState.QUEUED, JobState.RUNNING)


def register(blueprint: Blueprint) -> None:
    """Make :func:`plan` and :func:`figures` known to templates, as any page may show a job's images."""
    blueprint.add_app_template_global(plan, "viewing_plan")
    blueprint.add_app_template_global(figures, "viewing_figures")


def plan(job: Job) -> dict[str, Any] | None:
    """Addresses for the viewer. None while previews have to do.

    The original comes by WADO-RS; one that is no DICOM object, that is not kept, or of which another came
    under its UID, by its preview if at all. The result comes by WADO-RS, or as its file while it waits for
    release and DICOMweb does not show it.
    """
    if job.state in _UNSEEN:
        return None
    source, result = _source(job), job.result
    if result is not None and (result.deleted_at is not None or job.state == JobState.RETRACTED):
        result = None
    if result is None and (source is None or "metadata" not in source or job.state not in JOB_FINISHED):
        return None
    return {
        "source": source,
        "result": None if result is None else _result(job, result),
        "scale": job.scale or 1,
        "note": _note(job, source),
    }


def figures(job: Job) -> str:
    """One line: how far the result may be wrong and how well the original stands in it; empty without a
    result."""
    if job.result is None:
        return ""
    measured = job.result.figures
    bound, consistency = measured.get("bound") or {}, measured.get("consistency") or {}
    told = []
    if isinstance(bound.get("median"), int | float) and isinstance(bound.get("p99"), int | float):
        median, most = words.share(bound["median"]), words.share(bound["p99"])
        told.append(
            _("Error bound %(median)s in the median, %(most)s in 99 %% of places", median=median, most=most)
        )
    if isinstance(consistency.get("rms"), int | float):
        told.append(_("consistency with the original %(rms)s RMS", rms=words.share(consistency["rms"])))
    if measured.get("caveats"):
        told.append(_("take it with more care than others, see Figures"))
    return " · ".join(told)


def _source(job: Job) -> dict[str, str] | None:
    source = job.source
    preview = (
        {"preview": url_for("api.objects.source_png", job_id=job.id)}
        if source.preview_key and source.deleted_at is None
        else {}
    )
    return _addresses(source) | preview or None


def _addresses(source: Source) -> dict[str, str]:
    if (
        source.media_type != DICOM
        or source.deleted_at is not None
        or source.relation not in (Relation.ORIGINAL, Relation.AMENDMENT)
        or source.pixel_digest is None
        or source.series is None
        or not source.sop_instance_uid
    ):
        return {}
    series = source.series
    return _wado(series.study.study_instance_uid, series.series_instance_uid, source.sop_instance_uid)


def _result(job: Job, result: Result) -> dict[str, str]:
    preview = {"preview": url_for("api.objects.result_png", job_id=job.id)} if result.preview_key else {}
    series = job.source.series
    waits = job.state == JobState.HELD or (job.release == "review" and job.released_at is None)
    if waits or series is None or job.state == JobState.SKIPPED:
        return {"file": url_for("api.objects.result_dcm", job_id=job.id)} | preview
    study = series.study.study_instance_uid
    return _wado(study, result.series_instance_uid, result.sop_instance_uid) | preview


def _wado(study: str, series: str, instance: str) -> dict[str, str]:
    metadata, frame = "dicomweb.metadata.of_instance", "dicomweb.frames.of_instance"
    return {
        "metadata": url_for(metadata, study=study, series=series, instance=instance),
        "frame": url_for(frame, study=study, series=series, instance=instance, numbers="1"),
    }


def _note(job: Job, source: dict[str, str] | None) -> str:
    if job.source.deleted_at is not None:
        return _("The original is no longer kept here; compare with the one in the archive.")
    if job.source.media_type != DICOM:
        return _("The upload was no DICOM object.")
    return "" if source else _("The original cannot be shown.")
