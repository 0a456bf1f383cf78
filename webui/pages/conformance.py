"""The DICOM conformance statement as a page. The scheduler writes it; nothing of it is fetched elsewhere."""

from __future__ import annotations

import re

from flask import Blueprint, render_template
from markupsafe import Markup, escape

from db.exchange import Document
from webui import auth
from webui.services import services

_MARKED = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*")


def register(blueprint: Blueprint) -> None:
    blueprint.add_app_template_filter(marked, "marked")
    blueprint.add_url_rule("/conformance", view_func=conformance)


@auth.role("radiologist")
def conformance() -> str:
    """Chapters, tables and lists of the statement, with its contents beside them."""
    with services().database.read() as session:
        kept = session.get(Document, "conformance")
    return render_template("conformance.html", kept=kept, doc=kept.content if kept is not None else None)


def marked(text: str) -> Markup:
    """Text whose words in backticks are code and in double asterisks bold; everything else is escaped."""
    parts, end = [], 0
    for found in _MARKED.finditer(text):
        parts.append(escape(text[end : found.start()]))
        tag, words = ("code", found[1]) if found[1] is not None else ("b", found[2])
        parts.append(Markup("<{0}>{1}</{0}>").format(Markup(tag), words))  # noqa: S704 - tag is one of ours
        end = found.end()
    return Markup("").join([*parts, escape(text[end:])])
