"""The administrator's pages under `/admin`, and what everybody sees of their own access."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Blueprint, redirect, url_for
from flask_babel import lazy_gettext
from werkzeug.wrappers import Response as AnyResponse

from webui import auth
from webui.pages.admin import (
    access,
    configuration,
    destinations,
    joblog,
    models,
    own,
    people,
    rules,
    trail,
    webhooks,
)


@dataclass(frozen=True)
class Section:
    """An entry of the sub-navigation."""

    endpoint: str
    words: Any


SECTIONS = (
    Section("pages.settings", lazy_gettext("Settings")),
    Section("pages.rules", lazy_gettext("Rules")),
    Section("pages.destinations", lazy_gettext("Destinations")),
    Section("pages.users", lazy_gettext("People")),
    Section("pages.tokens", lazy_gettext("Tokens")),
    Section("pages.sessions", lazy_gettext("Logins")),
    Section("pages.webhooks", lazy_gettext("Webhooks")),
    Section("pages.audit", lazy_gettext("Audit trail")),
    Section("pages.models", lazy_gettext("Models")),
    Section("pages.judged", lazy_gettext("Judgements")),
)


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/admin", view_func=admin)
    for part in (configuration, rules, destinations, people, access, trail, models, joblog, own, webhooks):
        part.register(blueprint)
    blueprint.add_app_template_global(lambda: SECTIONS, "admin_sections")


@auth.role("admin")
def admin() -> AnyResponse:
    """Where one lands."""
    return redirect(url_for("pages.settings"), 303)
