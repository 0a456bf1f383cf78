"""One job: its image before and after, its figures, where it went, what happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, render_template
from flask_babel import gettext as _
from flask_babel import lazy_gettext, ngettext
from sqlalchemy.orm import Session

from db import browse, judgements, picks
from db.models import Job, Source
from db.sending import SENDABLE
from db.states import DELIVERY_ARRIVED, DELIVERY_OPEN, JobState
from webui import auth, trail
from webui.api.judgements import JudgementView
from webui.api.models import allowed
from webui.api.shares import NewShareView, ShareView, visible
from webui.errors import NotFound
from webui.pages import words
from webui.services import services

_ORIGINS = {
    "dimse": "C-STORE",
    "upload": lazy_gettext("upload"),
    "stow": "STOW-RS",
    "fetch": lazy_gettext("fetched"),
    "demo": lazy_gettext("demo"),
}


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/jobs/<int:job_id>", view_func=job)


@auth.role("radiologist")
def job(job_id: int) -> str:
    """The page of a job."""
    return render(job_id)


def render(job_id: int, shared: NewShareView | None = None) -> str:
    """The page of a job; `shared` is a link that was just made, to be shown this once."""
    with services().database.read() as session:
        found = browse.job(session, job_id) if job_id < 1 << 63 else None
        if found is None:
            raise NotFound(_("There is no such job."))
        trail.looked(job_id)
        said = [JudgementView.of(row) for row in judgements.of_job(session, job_id)]
        return render_template(
            "job.html",
            **about(found),
            actions=[a for a in allowed(found) if a != "retract" or auth.actor().may("admin")],
            timeline=words.timeline(found.events),
            judgements=said,
            own=next((one for one in said if one.mine), None),
            destinations=_destinations(found),
            shares=_shares(session, job_id),
            share_days=services().settings.web.share_days,
            shared=shared,
        )


def about(found: Job) -> dict[str, Any]:
    """What the parts of a page that shows a job's images and figures need."""
    source, result = found.source, found.result
    kept = result is not None and result.deleted_at is None and found.state != JobState.RETRACTED
    return {
        "job": found,
        "source": source,
        "study": source.series.study if source.series else None,
        "result_shown": kept,
        "result_preview": kept and result is not None and result.preview_key,
        "figures": _figures(found),
        "facts": _facts(found, source),
    }


def _shares(session: Session, job_id: int) -> list[ShareView]:
    return [ShareView.of(link) for link in visible(session, job_id)]


def _destinations(found: Job) -> list[tuple[str, str]]:
    """Names of the destinations, each with why the result cannot be sent there now; empty where it can."""
    states = {one.destination_name: one.state for one in found.deliveries if one.what == "result"}
    told = []
    for destination in services().settings.destinations:
        state, why = states.get(destination.name), ""
        if state in DELIVERY_ARRIVED:
            why = _("has it")
        elif state in DELIVERY_OPEN:
            why = _("waits for release") if found.state == JobState.HELD else _("on its way")
        elif found.state not in SENDABLE:
            why = _("not while the job is %(state)s", state=words.spoken(found.state.value))
        elif not picks.may_go(found.source, destination.model_dump(mode="json")):
            why = _("patient and study were not picked there")
        told.append((destination.name, why))
    return told


def _figures(job: Job) -> list[tuple[str, str]]:
    if job.result is None:
        return []
    measured: Mapping[str, Any] = job.result.figures
    rows = [(_("Result"), f"{job.result.columns} × {job.result.rows}"), (_("Scale"), f"×{job.scale}")]
    if isinstance(measured.get("seconds"), int | float):
        rows.append((_("Processing"), words.seconds(measured["seconds"])))
    rows.append((_("File"), words.size(job.result.size_bytes)))
    consistency = measured.get("consistency") or {}
    for key, title in (
        ("rms", _("Consistency, RMS")),
        ("p999", _("%(part)s of places", part=f"{words.number(99.9, 1)} %")),
        ("maximum", _("Worst place")),
    ):
        if isinstance(consistency.get(key), int | float):
            rows.append((title, words.share(consistency[key])))
    bound = measured.get("bound") or {}
    for key, title in (
        ("median", _("Error bound, median")),
        ("p99", _("Error bound, %(part)s of places", part="99 %")),
    ):
        if isinstance(bound.get(key), int | float):
            rows.append((title, words.share(bound[key])))
    return rows


def _facts(job: Job, source: Source) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if source.columns:
        depth = f", {source.bits_stored} {_('bits')} {source.photometric or ''}" if source.bits_stored else ""
        rows.append((_("Source"), f"{source.columns} × {source.rows}{depth}"))
    if job.model_version:
        rows.append((_("Model"), f"{job.model_version.name} {job.model_version.version}"))
        rows.append((_("Weights"), f"sha256 {job.model_version.digest[:12]}"))
    measured = job.result.figures if job.result else {}
    if isinstance(measured.get("enhance_seconds"), int | float):
        rows.append(
            (
                _("Network"),
                _(
                    "%(time)s on %(device)s",
                    time=words.seconds(measured["enhance_seconds"]),
                    device=measured.get("device", "?"),
                ),
            )
        )
    if job.rule:
        rows.append((_("Rule"), job.rule))
    came = str(_ORIGINS.get(source.origin_kind, source.origin_kind))
    if source.origin_ae_title:
        came = _("%(door)s from %(title)s", door=came, title=source.origin_ae_title)
    if source.times_received > 1:
        came += ", " + ngettext("%(num)s time", "%(num)s times", source.times_received)
    rows.append((_("Came by"), came))
    rows.append((_("Received"), words.moment(source.received_at)))
    if source.file_name:
        rows.append((_("File"), source.file_name))
    if source.series:
        rows.append((_("Study UID"), source.series.study.study_instance_uid))
    if source.sop_instance_uid:
        rows.append((_("Source UID"), source.sop_instance_uid))
    if job.result:
        rows.append((_("Result UID"), job.result.sop_instance_uid))
    return rows
