"""Logging in and out and choosing a password, as plain form posts.

The pages with the forms are `GET /login` and `GET /account` of :mod:`webui.pages`. Fields: `name`,
`password`, `next` (a path of ours) for `POST /login`; `csrf_token` for `POST /logout`; `current`, `new`,
`repeat` and `csrf_token` for `POST /account`, `language` and `csrf_token` for `POST /account/language`. A
refusal renders `login.html` or `account.html` again with `error`, a sentence.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import structlog
from flask import Blueprint, Response, make_response, redirect, render_template, request
from flask_babel import gettext as _
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from db import audit, people
from db.models import User
from webui import auth, language
from webui.errors import Invalid, TooMany
from webui.security import client_address
from webui.services import services

blueprint = Blueprint("signin", __name__)
log = structlog.get_logger(__name__)

HOME = "/"


@blueprint.post("/login")
@auth.public
def login() -> AnyResponse:
    """Open a session for a name and a password."""
    name = request.form.get("name", "").strip()[:64]
    password = request.form.get("password", "")[: people.LONGEST_PASSWORD + 1]
    target = local_path(request.form.get("next"))
    user, wait = authenticate(name, password)
    if user is None:
        if wait:
            minutes = max(1, round(wait / 60))
            sentence = _("Too many attempts. Try again in %(minutes)s min.", minutes=minutes)
            return _again("login.html", 429, sentence, next=target, retry_after=wait)
        return _again("login.html", 401, _("The name or the password is wrong."), next=target)
    raw = open_session(user)
    response = redirect("/account" if user.must_change_password else target, 303)
    auth.set_cookie(response, raw)
    return response


@blueprint.post("/logout")
@auth.role("radiologist")
def logout() -> AnyResponse:
    """End this session, on the server too."""
    here, actor = services(), auth.actor()
    raw = request.cookies.get(auth.COOKIE)
    with here.database.write() as session:
        row = (
            people.session_for(session, raw, idle_minutes=here.settings.web.session_idle_minutes)
            if raw
            else None
        )
        if row is not None:
            people.revoke_session(session, row)
        audit.record(session, actor.user, "logout", address=client_address())
    response = redirect("/login", 303)
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
        return _again("account.html", 422, error, role=role_in_words())
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


def authenticate(name: str, password: str) -> tuple[User | None, float]:
    """The user of a name and password, or None and the seconds to wait (0: the password is simply wrong)."""
    here = services()
    address = client_address() or ""
    wait = here.throttle.wait(name, address)
    user = None
    if not wait:
        with here.throttle.hashing, here.database.read() as session:
            user = people.verify(session, name, password)
    if user is not None:
        here.throttle.succeeded(name, address)
        return user, 0.0
    if not wait:
        here.throttle.failed(name, address)
    outcome = "throttled" if wait else "failure"
    log.warning("login refused", outcome=outcome, address=address)
    with here.database.write() as session:
        known = session.query(User.id).filter(User.name == name).scalar()
        # a name that is nobody's may be a password typed into the wrong field
        audit.record(session, name if known else "unknown", "login", address=address or None, outcome=outcome)
    return None, wait


def open_session(user: User) -> str:
    """A new session of `user` instead of the browser's old one; returns the value of its cookie."""
    here = services()
    old = request.cookies.get(auth.COOKIE)
    with here.database.write() as session:
        _end(session, old)
        owner = session.get_one(User, user.id)
        raw, _row = people.open_session(
            session, owner, hours=here.settings.web.session_hours, address=client_address()
        )
        audit.record(session, owner.name, "login", address=client_address())
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
    if new != repeat:
        return _("The two new passwords differ.")
    if not people.SHORTEST_PASSWORD <= len(new) <= people.LONGEST_PASSWORD:
        return _("A password has at least %(number)s characters.", number=people.SHORTEST_PASSWORD)
    if actor.user.casefold() in new.casefold():
        return _("The password must not contain your name.")
    if new == current:
        return _("The new password must differ from the old one.")
    user, wait = authenticate(actor.user, current)
    if wait:
        raise TooMany(_("Too many attempts with a wrong password; wait a while."), retry_after=wait)
    if user is None:
        return _("The current password is wrong.")
    with here.throttle.hashing, here.database.write() as session:
        owner = session.get_one(User, actor.user_id)
        people.set_password(session, owner, new)
        audit.record(session, owner.name, "password.change", address=client_address())
    return None


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


def _again(
    template: str, status: int, error: str, *, retry_after: float = 0, **values: object
) -> AnyResponse:
    response = make_response(render_template(template, error=error, **values), status)
    if retry_after:
        response.headers["Retry-After"] = str(max(1, round(retry_after)))
    return response
