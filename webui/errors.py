"""Errors as the one who asked can use them: RFC 9457 problems for programs, a plain page for browsers.

Nothing of the request, of a row or of an exception's text is repeated: it could be patient data.
"""

from __future__ import annotations

import traceback
import uuid
from http import HTTPStatus
from pathlib import Path
from typing import Any

import structlog
from flask import Flask, Response, json, render_template, request
from flask_babel import gettext as _
from flask_babel import lazy_gettext
from markupsafe import escape
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from db.intake import IntakePaused, QueueFull
from db.objects import ObjectDamaged, ObjectMissing, StoreError, StoreFull
from db.picks import NotPicked
from db.states import IllegalTransition
from db.trouble import Trouble, trouble

log = structlog.get_logger(__name__)

PROBLEM = "application/problem+json"
PROGRAM_PATHS = ("/api/", "/dicomweb/", "/healthz", "/readyz", "/metrics")
_ROOT = str(Path(__file__).resolve().parent.parent)


class ApiProblem(Exception):
    """An answer that is not success: `kind` names it for programs, `detail` says it to a person.

    `detail` and `extra` must hold no patient data.
    """

    status = 400
    kind = "bad-request"

    def __init__(
        self,
        detail: str,
        *,
        status: int | None = None,
        kind: str | None = None,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status or type(self).status
        self.kind = kind or type(self).kind
        self.headers = headers or {}
        self.extra = extra


class Unauthenticated(ApiProblem):
    """Log in, or send a valid token."""

    status, kind = 401, "login-required"


class Forbidden(ApiProblem):
    """The actor's role does not allow it."""

    status, kind = 403, "forbidden"


class NotFound(ApiProblem):
    """There is no such thing."""

    status, kind = 404, "not-found"


class Conflict(ApiProblem):
    """The state does not allow it now."""

    status, kind = 409, "conflict"


class TooLarge(ApiProblem):
    """More bytes than are allowed."""

    status, kind = 413, "too-large"


class Unsupported(ApiProblem):
    """Not a kind of content that is taken."""

    status, kind = 415, "unsupported-content"


class Invalid(ApiProblem):
    """A value of the request is wrong; `errors` names each."""

    status, kind = 422, "invalid-value"


class TooMany(ApiProblem):
    """Slow down; `retry_after` seconds."""

    status, kind = 429, "too-many-attempts"

    def __init__(self, detail: str, *, retry_after: float, kind: str | None = None) -> None:
        super().__init__(detail, kind=kind, headers={"Retry-After": str(max(1, round(retry_after)))})


class Unavailable(ApiProblem):
    """Not now: ask again after `retry_after` seconds."""

    status, kind = 503, "unavailable"

    def __init__(self, detail: str, *, kind: str = "unavailable", retry_after: float = 30) -> None:
        super().__init__(detail, kind=kind, headers={"Retry-After": str(max(1, round(retry_after)))})


class NoRoom(ApiProblem):
    """The disk is full, or its reserve would be touched."""

    status, kind = 507, "no-room"


def wants_problem() -> bool:
    """Whether the answer goes to a program rather than to a person's browser."""
    return request.path.startswith(PROGRAM_PATHS)


def respond(problem: ApiProblem) -> Response:
    """The problem as an answer to the current request."""
    title = HTTPStatus(problem.status).phrase
    if wants_problem():
        body = {
            "type": f"urn:cxr-sr:problem:{problem.kind}",
            "title": title,
            "status": problem.status,
            "detail": problem.detail,
            **problem.extra,
        }
        response = Response(json.dumps(body), status=problem.status, content_type=PROBLEM)
    else:
        title = str(_TITLES.get(problem.status, title))
        response = Response(_page(problem.status, title, problem.detail), status=problem.status)
    response.headers.extend(problem.headers)
    response.headers["Cache-Control"] = "no-store"
    return response


def _page(status: int, title: str, detail: str) -> str:
    """The page of a problem; without database or template still a page."""
    try:
        return render_template("error.html", status=status, title=title, detail=detail)
    except Exception as error:  # noqa: BLE001 - an error page that fails must not end in a traceback
        log.error("error page failed", error=type(error).__name__)
        return f"<!doctype html><title>{status} {title}</title><h1>{title}</h1><p>{escape(detail)}"


def register(app: Flask) -> None:
    """Turn every exception into an answer without a traceback."""

    @app.errorhandler(ApiProblem)
    def _problem(error: ApiProblem) -> Response:
        return respond(error)

    @app.errorhandler(IllegalTransition)
    def _illegal(error: IllegalTransition) -> Response:
        return respond(Conflict(f"{error}.".capitalize(), kind="state", state=error.before.value))

    @app.errorhandler(NotPicked)
    def _not_picked(error: NotPicked) -> Response:
        return respond(Conflict(str(error), kind="not-picked"))

    @app.errorhandler(QueueFull)
    def _queue_full(_error: QueueFull) -> Response:
        return respond(queue_full())

    @app.errorhandler(IntakePaused)
    def _intake_paused(_error: IntakePaused) -> Response:
        return respond(intake_paused())

    @app.errorhandler(StoreFull)
    def _store_full(_error: StoreFull) -> Response:
        return respond(no_room())

    @app.errorhandler(ObjectMissing)
    def _missing(_error: ObjectMissing) -> Response:
        return respond(NotFound(_("The object is not kept here any more."), kind="object-gone"))

    @app.errorhandler(ObjectDamaged)
    def _damaged(error: ObjectDamaged) -> Response:
        log.error("object damaged", incident=_incident(error), detail=str(error))
        detail = _("The object is damaged and is not handed out; an administrator finds it in the log.")
        return respond(ApiProblem(detail, status=500, kind="object-damaged"))

    @app.errorhandler(StoreError)
    def _store(error: StoreError) -> Response:
        log.error("store failed", incident=_incident(error), detail=str(error))
        return respond(Unavailable(_("The store does not answer; try again later."), kind="store"))

    @app.errorhandler(SQLAlchemyError)
    def _database(error: SQLAlchemyError) -> Response:
        if trouble(error) is Trouble.FULL:
            return respond(no_room())
        incident = _incident(error)
        return respond(
            Unavailable(
                _("The database does not answer; try again later (%(incident)s).", incident=incident),
                kind="database",
            )
        )

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> AnyResponse:
        if (
            isinstance(error.response, AnyResponse) and (error.code or 500) < 400
        ):  # a redirect that routing made
            return error.response
        status = error.code or 500
        kind, detail = _HTTP.get(status, (f"http-{status}", f"{HTTPStatus(status).phrase}."))
        own = {"content-type", "content-length"}
        headers = {name: value for name, value in error.get_headers() if name.lower() not in own}
        return respond(ApiProblem(str(detail), status=status, kind=kind, headers=headers))

    @app.errorhandler(Exception)
    def _any(error: Exception) -> Response:
        incident = _incident(error)
        detail = _(
            "Something failed here, not with you. An administrator finds it in the log as %(incident)s.",
            incident=incident,
        )
        return respond(ApiProblem(detail, status=500, kind="internal"))


def queue_full() -> Unavailable:
    """The answer when no more jobs may wait."""
    return Unavailable(_("The queue is full; try again later."), kind="queue-full", retry_after=60)


def intake_paused() -> Unavailable:
    """The answer while an administrator has paused intake."""
    return Unavailable(
        _("An administrator has paused intake; try again later."), kind="intake-paused", retry_after=60
    )


def no_room() -> NoRoom:
    """The answer when the store has no room."""
    return NoRoom(_("There is no room left for new images; an administrator has to make some."))


_HTTP: dict[int, tuple[str, Any]] = {
    400: ("bad-request", lazy_gettext("The request could not be understood.")),
    404: ("not-found", lazy_gettext("There is nothing at this address.")),
    405: ("method-not-allowed", lazy_gettext("This address does not take that method.")),
    411: ("length-required", lazy_gettext("The request must state its length.")),
    413: ("too-large", lazy_gettext("The request is larger than allowed.")),
    415: ("unsupported-content", lazy_gettext("This kind of content is not taken here.")),
}

_TITLES = {
    400: lazy_gettext("Bad Request"),
    401: lazy_gettext("Unauthorized"),
    403: lazy_gettext("Forbidden"),
    404: lazy_gettext("Not Found"),
    405: lazy_gettext("Method Not Allowed"),
    409: lazy_gettext("Conflict"),
    413: lazy_gettext("Too Large"),
    415: lazy_gettext("Unsupported Media Type"),
    422: lazy_gettext("Unprocessable Content"),
    429: lazy_gettext("Too Many Requests"),
    500: lazy_gettext("Internal Server Error"),
    502: lazy_gettext("Bad Gateway"),
    503: lazy_gettext("Service Unavailable"),
    504: lazy_gettext("Gateway Timeout"),
    507: lazy_gettext("Insufficient Storage"),
}
"""The headings of error pages; programs get the phrases of HTTP."""


def _incident(error: BaseException) -> str:
    """Log where an exception arose, without its text, under a number that the answer may show."""
    incident = uuid.uuid4().hex[:8]
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{f.filename.removeprefix(_ROOT)}:{f.lineno} {f.name}" for f in frames][-6:]
    cause = error.__cause__ or error.__context__
    log.error(
        "request failed",
        incident=incident,
        route=request.url_rule.rule if request.url_rule else None,
        error=type(error).__name__,
        cause=type(cause).__name__ if cause else None,
        where=where,
    )
    return incident
