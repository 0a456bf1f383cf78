"""Fetching from an archive with one's hands: search, choose, pause, resume, and see it end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from config.network import Archive
from config.settings import FetchSettings, WebSettings
from db import people
from db.models import RoleInstance
from pacs_node import sender
from tests import dicom_variants as variants
from tests.browser.conftest import PASSWORD, Trouble, log_in
from tests.browser.test_pages import CONTRAST
from tests.interop.conftest import Roles, running_orthanc
from tests.interop.test_fetch import deposit, old
from tests.pacs_node.nodes import PATIENT, eventually, make_database, make_settings
from tests.peers import missing, require
from webui import assets, server

pytestmark = pytest.mark.peer("orthanc", "orthanc-dicomweb", "chromium")

SOON = 60_000


@dataclass
class Desk:
    """A node with an archive before it, and its address."""

    url: str


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """Return a node that serves pages and fetches from an Orthanc with three old studies."""
    require("chromium")
    if not assets.files():
        missing("the front end is not built (make build-web)")
    (tmp_path / "orthanc").mkdir()
    with running_orthanc(tmp_path / "orthanc", DicomAlwaysAllowGet=True) as orthanc:
        for number, name in enumerate(("Lovelace^Ada", "Hopper^Grace", "Noether^Emmy")):
            ds = variants.cr(**old(str(number), f"2024011{number}", PatientName=name))
            deposit(orthanc, variants.written(ds, tmp_path / f"{number}.dcm"))
        archive = Archive(name="old-films", ae_title="ORTHANC", host="127.0.0.1", port=orthanc.dicom_port)
        settings = make_settings(tmp_path / "node", dicom=PATIENT).model_copy(
            update={
                "archives": (archive,),
                "web": WebSettings(port=0),
                "fetch": FetchSettings(max_waiting=1),
            }
        )
        database = make_database(settings)
        with database.write() as session:
            people.add_user(session, "ada", "radiologist", PASSWORD)
        with Roles(settings, server.run, sender.run):

            def port() -> int | None:
                with database.read() as session:
                    rows = session.query(RoleInstance).filter_by(role="web")
                    return next((int(row.info["port"]) for row in rows), None)

            assert eventually(port, 60)
            yield Desk(f"http://127.0.0.1:{port()}")
        database.close()


@pytest.mark.slow
def test_old_studies_are_searched_chosen_and_followed_on_the_page(
    desk: Desk, browser: Browser, tmp_path: Path
):
    trouble = Trouble(desk.url)
    context = browser.new_context(base_url=desk.url, viewport={"width": 1280, "height": 844}, locale="en-GB")
    context.set_default_timeout(SOON)
    context.on("page", trouble.watch)
    page = context.new_page()
    try:
        log_in(page)
        walk(page, tmp_path)
    finally:
        context.close()
    assert trouble.said == []
    assert trouble.strangers == []


def walk(page: Page, folder: Path) -> None:
    expect.set_options(timeout=SOON)
    page.get_by_role("link", name="Fetch").click()
    page.get_by_label("Patient ID").fill("OLD-*")
    page.get_by_label("Study from").fill("2024-01-01")
    page.get_by_role("button", name="Search").click()
    found = page.get_by_role("region", name="Studies found")
    expect(found.locator("tbody tr")).to_have_count(3)
    expect(found).to_contain_text("Hopper, Grace")
    assert "OLD" not in page.url
    check(page, folder / "found.png")
    found.get_by_role("checkbox", name="Noether").uncheck()
    page.get_by_label("Call it").fill("January")
    page.get_by_role("button", name="Enhance these studies").click()
    expect(page.locator("h1")).to_have_text("Batch 1")
    items = page.get_by_role("region", name="Studies").locator("tbody tr")
    expect(items).to_have_count(2)
    # no worker runs: the first image waits, and with max_waiting = 1 the second study waits for it
    expect(items.filter(has_text="fetched")).to_have_count(1)
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("[data-live=batch] h2")).to_contain_text("paused")
    check(page, folder / "batch.png")
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("[data-live=batch] h2")).to_contain_text("open")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("[data-live=batch] h2")).to_contain_text("cancelled")
    expect(items.filter(has_text="cancelled on request")).to_have_count(1)
    page.set_viewport_size({"width": 390, "height": 844})
    check(page, folder / "narrow.png")
    page.goto("/fetch")
    expect(page.get_by_role("region", name="Batches")).to_contain_text("January")
    check(page, folder / "narrow-fetch.png")


def check(page: Page, picture: Path) -> None:
    """It fits and can be read; the picture is for whoever looks."""
    page.screenshot(path=picture, full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0, picture.name
    assert page.evaluate(CONTRAST) == [], picture.name
