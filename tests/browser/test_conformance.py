"""The conformance statement in a browser: it fits, its tables scroll by themselves, its contents lead."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from cxr_sr.conformance import statement
from db import Database
from db.exchange import Document
from tests.browser.conftest import Node, Opener, log_in


@pytest.fixture
def written(node: Node, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The statement, as the scheduler writes it; the node of these tests runs without one."""
    (file,) = {path.resolve() for path in tmp_path_factory.getbasetemp().glob("node*/var/cxr-sr.db")}
    database = Database(f"sqlite:///{file}")
    with database.write() as session:
        session.merge(Document(name="conformance", content=statement().data()))
    database.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_the_statement_fits_and_its_contents_lead_to_its_chapters(
    written: None, open_browser: Opener, width: int
) -> None:
    page = open_browser(width=width).new_page()
    log_in(page)
    page.goto("/system")
    page.get_by_role("link", name="DICOM conformance statement").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("DICOM Conformance Statement")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.get_by_role("table").count() > 30
    page.get_by_role("link", name="Annex E Code Set Usage").click()
    expect(page.get_by_role("heading", name="Annex E Code Set Usage")).to_be_in_viewport()
