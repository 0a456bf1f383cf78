"""Requests that change something must come from our own pages.

A request with a session cookie carries the session's token, as header `X-CSRF-Token` or form field
`csrf_token`. Logging in happens before there is a session: there the browser's own statement of origin
counts. Requests with a bearer token need neither; a browser never adds one by itself.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from flask import Flask, current_app, request

from webui import auth
from webui.errors import Forbidden

HEADER = "X-CSRF-Token"
FIELD = "csrf_token"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_FORMS = frozenset({"application/x-www-form-urlencoded", "multipart/form-data"})


def register(app: Flask) -> None:
    """Check every unsafe request; runs after the guard of :mod:`webui.auth`."""

    @app.before_request
    def _check() -> None:
        if request.method in _SAFE or request.endpoint is None:
            return
        if auth.declared(current_app.view_functions[request.endpoint]) == auth.PUBLIC:
            check_origin()
            return
        actor = auth.current()
        if actor is None or actor.csrf_token is None:
            return
        check_origin()
        given = request.headers.get(HEADER)
        if given is None and request.mimetype in _FORMS:
            given = request.form.get(FIELD)
        if given is None or not hmac.compare_digest(given.encode(), actor.csrf_token.encode()):
            raise Forbidden("The form is out of date: load the page again.", kind="csrf")


def check_origin() -> None:
    """Refuse a request that a browser says comes from another site."""
    origin = request.headers.get("Origin")
    if origin is not None:
        parts = urlsplit(origin)
        if (parts.scheme, parts.netloc) != (request.scheme, request.host):
            raise Forbidden("The request came from another site.", kind="csrf")
    elif request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
        raise Forbidden("The request came from another site.", kind="csrf")
