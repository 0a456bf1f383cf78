"""Upload as a page and as a plain form post; with JavaScript each file goes to the REST interface alone."""

from __future__ import annotations

from flask import Blueprint, render_template

from webui import auth
from webui.api import deposit
from webui.api.models import Accepted
from webui.errors import ApiProblem
from webui.services import services
from webui.uploads import upload as takes_uploads


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/upload", view_func=upload)
    blueprint.add_url_rule("/upload", view_func=upload_post, methods=["POST"])


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


def _page(accepted: Accepted | None = None, errors: list[str] | None = None) -> str:
    return render_template(
        "upload.html", settings=services().settings, accepted=accepted, errors=errors or []
    )
