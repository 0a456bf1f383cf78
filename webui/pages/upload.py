"""Upload as a page and as a plain form post; with JavaScript each file goes to the REST interface alone."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response as AnyResponse

from db import batches, presence, uploads
from webui import auth
from webui.api import deposit
from webui.api.models import Accepted
from webui.errors import ApiProblem, NotFound
from webui.services import services
from webui.uploads import upload as takes_uploads

SHOWN = 1000
"""Jobs of an upload that its page lists."""


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/upload", view_func=upload)
    blueprint.add_url_rule("/upload", view_func=upload_post, methods=["POST"])
    blueprint.add_url_rule("/upload/sample", view_func=sample, methods=["POST"], endpoint="upload_sample")
    blueprint.add_url_rule("/uploads/<int:batch_id>", view_func=uploaded)


@auth.role("radiologist")
def upload() -> str:
    """The form."""
    return _page()


@auth.role("radiologist")
@takes_uploads
def upload_post() -> tuple[str, int]:
    """Take the files of the form and show it again with what became of each."""
    try:
        accepted = Accepted.model_validate_json(deposit.deposit().get_data())
    except ApiProblem as problem:
        refused = [f"{item['file']}: {item['detail']}" for item in problem.extra.get("refused", ())]
        return _page(errors=refused or [problem.detail]), problem.status
    return _page(accepted), 202


@auth.role("radiologist")
def sample() -> AnyResponse | tuple[str, int]:
    """Bring the sample in and show its job."""
    try:
        accepted = Accepted.model_validate_json(deposit.sample().get_data())
    except ApiProblem as problem:
        return _page(errors=[problem.detail]), problem.status
    return redirect(url_for("pages.job", job_id=accepted.jobs[0].id), 303)


@auth.role("radiologist")
def uploaded(batch_id: int) -> str:
    """The jobs of one upload."""
    with services().database.read() as session:
        batch = uploads.get(session, batch_id) if batch_id < 1 << 63 else None
        if batch is None:
            raise NotFound(_("There is no such upload."))
        jobs = uploads.jobs(session, batch_id, SHOWN)
        counts = batches.progress(session, batch_id).jobs
        return render_template(
            "uploaded.html", batch=batch, jobs=jobs, counts=counts, total=sum(counts.values())
        )


def _page(accepted: Accepted | None = None, errors: list[str] | None = None) -> str:
    here = services()
    return render_template(
        "upload.html",
        settings=here.settings,
        models=_models(),
        accepted=accepted,
        errors=errors or [],
    )


def _models() -> list[str]:
    """Names of the models that a worker of ours has told, the configured one first."""
    with services().database.read() as session:
        told = [row.info.get("models") for row in presence.alive(session) if row.role == "worker"]
    return list(dict.fromkeys(name for names in told if isinstance(names, list) for name in names))
