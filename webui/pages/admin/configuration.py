"""The settings in force: searched by words, each with where it came from."""

from __future__ import annotations

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
    groups: dict[str, list[api.SettingView]] = {}
    for row in found.settings:
        groups.setdefault(_section(row.key), []).append(row)
    return render_template("admin/settings.html", found=found, groups=groups.items(), words=words)


def _section(key: str) -> str:
    """The key's table: `destinations[0]` of `destinations[0].port`, empty at the top."""
    return key.rpartition(".")[0].split(".")[0]
