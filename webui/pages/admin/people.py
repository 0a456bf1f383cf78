"""The people: added, shut out, let in, given another role or a new password."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from webui import auth
from webui.api import people as api
from webui.api.operations import read_form
from webui.errors import ApiProblem
from webui.services import services

_CHANGES: dict[str, Callable[[int], object]] = {
    "disable": api.disabled,
    "enable": api.enabled,
    "end": api.sessions_ended,
}


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/admin/users", view_func=users)
    blueprint.add_url_rule("/admin/users", endpoint="add_user", view_func=add_user, methods=["POST"])
    blueprint.add_url_rule(
        "/admin/users/<int:user_id>/<any(disable, enable, end, role, password):action>",
        endpoint="change_user",
        view_func=change_user,
        methods=["POST"],
    )


@auth.role("admin")
def users() -> str:
    """Everybody, and a form for one more."""
    return _page()


@auth.role("admin")
def add_user() -> str | tuple[str, int]:
    """The page with the new person's password, shown this once."""
    try:
        wanted = read_form(api.NewUser)
        user, password = api.added(wanted.name, wanted.role)
    except ApiProblem as problem:
        return _page(problem_said=problem.detail, typed=request.form.get("name", "")[:64]), problem.status
    return _page(told=(user.name, password), new=True)


@auth.role("admin")
def change_user(user_id: int, action: str) -> AnyResponse | str | tuple[str, int]:
    """The REST interface's changes as plain form posts."""
    try:
        if action == "password":
            password = api.new_password(user_id)
            return _page(told=(api.view(user_id).name, password))
        if action == "role":
            api.given_role(user_id, read_form(api.ChangedRole).role)
        else:
            _CHANGES[action](user_id)
    except ApiProblem as problem:
        if problem.status == 404:
            raise
        return _page(problem_said=problem.detail), problem.status
    return redirect(url_for("pages.users"), 303)


def _page(**more: Any) -> str:
    return render_template("admin/users.html", users=api.everybody(services()), **more)
