"""API tokens and logins of everybody."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from webui import auth
from webui.api import access as api
from webui.api import people
from webui.api.operations import read_form
from webui.errors import ApiProblem
from webui.services import services


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/admin/tokens", view_func=tokens)
    blueprint.add_url_rule("/admin/tokens", endpoint="make_token", view_func=make_token, methods=["POST"])
    blueprint.add_url_rule("/admin/tokens/<int:token_id>/revoke", view_func=revoke_token, methods=["POST"])
    blueprint.add_url_rule("/admin/sessions", view_func=sessions)
    blueprint.add_url_rule("/admin/sessions/<int:session_id>/end", view_func=end_session, methods=["POST"])


@auth.role("admin")
def tokens() -> str:
    """All tokens, and a form for one more."""
    return _tokens()


@auth.role("admin")
def make_token() -> str | tuple[str, int]:
    """The page with the new token, shown this once."""
    try:
        wanted = read_form(api.NewToken)
        made = api.made(wanted, wanted.user)
    except ApiProblem as problem:
        return _tokens(problem_said=problem.detail, typed=request.form), problem.status
    return _tokens(made=made)


@auth.role("admin")
def revoke_token(token_id: int) -> AnyResponse:
    """At once."""
    api.revoked(token_id)
    return redirect(url_for("pages.tokens"), 303)


@auth.role("admin")
def sessions() -> str:
    """Who is logged in, where and since when."""
    return render_template("admin/sessions.html", sessions=api.standing())


@auth.role("admin")
def end_session(session_id: int) -> AnyResponse:
    """At once; ending one's own leads to the login."""
    api.ended(session_id)
    return redirect(url_for("pages.sessions"), 303)


def _tokens(**more: Any) -> str:
    users = [user for user in people.everybody(services()) if not user.disabled and user.source == "local"]
    return render_template("admin/tokens.html", tokens=api.issued(), users=users, **more)
