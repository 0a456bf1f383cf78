"""The dashboard: first the question why something is not in the PACS, then how the node stands."""

from __future__ import annotations

from typing import cast

from flask import Blueprint, abort, render_template, request
from flask_babel import gettext as _
from flask_babel import ngettext

from db import alerts, dashboard
from webui import auth, standing
from webui.api import dashboard as api
from webui.api.dashboard_models import SpanName
from webui.pages.charts import charts
from webui.services import services

PAGE = 50


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/dashboard", view_func=show, endpoint="dashboard")
    blueprint.add_url_rule("/dashboard", view_func=ask, endpoint="dashboard_post", methods=["POST"])
    blueprint.add_url_rule("/dashboard/retry", view_func=retry, endpoint="dashboard_retry", methods=["POST"])
    blueprint.add_url_rule("/dashboard/alerts", view_func=past, endpoint="alerts")


@auth.role("radiologist")
def show() -> str:
    """How the node stands."""
    return _page(request.args.get("span", "hour"), None)


@auth.role("radiologist")
def ask() -> str:
    """The same with an answer. What is asked for is patient data: it comes in a body."""
    text = request.form.get("q", "").strip()[:128]
    return _page(request.form.get("span", "hour"), standing.answer(services(), text) if text else None)


@auth.role("admin")
def retry() -> str:
    """Retry failures of one reason, as a plain form post."""
    found = api.retry_failures(services(), request.form.get("code", "")[:64])
    words = ngettext("One job is tried again.", "%(num)s jobs are tried again.", found.retried)
    if found.refused:
        words += " " + ngettext(
            "One cannot be: its image is no longer kept.",
            "%(num)s cannot be: their images are no longer kept.",
            found.refused,
        )
    if found.left:
        words += " " + _("There are more; press again.")
    return _page(request.form.get("span", "hour"), None, words)


@auth.role("radiologist")
def past() -> str:
    """Alerts that stand and those that are over."""
    before = request.args.get("before", "")
    if before and not (before.isdecimal() and len(before) < 19):
        abort(400)
    with services().database.read() as session:
        rows = alerts.past(session, before=int(before) if before else None, limit=PAGE + 1)
    more = rows[PAGE - 1].id if len(rows) > PAGE else None
    return render_template("alerts.html", alerts=rows[:PAGE], before=before, next_before=more)


def _page(span: str, answer: standing.Answer | None, said: str = "") -> str:
    if span not in dashboard.SPANS:
        abort(400)
    here = services()
    return render_template(
        "dashboard.html",
        found=api.overview(here),
        answer=answer,
        said=said,
        span=span,
        spans={"hour": _("Hour"), "day": _("Day"), "week": _("Week")},
        charts=charts(api.history(here, cast("SpanName", span))),
        may_retry=auth.actor().may("admin"),
        targets=len(here.settings.alerts.urls),
    )
