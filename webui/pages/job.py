"""One job: its image before and after, its figures, where it went, what happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from db import browse
from db.models import Job, Source
from db.states import JobState
from webui import auth, trail
from webui.api import jobs as api
from webui.api.models import allowed
from webui.errors import NotFound
from webui.pages import words
from webui.services import services

_ACTIONS = {"retry": api.retry, "cancel": api.cancel, "release": api.release}
_ORIGINS = {"dimse": "C-STORE", "upload": "upload", "stow": "STOW-RS", "fetch": "fetched", "demo": "demo"}


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/jobs/<int:job_id>", view_func=job)
    blueprint.add_url_rule(
        "/jobs/<int:job_id>/<any(retry, cancel, release):action>", view_func=act, methods=["POST"]
    )


@auth.role("radiologist")
def job(job_id: int) -> str:
    """The page of a job."""
    with services().database.read() as session:
        found = browse.job(session, job_id) if job_id < 1 << 63 else None
        if found is None:
            raise NotFound("There is no such job.")
        trail.looked(job_id)
        source, result = found.source, found.result
        kept = result is not None and result.deleted_at is None and found.state != JobState.RETRACTED
        actions = [a for a in allowed(found) if a != "retract" or auth.actor().may("admin")]
        return render_template(
            "job.html",
            job=found,
            source=source,
            study=source.series.study if source.series else None,
            actions=actions,
            result_shown=kept,
            result_preview=kept and result is not None and result.preview_key,
            figures=_figures(found),
            facts=_facts(found, source),
            timeline=words.timeline(found.events),
        )


@auth.role("radiologist")
def act(job_id: int, action: str) -> AnyResponse:
    """The REST interface's change as a plain form post."""
    _ACTIONS[action](job_id)
    return redirect(url_for("pages.job", job_id=job_id), 303)


def _figures(job: Job) -> list[tuple[str, str]]:
    if job.result is None:
        return []
    measured: Mapping[str, Any] = job.result.figures
    rows = [("Result", f"{job.result.columns} × {job.result.rows}"), ("Scale", f"×{job.scale}")]
    if isinstance(measured.get("seconds"), int | float):
        rows.append(("Processing", words.seconds(measured["seconds"])))
    rows.append(("File", words.size(job.result.size_bytes)))
    consistency = measured.get("consistency") or {}
    for key, title in (
        ("rms", "Consistency, RMS"),
        ("p999", "99.9 % of places"),
        ("maximum", "Worst place"),
    ):
        if isinstance(consistency.get(key), int | float):
            rows.append((title, words.share(consistency[key])))
    bound = measured.get("bound") or {}
    for key, title in (("median", "Error bound, median"), ("p99", "Error bound, 99 % of places")):
        if isinstance(bound.get(key), int | float):
            rows.append((title, words.share(bound[key])))
    return rows


def _facts(job: Job, source: Source) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if source.columns:
        depth = f", {source.bits_stored} bits {source.photometric or ''}" if source.bits_stored else ""
        rows.append(("Source", f"{source.columns} × {source.rows}{depth}"))
    if job.model_version:
        rows.append(("Model", f"{job.model_version.name} {job.model_version.version}"))
        rows.append(("Weights", f"sha256 {job.model_version.digest[:12]}"))
    measured = job.result.figures if job.result else {}
    if isinstance(measured.get("enhance_seconds"), int | float):
        rows.append(
            ("Network", f"{words.seconds(measured['enhance_seconds'])} on {measured.get('device', '?')}")
        )
    if job.rule:
        rows.append(("Rule", job.rule))
    came = _ORIGINS.get(source.origin_kind, source.origin_kind)
    if source.origin_ae_title:
        came += f" from {source.origin_ae_title}"
    if source.times_received > 1:
        came += f", {source.times_received} times"
    rows.append(("Came by", came))
    rows.append(("Received", words.moment(source.received_at)))
    if source.file_name:
        rows.append(("File", source.file_name))
    if source.series:
        rows.append(("Study UID", source.series.study.study_instance_uid))
    if source.sop_instance_uid:
        rows.append(("Source UID", source.sop_instance_uid))
    if job.result:
        rows.append(("Result UID", job.result.sop_instance_uid))
    return rows
