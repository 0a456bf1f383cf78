"""What readers think of results, for administrators: looked through, and taken out as a table or JSON."""

from __future__ import annotations

from flask import Blueprint, render_template, request

from db import judgements
from webui import auth
from webui.api import judgements as api
from webui.api.operations import read_query
from webui.services import services

PAGE = 50


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/admin/judgements", view_func=judged)


@auth.role("admin")
def judged() -> str:
    """A page of judgements, newest first."""
    wanted = read_query(api.WantedPage, {name: value for name, value in request.args.items() if value})
    with services().database.read() as session:
        found, cursor = judgements.page(session, wanted.filter, limit=PAGE, before=wanted.cursor)
        shown = [api.JudgedView.of(one) for one in found]
        models = [f"{model.name} {model.version}" for model in judgements.models(session)]
    if not wanted.cursor:
        api.taken_out(wanted, "page")
    return render_template(
        "judgements.html",
        judgements=shown,
        next_before=cursor,
        wanted=wanted,
        asked=wanted.asked,
        models=list(dict.fromkeys(models)),
    )
