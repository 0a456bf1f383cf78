"""In which language a page speaks: the person's own choice, else the node's, else what the browser asks for.

Templates say `{{ _("Words") }}`, Python `gettext`, the front end `t` (`words.ts`); catalogues lie in
`webui/translations`.
"""

from __future__ import annotations

from flask import Flask, has_request_context, request
from flask_babel import Babel

from webui import auth
from webui.services import services

LANGUAGES = {"en": "English", "de": "Deutsch"}


def register(app: Flask) -> None:
    """Give templates `_`, and pages their locale."""
    Babel(app, locale_selector=chosen, default_translation_directories="translations")
    app.jinja_env.globals["language"] = chosen
    app.jinja_env.globals["words_of_scripts"] = words_of_scripts


def chosen() -> str:
    """The language of this request, one of LANGUAGES."""
    if not has_request_context():
        return "en"
    actor = auth.current() if request.endpoint else None
    if actor is not None and actor.language in LANGUAGES:
        return str(actor.language)
    configured = services().settings.web.language
    if configured != "auto":
        return configured
    return request.accept_languages.best_match(list(LANGUAGES)) or "en"


def words_of_scripts() -> dict[str, str]:
    """What the front end's `t` says in this language: its English words to ours."""
    return {}
