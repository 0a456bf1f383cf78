"""In which language a page speaks: the person's own choice, else the node's, else what the browser asks for.

Templates say `{{ _("Words") }}`, Python `gettext`, the front end `t` (`words.ts`). Catalogues lie in
`webui/translations`: `messages` for templates and Python, `scripts` for the front end. `make words` brings
them to what is marked, `make install` compiles them; without compiled catalogues every page is English.
Programs are always answered in English.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from babel import Locale, UnknownLocaleError
from babel.messages.mofile import read_mo
from flask import Flask, has_request_context, request
from flask_babel import Babel, get_locale
from sqlalchemy.exc import SQLAlchemyError

from webui import auth
from webui.errors import wants_problem
from webui.services import services

LANGUAGES = {"en": "English", "de": "Deutsch"}
TRANSLATIONS = Path(__file__).parent / "translations"


def register(app: Flask) -> None:
    """Give templates `_`, and pages their locale."""
    Babel(app, locale_selector=_locale, default_translation_directories=str(TRANSLATIONS))
    app.jinja_env.globals["language"] = chosen
    app.jinja_env.globals["languages"] = available
    app.jinja_env.globals["words_of_scripts"] = words_of_scripts


def available() -> dict[str, str]:
    """The languages whose words are here, each in its own."""
    return {name: word for name, word in LANGUAGES.items() if name == "en" or _catalogue(name).exists()}


def chosen() -> str:
    """The language of this request, one of :func:`available`."""
    if not has_request_context() or wants_problem():
        return "en"
    known = available()
    wish = _wish()
    if wish in known:
        return str(wish)
    configured = services().settings.web.language
    if configured != "auto":
        return configured if configured in known else "en"
    asked = (tag.split("-")[0].lower() for tag, quality in request.accept_languages if quality > 0)
    return next((name for name in asked if name in known), "en")


def locale() -> Locale:
    """How dates and numbers are written for this request; English outside of one."""
    return get_locale() or Locale("en")


def words_of_scripts() -> dict[str, str]:
    """What the front end's `t` says in this language: its English words to ours."""
    name = chosen()
    return {} if name == "en" else _words(_catalogue(name, "scripts"))


def _wish() -> str | None:
    """What the person chose; None also where the database cannot tell: its error has a page too."""
    try:
        actor = auth.current() if request.endpoint else None
    except SQLAlchemyError:
        return None
    return actor.language if actor is not None else None


def _locale() -> Locale:
    """The language of this request with the country that the browser names: it decides how numbers look."""
    name = chosen()
    for tag in request.accept_languages.values() if has_request_context() else ():
        try:
            asked = Locale.parse(tag, sep="-")
        except (ValueError, UnknownLocaleError):
            continue
        if asked.language == name:
            return asked
    return Locale(name)


def _catalogue(name: str, domain: str = "messages") -> Path:
    return TRANSLATIONS / name / "LC_MESSAGES" / f"{domain}.mo"


@cache
def _words(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    with file.open("rb") as stream:
        return {str(one.id): str(one.string) for one in read_mo(stream) if one.id and one.string}
