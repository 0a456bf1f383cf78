"""The first page, the login, the account."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from webui import auth, signin
from webui.services import services


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/", view_func=home)
    blueprint.add_url_rule("/login", view_func=login)
    blueprint.add_url_rule("/account", view_func=account)
    blueprint.add_app_template_global(shortest_password, "shortest_password")


def shortest_password() -> int:
    """For templates: fewest characters of a password."""
    return services().settings.web.password_min_length


@auth.role("radiologist")
def home() -> AnyResponse:
    """Where one lands."""
    return redirect("/dashboard" if auth.actor().may("admin") else "/queue", 303)


@auth.public
def login() -> str | AnyResponse:
    """The form; someone who is logged in already goes on."""
    target = signin.local_path(request.args.get("next"))
    if auth.current() is not None:
        return redirect(target, 303)
    return render_template("login.html", next=target, again="again" in request.args)


@auth.role("radiologist")
def account() -> str:
    """Change the password, choose a language."""
    return render_template("account.html", role=signin.role_in_words())
