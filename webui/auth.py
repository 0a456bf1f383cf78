"""Who is asking, and whether they may.

People have a server-side session named by a cookie, programs a bearer token. Each route declares who may use
it, by :func:`role` or :func:`public`; a route without a declaration is refused to everybody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

import structlog
from flask import Flask, Response, current_app, g, redirect, request
from flask_babel import gettext as _
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from db import people
from db.models import ApiToken
from db.outsiders import Source, source
from db.trouble import trouble
from db.types import utcnow
from webui.errors import Forbidden, Unauthenticated, wants_problem
from webui.services import Services, services

log = structlog.get_logger(__name__)

COOKIE = "cxr_sr_session"
"""Name of the session's cookie; see :func:`cookie_name`."""
BACKGROUND = "X-Background"
"""Header of requests that a page makes by itself: they do not show that the person is still there."""
ROLES = ("radiologist", "admin")
"""In growing power: an administrator may do whatever a radiologist may."""

PUBLIC = "public"
_DECLARATION = "cxr_sr_access"
_TOUCH_AFTER = timedelta(seconds=60)
_WHILE_PASSWORD_IS_DUE = frozenset(
    {"/account", "/account/language", "/logout", "/api/v1/me", "/api/v1/me/language", "/api/v1/me/password"}
)

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True)
class Actor:
    """The person or program behind a request."""

    user_id: int
    user: str
    """The user's name."""
    role: str
    csrf_token: str | None
    """Of the session; None for a program with a token."""
    must_change_password: bool = False
    language: str | None = None
    """The language that the person chose, if any."""
    token_id: int | None = None
    """The API token of a program."""
    source: Source = "local"
    """Where the account comes from."""

    @property
    def by_session(self) -> bool:
        return self.csrf_token is not None

    @property
    def outside(self) -> bool:
        """Whether others vouch for the person, who has no password here."""
        return self.source != "local"

    def may(self, needed: str) -> bool:
        """Whether the actor's role includes `needed`."""
        return ROLES.index(self.role) >= ROLES.index(needed)


def role(name: str) -> Callable[[View], View]:
    """Declare that a view needs this role (`radiologist` or `admin`)."""
    if name not in ROLES:
        raise ValueError(f"{name}: not a role; expected one of {', '.join(ROLES)}")
    return lambda view: _declare(view, name)


def public(view: View) -> View:
    """Declare that a view is open to everybody."""
    return _declare(view, PUBLIC)


def declared(view: Callable[..., Any]) -> str | None:
    """The role that a view declares, `public`, or None when it declares nothing."""
    return cast("str | None", getattr(view, _DECLARATION, None))


def _declare(view: View, access: str) -> View:
    setattr(view, _DECLARATION, access)
    return view


def current() -> Actor | None:
    """The actor of this request; None for a visitor."""
    if "actor" not in g:
        g.actor = _identify()
    return cast("Actor | None", g.actor)


def actor() -> Actor:
    """The actor of a request that passed the guard."""
    found = current()
    if found is None:
        raise Unauthenticated("Log in first.")
    return found


def _identify() -> Actor | None:
    header = request.headers.get("Authorization")
    if header is not None:  # a program: its cookie, if any, does not count
        scheme, _, raw = header.partition(" ")
        return _by_token(raw.strip()) if scheme.lower() == "bearer" else None
    session = cookie()
    return _by_session(session) if session else None


def _by_token(raw: str) -> Actor | None:
    here = services()
    with here.database.read() as session:
        token = people.token_for(session, raw)
        if token is None:
            return None
        weaker = min(token.role, token.user.role, key=ROLES.index)
        found = Actor(token.user_id, token.user.name, weaker, None, token_id=token.id)
        unused = token.last_used_at is None or token.last_used_at < utcnow() - _TOUCH_AFTER
    if unused:
        used = update(ApiToken).where(ApiToken.id == token.id).values(last_used_at=utcnow())
        _note_use(lambda session: session.execute(used))
    return found


def _by_session(raw: str) -> Actor | None:
    here = services()
    with here.database.read() as session:
        row = people.session_for(session, raw, idle_minutes=here.settings.web.session_idle_minutes)
        if row is None:
            return None
        user = row.user
        found = Actor(
            row.user_id, user.name, user.role, row.csrf_token, user.must_change_password, user.language,
            source=source(user),
        )  # fmt: skip
        old = people.stale(row) and BACKGROUND not in request.headers
    if old:
        _note_use(lambda session: people.touch(session, row))
    return found


def _note_use(step: Callable[[Session], object]) -> None:
    """Write down that somebody was here; a database that takes nothing now keeps nobody from reading."""
    try:
        with services().database.write() as session:
            step(session)
    except SQLAlchemyError as error:
        log.warning("use not noted", why=trouble(error).value)


def register(app: Flask) -> None:
    """Guard every route; give templates `actor` and `csrf_token()`."""

    @app.before_request
    def _guard() -> AnyResponse | None:
        if request.endpoint is None:  # nothing there: routing answers 404 or 405
            return None
        needed = declared(current_app.view_functions[request.endpoint])
        if needed == PUBLIC:
            return None
        if needed is None:
            raise Forbidden(_("This address is closed."))
        found = current()
        if found is None:
            return _ask_to_log_in()
        if not found.may(needed):
            raise Forbidden(_("This needs the role %(role)s.", role=needed))
        if found.must_change_password and request.path not in _WHILE_PASSWORD_IS_DUE:
            return _ask_for_new_password()
        return None

    @app.context_processor
    def _globals() -> dict[str, Any]:
        found = current() if request.endpoint else None
        return {"actor": found, "csrf_token": lambda: (found.csrf_token or "") if found else ""}


def _ask_to_log_in() -> AnyResponse:
    if wants_problem():
        raise Unauthenticated("Log in, or send a valid token.", headers={"WWW-Authenticate": "Bearer"})
    if request.method != "GET":
        return redirect("/login", 303)
    return redirect("/login?" + urlencode({"next": request.path}), 303)


def _ask_for_new_password() -> AnyResponse:
    if wants_problem():
        raise Forbidden("Choose a password of your own first.", kind="password-change-required")
    return redirect("/account", 303)


def cookie_name() -> str:
    """What the cookie is called. Over HTTPS browsers keep one whose name begins so from other hosts."""
    return f"__Host-{COOKIE}" if services().secure else COOKIE


def cookie() -> str | None:
    """The value of the session's cookie in this request."""
    return request.cookies.get(cookie_name())


def set_cookie(response: Response | AnyResponse, raw: str) -> None:
    """Give the browser its session."""
    here = services()
    response.set_cookie(
        cookie_name(),
        raw,
        max_age=int(here.settings.web.session_hours * 3600),
        httponly=True,
        samesite="Lax",
        secure=here.secure,
        path="/",
    )


def clear_cookie(response: Response | AnyResponse) -> None:
    """Take the session from the browser."""
    response.delete_cookie(cookie_name(), path="/", httponly=True, samesite="Lax", secure=services().secure)


def still_valid(here: Services, header: str | None, cookie: str | None) -> bool:
    """Whether the credentials of a long answer still stand, outside of its request."""
    with here.database.read() as session:
        if header is not None:
            return people.token_for(session, header.partition(" ")[2].strip()) is not None
        idle = here.settings.web.session_hours * 60  # looking on is not idling: the session's end counts
        return cookie is not None and people.session_for(session, cookie, idle_minutes=idle) is not None
