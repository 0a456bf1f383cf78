"""Pages in the reader's language: what is marked, what is translated, and who decides."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from babel.messages.catalog import Catalog
from babel.messages.mofile import write_mo
from flask import Flask
from jinja2 import Environment, nodes

from config import Settings
from db import Database
from tests.webui.conftest import Person
from tools import words as tool
from webui import language
from webui.app import create_app

TEMPLATES = Path(language.__file__).parent / "templates"
GERMAN = {"Accept-Language": "de-DE,de;q=0.9,en;q=0.5"}
NAMES = frozenset(
    word
    for line in (
        "cxr-sr AE DICOM DICOMweb TLS UTC ID UID PNG JPEG TIFF ZIP CSV JSON CR DX PA AP C-ECHO C-STORE",
        "STOW-RS HTTP HTTPS URL SHA sha256 CPU GPU HMAC DOE",
    )
    for word in line.split()
)
"""Words that are the same in every language."""
CALLS = frozenset({"_", "gettext", "ngettext", "url_for"})
READ_ALOUD = ("aria-label", "title", "placeholder", "alt", "data-say", "data-confirm")


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The catalogues as they are kept, whether or not they were compiled."""
    folder = tmp_path_factory.mktemp("translations")
    for domain in tool.MARKED:
        file = folder / "de" / "LC_MESSAGES" / f"{domain}.mo"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as stream:
            write_mo(stream, tool.catalogue("de", domain))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(language, "TRANSLATIONS", folder)
        language._words.cache_clear()
        yield
    language._words.cache_clear()


@pytest.mark.parametrize("domain", tool.MARKED)
def test_every_marked_word_has_a_german_one_with_the_same_places_to_fill(domain: str) -> None:
    marked, kept = tool.extracted(domain), tool.catalogue("de", domain)
    assert len(marked) > 10
    known = {_key(one.id) for one in kept}
    assert sorted(known ^ {_key(one.id) for one in marked}) == [], "run `make words`"
    assert tool.untranslated(kept) == []
    assert [one.id for one in kept if one.id and one.fuzzy] == []
    for one in kept:
        if one.id:
            assert _places(one.string) == _places(one.id), one.id


def _key(words: Any) -> str:
    return words if isinstance(words, str) else str(words[0])


def _places(words: Any) -> set[str]:
    every = [words] if isinstance(words, str) else list(words)
    return {place for said in every for place in re.findall(r"%\(\w+\)s|\{\w+\}", said)} - {"%(num)s"}


def test_no_template_has_words_that_are_not_marked(app: Flask) -> None:
    loose = {
        file.name: _unmarked(app.jinja_env, file.read_text("utf-8")) for file in TEMPLATES.glob("*.html")
    }
    assert len(loose) > 10
    assert {name: said for name, said in loose.items() if said} == {}


def test_the_check_of_templates_finds_what_is_not_marked() -> None:
    source = """<p title="Not this">{{ _("Marked") }}</p><p>Neither {{ name }}</p><code>x y</code>
    {{ "Nor that" if name == "odd" }}{% trans %}Marked too{% endtrans %}{% block body %} off{% endblock %}"""
    found = _unmarked(Environment(extensions=["jinja2.ext.i18n"]), source)
    assert found == ["Nor that", "Not this", "Neither"]


def _unmarked(environment: Environment, source: str) -> list[str]:
    text: list[str] = []
    loose = list(_walk(environment.parse(source), text))
    reader = _Reader()
    reader.feed("".join(text))
    reader.close()
    return [said.strip("0 \n") for said in (*loose, *reader.found) if _is_language(said)]


def _walk(node: nodes.Node, text: list[str]) -> Iterator[str]:
    """Gather the markup in its order, and yield strings of expressions that no translation is asked for."""
    if isinstance(node, nodes.Block) and node.name == "body":  # attributes of the body
        return
    if isinstance(node, nodes.TemplateData):
        text.append(node.data)
    elif isinstance(node, nodes.Call) and getattr(node.node, "name", "") in CALLS:
        text.append("0")
    elif isinstance(node, nodes.Call) and isinstance(node.node, nodes.Getattr):  # a method's arguments
        yield from _walk(node.node, text)
    elif isinstance(node, nodes.Const) and isinstance(node.value, str):
        text.append("0")
        if re.search(r"[a-z] [a-z]|^[A-Z][a-z]{2,}$", node.value):
            yield node.value
    else:
        for child in node.iter_child_nodes():
            yield from _walk(child, text)


