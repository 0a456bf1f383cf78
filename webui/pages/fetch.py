"""Fetch from an archive: search it, choose studies, and follow the batch that is made of them."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, redirect, render_template, request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response as AnyResponse

from webui import auth
from webui.api import batches as api
from webui.api.operations import read_form
from webui.errors import ApiProblem
from webui.services import services

RECENT = 20
_ACTIONS = {"pause": api.pause, "resume": api.resume, "cancel": api.cancel, "retry": api.retry}


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/fetch", view_func=fetch)
    blueprint.add_url_rule("/fetch", view_func=fetch_post, methods=["POST"])
    blueprint.add_url_rule("/fetch/start", view_func=start, methods=["POST"])
    blueprint.add_url_rule("/batches/<int:batch_id>", view_func=batch)
    blueprint.add_url_rule(
        "/batches/<int:batch_id>/<action>", view_func=act, methods=["POST"], endpoint="act_batch"
    )
    blueprint.app_context_processor(lambda: {"has_archives": bool(services().settings.archives)})


@auth.role("radiologist")
def fetch() -> str:
    """The search, and the batches so far."""
    return _page()


@auth.role("radiologist")
def fetch_post() -> str | tuple[str, int]:
    """What an archive answered. Patient data: it comes in a body and never stands in an address."""
    form = {
        name: request.form.get(name, "").strip()[:128]
        for name in (*api.ArchiveSearch.model_fields, "archive")
    }
    try:
        found = api.found_in(form["archive"], read_form(api.ArchiveSearch))
    except ApiProblem as problem:
        if problem.status == 404:
            raise
        return _page(form, error=_words(problem)), problem.status
    return _page(form, found)


@auth.role("radiologist")
def start() -> AnyResponse | tuple[str, int]:
    """Make a batch of the studies that were chosen."""
    try:
        made = api.begin(read_form(api.NewBatch, lists=frozenset({"studies", "destination"})))
    except ApiProblem as problem:
        return _page(error=problem.detail), problem.status
    return redirect(url_for("pages.batch", batch_id=made.id), 303)


@auth.role("radiologist")
def batch(batch_id: int) -> str:
    """The page of a batch."""
    with services().database.read() as session:
        found = api.detail(session, batch_id)
    return render_template("batch.html", batch=found, hours=services().settings.fetch.hours)


@auth.role("radiologist")
def act(batch_id: int, action: str) -> AnyResponse:
    """The REST interface's change as a plain form post."""
    if action not in _ACTIONS:
        abort(404)
    _ACTIONS[action](batch_id)
    return redirect(url_for("pages.batch", batch_id=batch_id), 303)


def _words(problem: ApiProblem) -> str:
    """A problem of the search for people: what was wrong with the form is said as it is."""
    wrong = problem.extra.get("errors") or []
    if any(item["field"] == "body" for item in wrong):
        return _("Enter a patient, a name, an accession number or a date.")
    return problem.detail


def _page(form: dict[str, Any] | None = None, found: api.FoundStudies | None = None, error: str = "") -> str:
    here = services()
    with here.database.read() as session:
        recent = api.recent(session, RECENT)
    return render_template(
        "fetch.html",
        settings=here.settings,
        form=form or {},
        found=found,
        error=error,
        batches=recent,
    )
