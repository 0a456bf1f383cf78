"""Logging in and out and choosing a password, as plain form posts.

The pages with the forms are `GET /login` and `GET /account` of :mod:`webui.pages`. Fields: `name`,
`password`, `next` (a path of ours) for `POST /login`; `csrf_token` for `POST /logout`; `current`, `new`,
`repeat` and `csrf_token` for `POST /account`, `language` and `csrf_token` for `POST /account/language`. A
refusal renders `login.html` or `account.html` again with `error`, a sentence.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, Response, make_response, redirect, render_template, request
from flask_babel import gettext as _
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from db import audit, outsiders, passwords, people
from db.models import User
from db.passwords import Weakness
from webui import auth, language
from webui.credentials import authenticate
from webui.errors import Invalid, TooMany
from webui.security import client_address
from webui.services import services

blueprint = Blueprint("signin", __name__)

HOME = "/"


@blueprint.post("/login")
@auth.public
def login() -> AnyResponse:
    """Open a session for a name and a password."""
    name = request.form.get("name", "").strip()[:64]
    password = request.form.get("password", "")[: passwords.LONGEST + 1]
    target = local_path(request.form.get("next"))
    outcome = authenticate(name, password)
    user = outcome.user
    if user is None:
        return again("login.html", outcome.status, outcome.words, next=target, retry_after=outcome.wait)
    raw = open_session(user)
    response = redirect("/account" if user.must_change_password else target, 303)
    auth.set_cookie(response, raw)
    return response


@blueprint.post("/logout")
@auth.role("radiologist")
def logout() -> AnyResponse:
    """End this session, on the server too; of somebody whom others vouch for, the way out there as well."""
    from webui import outside

    here, actor = services(), auth.actor()
    raw = auth.cookie()
    with here.database.write() as session:
        row = (
            people.session_for(session, raw, idle_minutes=here.settings.web.session_idle_minutes)
            if raw
            else None
        )
        if row is not None:
            people.revoke_session(session, row)
        audit.record(session, actor.user, "logout", address=client_address())
    response = (outside.logged_out() if actor.source == "oidc" else None) or redirect("/login", 303)
    auth.clear_cookie(response)
    return response


@blueprint.post("/account")
@auth.role("radiologist")
def change_password() -> AnyResponse:
    """Choose a new password; every other session of the user ends, this one is opened anew."""
    form = request.form
    error = replace_password(
        form.get("current", ""), form.get("new", ""), form.get("repeat", form.get("new", ""))
    )
    if error is not None:
        return again("account.html", 422, error, role=role_in_words())
    response = redirect("/account?changed=1", 303)
    renew(response)
    return response


@blueprint.post("/account/language")
@auth.role("radiologist")
def change_language() -> AnyResponse:
    """Keep the language that the pages shall have for this person; an empty one leaves it to the browser."""
    name = request.form.get("language", "")
    if name and name not in language.LANGUAGES:
        raise Invalid(_("The pages are not written in this language."))
    keep_language(name or None)
    return redirect("/account?language=1", 303)


def keep_language(name: str | None) -> None:
    """Write the actor's choice down; None leaves it to the browser."""
    with services().database.write() as session:
        session.get_one(User, auth.actor().user_id).language = name


def role_in_words() -> str:
    """The actor's role in the language of the page."""
    return _("administrator") if auth.actor().may("admin") else _("radiologist")


def open_session(user: User, *, by: str = "") -> str:
    """A new session of `user` instead of the browser's old one; returns the value of its cookie. by: who
    vouches for them, if not their password here.
    """
    here = services()
    old = auth.cookie()
    with here.database.write() as session:
        _end(session, old)
        owner = session.get_one(User, user.id)
        raw, _row = people.open_session(
            session, owner, hours=here.settings.web.session_hours, address=client_address()
        )
        by = by or outsiders.source(owner)
        detail = {} if by == "local" else {"by": by}
        audit.record(session, owner.name, "login", address=client_address(), detail=detail)
    return raw


def _end(session: Session, raw: str | None) -> None:
    """End the session of a cookie's value, if it is one."""
    idle = services().settings.web.session_idle_minutes
    row = people.session_for(session, raw, idle_minutes=idle) if raw else None
    if row is not None:
        people.revoke_session(session, row)


def replace_password(current: str, new: str, repeat: str) -> str | None:
    """Give the actor a new password; returns what is wrong with it, None when it is set."""
    here, actor = services(), auth.actor()
    if actor.outside:
        return _("Your password is not kept here: it is changed where you sign in.")
    if new != repeat:
        return _("The two new passwords differ.")
    if (poor := weakness_in_words(new)) is not None:
        return poor
    if new == current:
        return _("The new password must differ from the old one.")
    proved = authenticate(actor.user, current)
    if proved.wait:
        raise TooMany(_("Too many attempts with a wrong password; wait a while."), retry_after=proved.wait)
    if proved.user is None or proved.user.id != actor.user_id:
        return _("The current password is wrong.")
    with here.throttle.hashing, here.database.write() as session:
        owner = session.get_one(User, actor.user_id)
        people.set_password(session, owner, new, shortest=here.settings.web.password_min_length)
        audit.record(session, owner.name, "password.change", address=client_address())
    return None


def weakness_in_words(password: str) -> str | None:
    """What speaks against a password of the actor's, in the language of the page."""
    shortest = services().settings.web.password_min_length
    found = passwords.weakness(password, auth.actor().user, shortest=shortest)
    return {
        None: None,
        Weakness.SHORT: _("A password has at least %(number)s characters.", number=shortest),
        Weakness.LONG: _("A password has at most %(number)s characters.", number=passwords.LONGEST),
        Weakness.NAME: _("The password must not contain your name."),
        Weakness.PRODUCT: _("The password must not contain the name of this service."),
        Weakness.PATTERN: _("The password is a repetition or a sequence: such are guessed first."),
        Weakness.COMMON: _("The password is one of the most common ones: such are guessed first."),
    }[found]


def renew(response: Response | AnyResponse) -> None:
    """Open the actor's session anew: a changed password ends all earlier ones."""
    here, actor = services(), auth.actor()
    with here.database.read() as session:
        user = session.get_one(User, actor.user_id)
    auth.set_cookie(response, open_session(user))


def local_path(target: str | None) -> str:
    """`target` if it is a path on this server, else the first page."""
    if not target or not target.startswith("/") or target.startswith("//") or "\\" in target:
        return HOME
    parts = urlsplit(target)
    clean = target.isprintable() and not parts.scheme and not parts.netloc
    return target if clean else HOME


def again(template: str, status: int, error: str, *, retry_after: float = 0, **values: object) -> AnyResponse:
    """A form once more, with the sentence that says why."""
    response = make_response(render_template(template, error=error, **values), status)
    if retry_after:
        response.headers["Retry-After"] = str(max(1, round(retry_after)))
    return response
