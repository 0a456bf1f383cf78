"""What a job's page posts without a script: each does what the REST interface does, and leads back."""

from __future__ import annotations

from flask import Blueprint, redirect, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from webui import auth
from webui.api import jobs, judgements, results, shares
from webui.api.operations import read_form, validated
from webui.pages import job as page

_ACTIONS = {"retry": jobs.retry, "cancel": jobs.cancel, "release": jobs.release}


def register(blueprint: Blueprint) -> None:
    rule = blueprint.add_url_rule
    rule("/jobs/<int:job_id>/<any(retry, cancel, release):action>", view_func=act, methods=["POST"])
    rule("/jobs/<int:job_id>/send", view_func=send_job, methods=["POST"])
    rule("/jobs/<int:job_id>/share", view_func=share_job, methods=["POST"])
    rule("/jobs/<int:job_id>/shares/<int:share_id>/revoke", view_func=revoke_share, methods=["POST"])
    rule("/jobs/<int:job_id>/judgement", view_func=judge, methods=["POST"])
    rule("/jobs/<int:job_id>/judgement/withdraw", view_func=withdraw, methods=["POST"])


@auth.role("radiologist")
def act(job_id: int, action: str) -> AnyResponse:
    """Try again, cancel, release."""
    _ACTIONS[action](job_id)
    return _back(job_id)


@auth.role("radiologist")
def send_job(job_id: int) -> AnyResponse:
    """Send the result to the destinations that were chosen."""
    results.send_one(job_id, read_form(results.Where, lists=frozenset({"destination"})))
    return _back(job_id)


@auth.role("radiologist")
def share_job(job_id: int) -> str:
    """Make a link; the page shows it this once."""
    return page.render(job_id, shared=shares.made(job_id, read_form(shares.NewShare)))


@auth.role("radiologist")
def revoke_share(job_id: int, share_id: int) -> AnyResponse:
    """End a link."""
    shares.ended(share_id)
    return _back(job_id)


@auth.role("radiologist")
def judge(job_id: int) -> AnyResponse:
    """Say what one thinks of the result."""
    form = request.form
    region = {name: form.get(f"rectangle.{name}", "").strip() for name in judgements.Region.model_fields}
    wanted = {"verdict": form.get("verdict", ""), "note": form.get("note", "")}
    given = {"rectangle": region} if any(region.values()) else {}
    judgements.said(job_id, validated(judgements.NewJudgement, {**wanted, **given}))
    return _back(job_id, "judgement")


@auth.role("radiologist")
def withdraw(job_id: int) -> AnyResponse:
    """Take one's judgement back."""
    judgements.taken_back(job_id)
    return _back(job_id, "judgement")


def _back(job_id: int, anchor: str | None = None) -> AnyResponse:
    return redirect(url_for("pages.job", job_id=job_id, _anchor=anchor), 303)
