"""The destinations with their settings, an echo and a test image."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, redirect, render_template, url_for
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as AnyResponse

from config.origins import Effective, effective
from db import audit
from db.models import AuditEvent, PeerStatus
from webui import auth
from webui.api import destinations as api
from webui.api import system
from webui.errors import ApiProblem
from webui.services import services

ALWAYS = ("kind", "ae_title", "host", "port", "url", "tls", "label", "default", "storage_commitment")
"""Settings that are shown although nobody changed them."""


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/admin/destinations", view_func=destinations)
    blueprint.add_url_rule(
        "/admin/destinations/<name>/echo", endpoint="echo_destination", view_func=echo, methods=["POST"]
    )
    blueprint.add_url_rule("/admin/destinations/<name>/test-image", view_func=test_image, methods=["POST"])


@auth.role("admin")
def destinations() -> str:
    """Each with what it last said."""
    here = services()
    rows = effective(here.settings)
    with here.database.read() as session:
        shown = [
            {
                "remote": remote,
                "settings": _settings(rows, number, remote.kind),
                "status": session.get(PeerStatus, remote.name),
                "test": _last_test(session, remote.name),
            }
            for number, remote in enumerate(here.settings.destinations)
        ]
    return render_template("admin/destinations.html", destinations=shown)


@auth.role("admin")
def echo(name: str) -> AnyResponse:
    """An echo as a plain form post; the answer stands on the page."""
    return _then_back(system.echo, name)


@auth.role("admin")
def test_image(name: str) -> AnyResponse:
    """A test image as a plain form post; the answer stands on the page."""
    return _then_back(api.sent, name)


def _then_back(ask: Callable[[str], object], name: str) -> AnyResponse:
    try:
        ask(name)
    except ApiProblem as problem:
        if problem.status == 404:
            raise
    return redirect(url_for("pages.destinations", _anchor=name), 303)


def _settings(rows: list[Effective], number: int, kind: str) -> list[tuple[str, Effective]]:
    """What was set, and what always matters, of one destination; without what concerns the other protocol."""
    found = []
    for row in rows:
        above, _, name = row.key.rpartition(".")
        if above != f"destinations[{number}]" or name == "name":
            continue
        other = "dicomweb:" if kind == "dimse" else "dimse:"
        if row.description.startswith(other) and row.origin.kind == "default":
            continue
        if row.origin.kind != "default" or name in ALWAYS:
            found.append((name, row))
    return [(name, row) for name, row in found if row.value != '""']


def _last_test(session: Session, name: str) -> AuditEvent | None:
    wanted = audit.Filter(object_type="destination", object_id=name, action="destination.test")
    rows, _ = audit.page(session, wanted, limit=1)
    return rows[0] if rows else None
