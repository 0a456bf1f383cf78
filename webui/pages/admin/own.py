"""One's own logins and tokens, on the account page (`_sessions.html`, `_tokens.html`)."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, url_for
from werkzeug.wrappers import Response as AnyResponse

from webui import auth, signin
from webui.api import access as api
from webui.api.operations import read_form
from webui.errors import ApiProblem


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule(
        "/account/sessions/<int:session_id>/end", view_func=end_own_session, methods=["POST"]
    )
    blueprint.add_url_rule("/account/tokens", view_func=make_own_token, methods=["POST"])
    blueprint.add_url_rule(
        "/account/tokens/<int:token_id>/revoke", view_func=revoke_own_token, methods=["POST"]
    )
    blueprint.add_app_template_global(own_sessions, "own_sessions")
    blueprint.add_app_template_global(own_tokens, "own_tokens")


def own_sessions() -> list[api.SessionView]:
    """For templates."""
    return api.standing(auth.actor().user_id)


def own_tokens() -> list[api.TokenView]:
    """For templates."""
    return api.issued(auth.actor().user_id)


@auth.role("radiologist")
def end_own_session(session_id: int) -> AnyResponse:
    """At once; ending the one that asks leads to the login."""
    api.ended(session_id, auth.actor().user_id)
    return redirect(url_for("pages.account", _anchor="logins"), 303)


@auth.role("radiologist")
def make_own_token() -> str | tuple[str, int]:
    """The account page with the new token, shown this once."""
    try:
        made = api.made_own(read_form(api.OwnToken))
    except ApiProblem as problem:
        page = render_template("account.html", role=signin.role_in_words(), token_problem=problem.detail)
        return page, problem.status
    return render_template("account.html", role=signin.role_in_words(), made_token=made)


@auth.role("radiologist")
def revoke_own_token(token_id: int) -> AnyResponse:
    """At once."""
    api.revoked(token_id, auth.actor().user_id)
    return redirect(url_for("pages.account", _anchor="tokens"), 303)
