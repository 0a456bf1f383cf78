"""How the node is, for people: what `GET /api/v1/system` tells, and a C-ECHO at the press of a button."""

from __future__ import annotations

import platform
from collections.abc import Callable
from importlib import metadata

from flask import Blueprint, redirect, render_template, url_for
from flask_babel import gettext as _
from flask_babel import lazy_gettext, ngettext
from sqlalchemy import make_url
from werkzeug.wrappers import Response as AnyResponse

from db import pauses
from webui import auth
from webui.api import system as api
from webui.errors import ApiProblem
from webui.pages import queue
from webui.services import Services, services

REFUSALS = {
    "calling": lazy_gettext("unknown callers"),
    "called": lazy_gettext("calls for others"),
    "limit": lazy_gettext("too many associations"),
    "peer-limit": lazy_gettext("too many from one address"),
    "connections": lazy_gettext("too many connections"),
    "silent": lazy_gettext("silent, cut off for others"),
    "tls": lazy_gettext("TLS that failed"),
    "shutting-down": lazy_gettext("while shutting down"),
}
"""Words for the receiver's reasons to turn a caller away."""


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/system", view_func=system)
    blueprint.add_url_rule("/system/echo/<name>", view_func=echo, methods=["POST"])
    blueprint.add_url_rule("/system/archives/<name>/echo", view_func=echo_archive, methods=["POST"])


@auth.role("radiologist")
def system() -> str:
    """Roles alive, destinations, disk, model and device."""
    here = services()
    with here.database.read() as session:
        found = api.overview(session, here)
        still = pauses.all_pauses(session)
    tls = here.settings.dicom.tls
    return render_template(
        "system.html",
        found=found,
        pauses=still,
        pausable=queue.pausable(),
        roles=[(name, [row for row in found.roles if row.role == name]) for name in api.ROLES],
        callers=here.settings.dicom.allow,
        dicom_host=here.settings.dicom.host,
        dicom_port=None if tls and tls.only else found.dicom_port or here.settings.dicom.port,
        tls_port=found.door.tls_port or (tls.port if tls else None),
        refusals=REFUSALS,
        storage=_storage(here),
        versions=_versions(),
    )


@auth.role("radiologist")
def echo(name: str) -> AnyResponse:
    """A C-ECHO as a plain form post; the answer stands on the page."""
    return _echo(api.echo, name)


@auth.role("radiologist")
def echo_archive(name: str) -> AnyResponse:
    """The same for an archive that images are fetched from."""
    return _echo(api.echo_archive, name)


def _echo(ask: Callable[[str], object], name: str) -> AnyResponse:
    try:
        ask(name)
    except ApiProblem as problem:
        if problem.status == 404:
            raise
    return redirect(url_for("pages.system"), 303)


def _storage(here: Services) -> list[tuple[str, str]]:
    engine = make_url(here.settings.database_url).get_backend_name()
    return [
        (_("Database"), {"sqlite": "SQLite", "postgresql": "PostgreSQL"}.get(engine, engine)),
        (_("Objects"), here.settings.storage_url.partition("://")[0]),
        (_("Sources kept"), _days(here.settings.retention.sources_days)),
        (_("Results kept"), _days(here.settings.retention.results_days)),
    ]


def _days(number: float) -> str:
    return ngettext("%(num)g day", "%(num)g days", number)


def _versions() -> list[tuple[str, str]]:
    rows = [("cxr-sr", "cxr-sr"), ("pydicom", "pydicom"), ("pynetdicom", "pynetdicom"), ("PyTorch", "torch")]
    found = []
    for title, distribution in rows:
        try:
            found.append((title, metadata.version(distribution)))
        except metadata.PackageNotFoundError:
            continue
    return [*found, ("Python", platform.python_version())]
