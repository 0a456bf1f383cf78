"""What is done with a result: taken home, sent on, shared, judged, released or turned down with a key."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pydicom import dcmread
from sqlalchemy import select, update

from config.network import Destination
from db.desk import Judgement
from db.models import Job
from db.objects import LocalStore
from db.states import JobState
from pacs_node import archive, sender
from tests import dicom_variants as variants
from tests.browser.axe import violations
from tests.browser.conftest import Trouble, log_in
from tests.browser.desk import ADMIN, Desk, furnished
from tests.interop.conftest import Roles
from tests.pacs_node.nodes import eventually
from tests.peers import require
from tests.webui.cabinet import Cabinet

pytestmark = pytest.mark.peer("chromium")

SOON = 60_000
Window = Callable[..., Page]


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[archive.Archive]:
    with archive.serve(tmp_path_factory.mktemp("pacs"), ae_title="PACS") as pacs:
        yield pacs


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, pacs: archive.Archive) -> Iterator[Desk]:
    require("chromium")
    there = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=pacs.port)
    with furnished(tmp_path_factory.mktemp("desk"), there) as desk:
        yield desk


@pytest.fixture(scope="module")
def people(desk: Desk, browser: Browser) -> Iterator[dict[str, BrowserContext]]:
    """Browsers of a radiologist and of an administrator, both logged in."""
    found = {}
    for name in ("ada", ADMIN):
        context = browser.new_context(base_url=desk.url, locale="en-GB", accept_downloads=True)
        context.set_default_timeout(SOON)
        log_in(context.new_page(), name)
        found[name] = context
    yield found
    for context in found.values():
        context.close()


@pytest.fixture
def window(desk: Desk, people: dict[str, BrowserContext]) -> Iterator[Window]:
    """Return a function that opens a window of one of them; nothing may complain or ask another host."""
    expect.set_options(timeout=SOON)
    trouble, opened = Trouble(desk.url), []

    def open_(path: str, *, who: str = "ada", theme: str = "dark", width: int = 1440) -> Page:
        page = people[who].new_page()
        opened.append(page)
        trouble.watch(page)
        page.emulate_media(color_scheme="light" if theme == "light" else "dark")
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(path)
        page.locator("html[data-ready]").wait_for(state="attached")
        return page

    yield open_
    for page in opened:
        page.close()
    assert trouble.said == []
    assert trouble.strangers == []


def look(page: Page, where: str) -> None:
    """Axe finds nothing, and nothing stands out of the window."""
    assert violations(page) == [], where
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0, where


def downloaded(page: Page, name: str) -> bytes:
    with page.expect_download() as started:
        page.get_by_role("link", name=name, exact=True).click()
    return Path(started.value.path()).read_bytes()


def held(desk: Desk, number: int) -> list[int]:
    """Jobs whose results wait for release, the most urgent first."""
    cabinet = Cabinet(desk.database, LocalStore(desk.settings.data_dir / "objects"))
    found = []
    for n in range(number):
        ds = variants.cr(PatientName="Kim^Nova", PatientID=f"HELD-{n}")
        job = cabinet.source(ds)
        with desk.database.write() as session:
            session.execute(update(Job).where(Job.id == job).values(priority=0))
        cabinet.result(ds, release="review")
        found.append(job)
    return found


def state(desk: Desk, job: int) -> JobState:
    with desk.database.read() as session:
        return session.get_one(Job, job).state


@pytest.mark.parametrize(("theme", "width"), [("dark", 1440), ("light", 390)])
def test_a_result_goes_home_as_dicom_at_full_depth_and_as_a_picture(
    desk: Desk, window: Window, theme: str, width: int
) -> None:
    page = window(f"/jobs/{desk.jobs['done']}", theme=theme, width=width)
    page.locator("summary", has_text="Download").click()
    look(page, "download")
    ds = dcmread(io.BytesIO(downloaded(page, "DICOM")))
    with Image.open(io.BytesIO(downloaded(page, "PNG, 16 bits"))) as png:
        assert png.mode == "I;16"
        assert np.array_equal(np.asarray(png) >> (16 - ds.BitsStored), ds.pixel_array)
    with Image.open(io.BytesIO(downloaded(page, "Before and after"))) as talk:
        assert talk.width > 2 * ds.Columns
        assert np.asarray(talk).std() > 20
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="DICOM", exact=True)).to_be_hidden()


def test_a_result_is_sent_with_the_keyboard_alone_and_arrives(
    desk: Desk, window: Window, pacs: archive.Archive
) -> None:
    job = desk.jobs["done"]
    page = window(f"/jobs/{job}", theme="light", width=390)
    page.locator("summary", has_text="Send").focus()
    page.keyboard.press("Enter")
    look(page, "send")
    page.keyboard.press("Tab")
    expect(page.get_by_label("pacs")).to_be_focused()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    expect(page.locator("[data-live=deliveries]")).to_contain_text("waiting")
    expect(page.get_by_label("pacs")).to_be_disabled()
    with desk.database.read() as session:
        row = session.get_one(Job, job).result
        assert row is not None
        uid = row.sop_instance_uid
    with Roles(desk.settings, sender.run):
        assert eventually(lambda: pacs.find(uid), 60)
        expect(page.locator("[data-live=deliveries]")).to_contain_text("stored")
    assert state(desk, job) == JobState.DONE


def test_a_shared_link_asks_a_visitor_to_log_in_and_leads_a_colleague_on(
    desk: Desk, window: Window, browser: Browser
) -> None:
    job = desk.jobs["done"]
    page = window(f"/jobs/{job}")
    page.locator("summary", has_text="Share").click()
    page.get_by_label("Days until it ends").fill("2")
    page.get_by_role("button", name="Make a link").click()
    field = page.get_by_label("The link; it is shown this once")
    expect(field).to_be_focused()
    url = field.input_value()
    assert url.startswith(f"{desk.url}/s/")
    look(page, "share")
    colleague = window(url, who=ADMIN)
    expect(colleague).to_have_url(f"{desk.url}/jobs/{job}")
    visitor = browser.new_context(base_url=desk.url).new_page()
    try:
        visitor.goto(url)
        expect(visitor.get_by_role("button", name="Log in")).to_be_visible()
        log_in_here(visitor)
        expect(visitor).to_have_url(f"{desk.url}/jobs/{job}")
    finally:
        visitor.context.close()
    page.get_by_role("button", name="End link 1").click()
    expect(page.get_by_role("button", name="End link 1")).to_have_count(0)
    assert colleague.request.get(url).status == 410


def log_in_here(page: Page) -> None:
    page.get_by_label("Name").fill(ADMIN)
    page.get_by_label("Password").fill("a quiet dark room")
    page.get_by_role("button", name="Log in").click()


@pytest.mark.parametrize(("theme", "width"), [("dark", 390), ("light", 1440)])
def test_held_results_are_released_and_rejected_with_one_key_each(
    desk: Desk, window: Window, theme: str, width: int
) -> None:
    first, second, third = held(desk, 3)
    page = window("/review", theme=theme, width=width)
    expect(page).to_have_url(f"{desk.url}/review/{first}")
    expect(page.locator("h1")).to_have_text(f"Job {first}")
    look(page, "review")
    page.keyboard.press("r")
    expect(page.locator("h1")).to_have_text(f"Job {second}")
    page.keyboard.press("j")
    expect(page.locator("h1")).to_have_text(f"Job {third}")
    page.keyboard.press("x")
    expect(page.get_by_role("button", name="Invented detail")).to_be_visible()
    look(page, "reject")
    page.keyboard.press("2")
    page.wait_for_url(lambda url: not url.endswith(f"/{third}"))
    assert state(desk, first) == JobState.DONE, "it had nowhere to go"
    assert state(desk, second) == JobState.HELD
    assert state(desk, third) == JobState.CANCELLED
    page.goto(f"/review/{second}")
    page.locator("html[data-ready]").wait_for(state="attached")
    page.keyboard.press("x")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: not url.endswith(f"/{second}"))
    assert state(desk, second) == JobState.CANCELLED
    with desk.database.read() as session:
        said = session.scalars(select(Judgement).where(Judgement.job_id.in_([second, third]))).all()
        assert [one.verdict for one in said] == ["invented", "invented"]


def test_a_judgement_with_the_viewers_rectangle_reaches_the_administrator(desk: Desk, window: Window) -> None:
    job = desk.jobs["done"]
    page = window(f"/jobs/{job}")
    page.get_by_role("button", name="Rectangle", exact=True).click()
    box = page.locator("[data-viewer] canvas").last.bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle[0] - 60, middle[1] - 40)
    page.mouse.down()
    page.mouse.move(middle[0], middle[1], steps=4)
    page.mouse.move(middle[0] + 60, middle[1] + 40, steps=4)
    page.mouse.up()
    expect(page.get_by_label("Width")).not_to_have_value("")
    marked = {name: int(page.locator(f"#rectangle-{name}").input_value()) for name in REGION}
    page.get_by_label("Invented detail").check()
    page.get_by_label("Note for those who train").fill("a vessel that is not there")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator("[data-live=judgements]")).to_contain_text("a vessel that is not there")
    with desk.database.read() as session:
        row = session.scalars(select(Judgement).where(Judgement.job_id == job)).one()
        assert (row.verdict, row.rectangle) == ("invented", marked)
    seen = window("/admin/judgements?verdict=invented", who=ADMIN, theme="light", width=390)
    expect(seen.locator("main")).to_contain_text("a vessel that is not there")
    look(seen, "judgements")
    table = downloaded(seen, "CSV").decode()
    assert "a vessel that is not there" in table
    assert "Kim" not in table
    page.get_by_role("button", name="Withdraw").click()
    expect(page.locator("[data-live=judgements]")).to_contain_text("Nobody has said anything yet")


REGION = ("x", "y", "width", "height")


def test_chosen_jobs_come_in_one_archive_and_are_sent_from_a_page(desk: Desk, window: Window) -> None:
    job = held(desk, 1)[0]
    page = window("/queue")
    for number in (job, desk.jobs["done"]):
        page.get_by_label(f"Choose job {number}", exact=True).check()
    with page.expect_download() as started:
        page.get_by_role("button", name="Download DICOM").click()
    with zipfile.ZipFile(started.value.path()) as taken:
        names = set(taken.namelist())
    assert names == {f"cxr-sr-job-{job}.dcm", f"cxr-sr-job-{desk.jobs['done']}.dcm", "contents.csv"}
    page.get_by_role("button", name="Send …").click()
    expect(page.locator("main")).to_contain_text("2 jobs are chosen")
    look(page, "send many")
    page.get_by_label("pacs").check()
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator("main")).to_contain_text("it waits for release")
    look(page, "sent")
