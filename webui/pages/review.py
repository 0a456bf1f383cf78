"""Held results, one after another beside their sources: released or turned down with one key each."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, url_for
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from werkzeug.wrappers import Response as AnyResponse

from db import browse, review
from db.states import IllegalTransition, JobState
from webui import auth, trail
from webui.api import jobs
from webui.api import review as api
from webui.api.operations import read_form, read_query
from webui.errors import NotFound
from webui.pages import job as page
from webui.services import services

_WORDS = {
    "bad": lazy_gettext("Poor quality"),
    "invented": lazy_gettext("Invented detail"),
    "wrong": lazy_gettext("Wrong patient, side or study"),
    "needless": lazy_gettext("Not needed"),
}


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/review", view_func=review_next, endpoint="review")
    blueprint.add_url_rule("/review/<int:job_id>", view_func=review_one)
    blueprint.add_url_rule("/review/<int:job_id>/release", view_func=review_release, methods=["POST"])
    blueprint.add_url_rule("/review/<int:job_id>/reject", view_func=review_reject, methods=["POST"])


@auth.role("radiologist")
def review_next() -> AnyResponse | str:
    """On to the next held result; a page that says so where none waits."""
    after = read_query(api.NextQuery).after
    with services().database.read() as session:
        number = review.following(session, after)
    if number is None:
        return render_template("review.html", waiting=0, job=None)
    return redirect(url_for("pages.review_one", job_id=number), 303)


@auth.role("radiologist")
def review_one(job_id: int) -> str:
    """One held result; of one that somebody decided meanwhile, what became of it."""
    with services().database.read() as session:
        found = browse.job(session, job_id) if job_id < 1 << 63 else None
        if found is None:
            raise NotFound(_("There is no such job."))
        trail.looked(job_id)
        return render_template(
            "review.html",
            **page.about(found),
            held=found.state == JobState.HELD,
            waiting=review.waiting(session),
            reasons=_WORDS,
        )


@auth.role("radiologist")
def review_release(job_id: int) -> AnyResponse:
    """Let it go and show the next one."""
    try:
        jobs.release(job_id)
    except IllegalTransition:  # somebody else was quicker: the page says what became of it
        return redirect(url_for("pages.review_one", job_id=job_id), 303)
    return redirect(url_for("pages.review", after=job_id), 303)


@auth.role("radiologist")
def review_reject(job_id: int) -> AnyResponse:
    """Turn it down and show the next one."""
    try:
        api.rejected(job_id, read_form(api.Rejection).why)
    except IllegalTransition:
        return redirect(url_for("pages.review_one", job_id=job_id), 303)
    return redirect(url_for("pages.review", after=job_id), 303)
