"""Which pages of other origins may read DICOMweb: those that `web.cors_origins` names, with a token.

Cookies are never allowed: such a page sends `Authorization`, and a preflight is answered before any login.
"""

from __future__ import annotations

from flask import Flask, Response, request

from webui.services import services

PREFIX = "/dicomweb"
METHODS = "GET, HEAD, POST, OPTIONS"
HEADERS = "Accept, Authorization, Content-Type, Range"
EXPOSED = "Content-Length, Content-Location, Content-Type, Retry-After, Warning"
MAX_AGE_SECONDS = "600"


def register(app: Flask) -> None:
    """Answer preflights and mark answers; to be registered before the guard of :mod:`webui.auth`."""

    @app.before_request
    def _preflight() -> Response | None:
        if not _ours() or request.method != "OPTIONS":
            return None
        if "Origin" not in request.headers or "Access-Control-Request-Method" not in request.headers:
            return None
        response = Response(status=204)
        if _allowed() is not None:
            response.headers["Access-Control-Allow-Methods"] = METHODS
            response.headers["Access-Control-Allow-Headers"] = HEADERS
            response.headers["Access-Control-Max-Age"] = MAX_AGE_SECONDS
        return response

    @app.after_request
    def _mark(response: Response) -> Response:
        if not _ours() or not services().settings.web.cors_origins:
            return response
        response.vary.add("Origin")
        origin = _allowed()
        if origin is not None:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = EXPOSED
            response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response


def _ours() -> bool:
    return request.path == PREFIX or request.path.startswith(f"{PREFIX}/")


def _allowed() -> str | None:
    """The origin of the page that asks, if it is one of those named."""
    origin = request.headers.get("Origin", "").lower()
    return origin if origin in services().settings.web.cors_origins else None
