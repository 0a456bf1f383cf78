"""The settings in force: searched by words, each with where it came from."""

from __future__ import annotations

from itertools import groupby

from flask import Blueprint, render_template, request

from webui import auth
from webui.api import configuration as api
from webui.services import services


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/admin/settings", view_func=settings)


@auth.role("admin")
def settings() -> str:
    """Every setting by its section; `q` in the address narrows them."""
    words = request.args.get("q", "").strip()[:64]
    found = api.configuration(services(), words)
    groups = [
        (section, list(rows)) for section, rows in groupby(found.settings, key=lambda row: _section(row.key))
    ]
    return render_template("admin/settings.html", found=found, groups=groups, words=words)


def _section(key: str) -> str:
    """The key's table: `destinations[0]` of `destinations[0].port`, empty at the top."""
    return key.rpartition(".")[0].split(".")[0]
