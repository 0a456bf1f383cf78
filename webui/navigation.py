"""The main navigation: the rooms that are there and that the reader may enter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Flask, current_app, request
from flask_babel import lazy_gettext

from webui import auth
from webui.services import services


@dataclass(frozen=True)
class Room:
    """A page of the navigation; it is shown to whoever may open it."""

    path: str
    words: Any
    icon: str


ROOMS = (
    Room("/dashboard", lazy_gettext("Dashboard"), "dashboard"),
    Room("/queue", lazy_gettext("Queue"), "queue"),
    Room("/review", lazy_gettext("Review"), "review"),
    Room("/upload", lazy_gettext("Upload"), "upload"),
    Room("/fetch", lazy_gettext("Fetch"), "fetch"),
    Room("/system", lazy_gettext("System"), "system"),
    Room("/admin", lazy_gettext("Admin"), "admin"),
)


def register(app: Flask) -> None:
    """Give templates `rooms()` and `here(path)`."""
    app.jinja_env.globals["rooms"] = rooms
    app.jinja_env.globals["here"] = here


def rooms() -> list[Room]:
    """Those of :data:`ROOMS` that this reader may open."""
    actor = auth.current()
    if actor is None or actor.must_change_password:
        return []
    return [room for room in ROOMS if _open_to(actor, room)]


def here(path: str) -> str:
    """For `aria-current`: `page` on the page of that path, `true` on one below it, else nothing."""
    if request.path == path:
        return "page"
    return "true" if request.path.startswith(path + "/") else ""


def _open_to(actor: auth.Actor, room: Room) -> bool:
    if room.path == "/fetch" and not services().settings.archives:
        return False
    endpoint = next(
        (rule.endpoint for rule in current_app.url_map.iter_rules() if rule.rule == room.path), None
    )
    needed = auth.declared(current_app.view_functions[endpoint]) if endpoint else None
    return needed is not None and actor.may(needed)
