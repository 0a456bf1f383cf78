"""The conformance statement as a page for those who are signed in."""

from __future__ import annotations

import re

from db import Database
from db.exchange import Document
from tests.webui.conftest import Person

STATEMENT = {
    "title": "DICOM Conformance Statement: cxr-sr 9",
    "contents": [{"kind": "heading", "level": 1, "number": "1", "text": "Overview", "id": "section-1"}],
    "blocks": [
        {"kind": "heading", "level": 1, "number": "1", "text": "Overview", "id": "section-1"},
        {"kind": "text", "text": "The `code` and **bold** & <script>alert(1)</script>"},
        {"kind": "list", "items": ["one `two`"]},
        {"kind": "table", "caption": "Content", "head": ["a", "b"], "rows": [["`1.2.3`", "<b>"]]},
        {"kind": "contents"},
    ],
}


def write(database: Database) -> None:
    with database.write() as session:
        session.add(Document(name="conformance", content=STATEMENT))


def test_the_statement_is_shown_with_its_tables_and_contents(anna: Person, database: Database) -> None:
    write(database)
    html = anna.get("/conformance").text
    assert "<h1>DICOM Conformance Statement: cxr-sr 9</h1>" in html
    assert '<h2 id="section-1">1 Overview</h2>' in html
    assert '<a href="#section-1">1 Overview</a>' in html
    assert "The <code>code</code> and <b>bold</b> &amp; &lt;script&gt;" in html
    assert "<td><code>1.2.3</code></td><td>&lt;b&gt;</td>" in html
    assert "<li>one <code>two</code></li>" in html


def test_before_the_scheduler_has_written_it_the_page_says_so(anna: Person) -> None:
    assert "not written yet" in anna.get("/conformance").text


def test_nobody_sees_it_without_signing_in(visitor: Person, database: Database) -> None:
    write(database)
    assert "cxr-sr 9" not in visitor.get("/conformance").text


def test_the_system_page_leads_to_it(anna: Person) -> None:
    assert re.search(r'<a href="/conformance">', anna.get("/system").text)
