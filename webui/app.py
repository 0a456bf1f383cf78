"""The web application: `create_app` joins the blueprints, one a concern. Nothing happens at import time.

Pages (`webui.pages`): `/`, `/login`, `/upload`, `/queue`, `/jobs/<id>`, `/system`, `/account`.
Forms (`webui.signin`): `POST /login`, `POST /logout`, `POST /account`; `webui.outside`: `/login/oidc`.
Programs: `webui.api` at `/api/v1` and `/api/openapi.json`, `webui.dicomweb` at `/dicomweb`.
Operators: `webui.health` at `/healthz`, `/readyz`, `/metrics`.

Templates have `actor` (:class:`webui.auth.Actor` or None), `csrf_token()` and `asset(name)`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from flask import Flask

from config import Settings
from db import Database
from db.objects import store_of
from webui import (
    auth,
    csrf,
    errors,
    language,
    limits,
    metrics,
    navigation,
    outside,
    security,
    signin,
    uploads,
)
from webui.api import blueprint as api
from webui.api.events import Broadcaster
from webui.dicomweb import cors
from webui.directory import Directory
from webui.oidc import Provider
from webui.security import TrustedProxies
from webui.services import KEY, Services
from webui.throttle import Throttle
from webui.uploads import UploadRequest

__all__ = ["create_app"]

MAX_BODY_BYTES = 1 << 20
"""Largest body of a request that is no upload."""

_OPTIONAL = ("webui.pages", "webui.health", "webui.dicomweb")


class Application(Flask):
    request_class = UploadRequest


def create_app(settings: Settings, database: Database | None = None) -> Flask:
    """The application over one database and store; the schema must be there already.

    It starts no thread and touches no row until the first request. When the server stops, call
    ``app.extensions["cxr_sr"].broadcaster.close()`` to end the event streams.
    """
    app = Application("webui", static_folder="static", template_folder="templates")
    app.config.update(MAX_CONTENT_LENGTH=MAX_BODY_BYTES, MAX_FORM_PARTS=250, TRAP_HTTP_EXCEPTIONS=False)
    app.jinja_options = {"autoescape": True, "trim_blocks": True, "lstrip_blocks": True}
    database = database or Database(settings.database_url)
    secure = settings.web.tls_cert is not None or bool(settings.web.trusted_proxies)
    app.extensions[KEY] = Services(
        settings=settings,
        database=database,
        store=store_of(settings),
        throttle=Throttle(),
        broadcaster=Broadcaster(database, max_streams=max(1, settings.web.threads - SPARE_THREADS)),
        metrics=metrics.Metrics(),
        secure=secure,
        provider=Provider(settings.web.oidc) if settings.web.oidc else None,
        directory=Directory(settings.web.ldap) if settings.web.ldap else None,
    )
    app.wsgi_app = TrustedProxies(app.wsgi_app, settings.web.trusted_proxies)  # type: ignore[method-assign]
    errors.register(app)
    security.register(app, secure=secure)
    metrics.register(app)
    cors.register(app)
    limits.register(app)
    auth.register(app)
    language.register(app)
    navigation.register(app)
    uploads.register(app)
    csrf.register(app)
    app.view_functions["static"] = auth.public(app.view_functions["static"])
    app.register_blueprint(signin.blueprint)
    app.register_blueprint(outside.blueprint)
    app.register_blueprint(api)
    for name in _OPTIONAL:
        if find_spec(name) is not None:
            blueprint = getattr(importlib.import_module(name), "blueprint", None)
            if blueprint is not None:
                app.register_blueprint(blueprint)
    app.jinja_env.globals["asset"] = _asset()
    return app


SPARE_THREADS = 24
"""Threads of the server that event streams never take: they serve pages."""


def _asset() -> Callable[[str], Any]:
    if find_spec("webui.assets") is None:
        return lambda name: f"/static/dist/{name}"
    found: Callable[[str], Any] = importlib.import_module("webui.assets").asset
    return found
