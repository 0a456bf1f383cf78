"""The models: what each is, what it must not be used for, and how often it was used."""

from __future__ import annotations

from flask import Blueprint, render_template

from webui import auth
from webui.api import modelcards as api
from webui.markdown import render
from webui.services import services


def register(blueprint: Blueprint) -> None:
    blueprint.add_url_rule("/admin/models", view_func=models)


@auth.role("admin")
def models() -> str:
    """Cards, digests, domains and counts."""
    with services().database.read() as session:
        found = api.overview(session)
    cards = [
        (model, render(_without_title(model.card), below=1) if model.card else "") for model in found.models
    ]
    return render_template("admin/models.html", found=found, cards=cards)


def _without_title(card: str) -> str:
    """A card without its first heading: the page has one for it."""
    first, _, rest = card.lstrip().partition("\n")
    return rest if first.startswith("# ") else card