class _Reader(HTMLParser):
    """The words of markup that a reader sees or hears."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.silent += tag in {"code", "script", "style"}
        self.found += [value for name, value in attrs if name in READ_ALOUD and value]

    def handle_endtag(self, tag: str) -> None:
        self.silent -= tag in {"code", "script", "style"}

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.found.append(data)


def _is_language(said: str) -> bool:
    return any(word not in NAMES for word in re.findall(r"[A-Za-z][\w-]*[A-Za-z]\w*", said))


def test_the_words_of_scripts_are_found_and_sent_with_the_page(visitor: Person) -> None:
    assert "Not live" in {one.id for one in tool.extracted("scripts")}
    sent = _table(visitor.get("/login", headers=GERMAN).text)
    assert sent["Not live"] == "Nicht live"
    assert set(sent) == {one.id for one in tool.extracted("scripts") if one.id}
    assert _table(visitor.get("/login").text) == {}


def _table(html: str) -> dict[str, str]:
    found = re.search(r'id="words">(.*?)</script>', html, re.S)
    assert found is not None
    return json.loads(found[1])


def test_a_visitor_is_spoken_to_as_the_browser_asks(visitor: Person) -> None:
    html = visitor.get("/login", headers=GERMAN).text
    assert '<html lang="de">' in html
    assert "Anmelden" in html
    for other in ({}, {"Accept-Language": "fr, en;q=0.3"}, {"Accept-Language": "en-GB,de;q=0.5"}):
        html = visitor.get("/login", headers=other).text
        assert '<html lang="en">' in html
        assert "Log in" in html


def test_a_choice_of_ones_own_goes_before_the_browsers_and_can_be_taken_back(anna: Person) -> None:
    assert anna.post("/account/language", data={"language": "de"}).status_code == 303
    page = anna.get("/account?language=1", headers={"Accept-Language": "en"}).text
    assert '<html lang="de">' in page
    assert '<option value="de" lang="de" selected>Deutsch</option>' in page
    assert anna.get("/api/v1/me").get_json()["language"] == "de"
    assert anna.post("/api/v1/me/language", json={"language": None}).status_code == 204
    assert '<html lang="en">' in anna.get("/account", headers={"Accept-Language": "en"}).text
    assert anna.post("/account/language", data={"language": "tlh"}).status_code == 422


def test_the_nodes_language_is_for_those_who_chose_none(settings: Settings, database: Database) -> None:
    web = settings.web.model_copy(update={"language": "de"})
    person = Person(create_app(settings.model_copy(update={"web": web}), database).test_client())
    assert '<html lang="de">' in person.get("/login", headers={"Accept-Language": "en"}).text
    person.login("anna")
    person.post("/account/language", data={"language": "en"})
    assert '<html lang="en">' in person.get("/account", headers=GERMAN).text


def test_numbers_and_dates_follow_the_reader_and_refusals_on_pages_too(anna: Person) -> None:
    html = anna.get("/upload", headers=GERMAN).text
    assert "8,4 MB" in html
    assert "8.4 MB" in anna.get("/upload").text
    refused = anna.get("/nowhere", headers=GERMAN)
    assert refused.status_code == 404
    assert "Unter dieser Adresse gibt es nichts." in refused.text


def test_programs_are_answered_in_english(visitor: Person) -> None:
    answer = visitor.get("/api/v1/jobs", headers=GERMAN)
    assert answer.get_json()["detail"] == "Log in, or send a valid token."
    assert (
        visitor.get("/api/v1/nowhere", headers=GERMAN).get_json()["detail"]
        == "There is nothing at this address."
    )


def test_without_a_catalogue_every_page_stays_english(
    settings: Settings, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language, "TRANSLATIONS", tmp_path)
    html = Person(create_app(settings, database).test_client()).get("/login", headers=GERMAN).text
    assert '<html lang="en">' in html
    assert "Log in" in html


def test_a_translation_that_is_missing_stands_out() -> None:
    kept = Catalog(locale="de")
    kept.add("one", "eins")
    kept.add("two", "")
    kept.add(("%(num)s image", "%(num)s images"), ("%(num)s Bild", ""))
    assert tool.untranslated(kept) == ["two", "%(num)s image"]
