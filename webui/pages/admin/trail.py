"""The audit trail by what its entries are about."""

from __future__ import annotations

from flask import Blueprint, render_template, request

from db import audit as trail
from webui import auth
from webui.api import audit as api
from webui.api.operations import read_query
from webui.errors import ApiProblem
from webui.services import services

OUTCOMES = ("success", "failure", "refused", "throttled")


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/admin/audit", view_func=audit)


@auth.role("admin")
def audit() -> str | tuple[str, int]:
    """A page of entries, newest first; the filters stand in the address: none is about a patient."""
    given = {name: value for name, value in request.args.items() if value.strip()}
    problem, status = "", 200
    try:
        query = read_query(api.AuditQuery, given)
    except ApiProblem as error:
        problem, status, query = error.detail, error.status, api.AuditQuery()
    found = api.page(query)
    with services().database.read() as session:
        actions = trail.actions(session)
    chosen = {name: value for name, value in given.items() if name not in ("cursor", "limit")}
    state = api.seal_page(api.SealQuery(limit=1))
    page = render_template(
        "admin/audit.html",
        seal=next(iter(state.seals), None),
        verified=state.verified,
        entries=found.entries,
        next=found.next,
        first="cursor" not in given,
        chosen=chosen,
        actions=actions,
        prefixes=sorted({action.partition(".")[0] + "." for action in actions if "." in action}),
        outcomes=OUTCOMES,
        problem_said=problem,
    )
    return page, status
