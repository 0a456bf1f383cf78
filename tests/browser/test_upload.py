"""Bringing images in by hand: many at once, folders, a failing one again, whose they are, and a sample."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect
from sqlalchemy import select

from db.models import Job, Source
from tests.browser.axe import violations
from tests.browser.conftest import Trouble, log_in
from tests.browser.desk import Desk, furnished
from tests.browser.test_every_page import COLOURS
from tests.peers import require
from tests.webui.conftest import dicom
from tests.webui.test_batches import STUDIES, fetcher
from tests.webui.test_identity import ANSWER

pytestmark = pytest.mark.peer("chromium")

SOON = 60_000


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    require("chromium")
    with furnished(tmp_path_factory.mktemp("desk")) as desk:
        yield desk


@pytest.fixture(scope="module")
def reader(desk: Desk, browser: Browser) -> Iterator[BrowserContext]:
    """A radiologist's browser, logged in."""
    context = browser.new_context(base_url=desk.url, color_scheme="dark", locale="en-GB")
    context.set_default_timeout(SOON)
    log_in(context.new_page())
    yield context
    context.close()


@pytest.fixture
def page(desk: Desk, reader: BrowserContext) -> Iterator[Page]:
    expect.set_options(timeout=SOON)
    page = reader.new_page()
    page.set_viewport_size({"width": 1440, "height": 900})
    trouble = Trouble(desk.url)
    trouble.watch(page)
    page.goto("/upload")
    page.locator("html[data-ready]").wait_for(state="attached")
    yield page
    page.close()
    assert [line for line in trouble.said if "Failed to load resource" not in line] == []
    assert trouble.strangers == []


def look(page: Page) -> None:
    """Nothing that axe finds in either theme, and nothing beyond the window from narrow to wide."""
    themes: tuple[tuple[Literal["dark", "light"], tuple[str, ...]], ...] = (("dark", ()), ("light", COLOURS))
    for theme, rules in themes:
        page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        for width in (390, 1440):
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, width
        assert violations(page, rules=rules) == []
    page.emulate_media(color_scheme="dark")


def film(path: Path, shade: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.linear_gradient("L").point(lambda value: min(255, value + shade)).resize((96, 120)).save(path)
    return path


def drop(page: Page, *paths: Path) -> None:
    """Drop files and folders as the system's file manager does."""
    box = page.locator("[data-drop]").bounding_box()
    assert box is not None
    wire = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        wire.send(
            "Input.dispatchDragEvent",
            {"type": kind, "x": box["x"] + 20, "y": box["y"] + 20, "data": data},
        )
    wire.detach()


def jobs(desk: Desk, name: str) -> list[Job]:
    with desk.database.read() as session:
        query = select(Job).join(Source).where(Source.file_name.like(f"%{name}")).order_by(Job.id)
        return list(session.scalars(query))


def test_a_folder_a_zip_and_many_files_are_dropped_together_and_form_one_upload(
    desk: Desk, page: Page, tmp_path: Path
) -> None:
    folder = tmp_path / "night shift"
    for number in range(120):
        film(folder / f"ward {number % 3}" / f"many {number:03}.png", number)
    (folder / ".DS_Store").write_bytes(b"clutter")
    (tmp_path / "letter.txt").write_text("Dear colleague")
    with zipfile.ZipFile(tmp_path / "old.zip", "w") as archive:
        archive.writestr("many a.dcm", dicom("1.2.77.1"))
        archive.writestr("many b.dcm", dicom("1.2.77.2"))
    drop(page, folder, tmp_path / "old.zip", tmp_path / "letter.txt")
    rows = page.locator("[data-files] > li")
    expect(rows).to_have_count(122)
    expect(rows.nth(1)).to_contain_text("night shift/ward 0/many 000.png")
    expect(page.locator("[data-summary]")).to_contain_text("1 left out")
    page.get_by_role("button", name="Enhance 122 images").click()
    expect(page.locator("[data-summary]")).to_contain_text("121 taken, 1 refused")
    expect(rows.first).to_contain_text("neither DICOM")  # what was refused stands first
    expect(page.locator('[data-step="taken"]')).to_have_count(121)
    look(page)
    page.get_by_role("link", name="This upload").click()
    expect(page.locator("h1")).to_contain_text("Upload")
    expect(page.get_by_role("heading", name="122 images")).to_be_visible()
    look(page)
    assert len({job.batch_id for job in jobs(desk, ".png") if job.batch_id}) >= 1


def test_a_file_that_failed_is_sent_again_without_the_others_and_makes_no_twin(
    desk: Desk, page: Page, tmp_path: Path
) -> None:
    keys: list[str] = []
    lock = threading.Lock()

    def lose(route: Route) -> None:
        """Let the server take the file, and lose its answer the first time; then say no once."""
        with lock:
            first = b"fails" in (route.request.post_data_buffer or b"")
        if not first:
            route.continue_()
            return
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            route.fetch()
            route.abort("connectionreset")
        elif len(keys) == 2:
            route.fulfill(status=507, content_type="application/problem+json", body='{"detail": "No room."}')
        else:
            route.continue_()

    page.route("**/api/v1/jobs", lose)
    files = [film(tmp_path / name, 150 + place) for place, name in enumerate(("fails.png", "works.png"))]
    page.get_by_label("Drop radiographs").set_input_files(files)
    page.get_by_role("button", name="Enhance 2 images").click()
    expect(page.locator("[data-summary]")).to_contain_text("1 taken, 1 refused")
    failed = page.locator("[data-files] li", has_text="fails.png")
    expect(failed).to_contain_text("No room.")
    page.get_by_role("button", name="Try again: fails.png").click()
    expect(page.locator("[data-summary]")).to_contain_text("Taken.")
    expect(failed.get_by_role("link")).to_have_text(f"Job {jobs(desk, 'fails.png')[0].id}")
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert len(jobs(desk, "fails.png")) == len(jobs(desk, "works.png")) == 1


def test_sending_is_stopped_and_goes_on_where_it_was(desk: Desk, page: Page, tmp_path: Path) -> None:
    page.route("**/api/v1/jobs", lambda _route: None)  # no answer ever comes
    files = [film(tmp_path / f"stop {number}.png", 160 + number) for number in range(8)]
    page.get_by_label("Drop radiographs").set_input_files(files)
    page.get_by_role("button", name="Enhance 8 images").click()
    expect(page.locator('[data-step="sending"]')).to_have_count(4)
    page.get_by_role("button", name="Stop", exact=True).click()
    expect(page.locator("[data-summary]")).to_contain_text("Stopped: 0 taken, 0 refused, 8 not sent")
    page.unroute("**/api/v1/jobs")
    page.get_by_role("button", name="Enhance 8 images").click()
    expect(page.locator("[data-summary]")).to_contain_text("All 8 taken")
    assert all(len(jobs(desk, f"stop {number}.png")) == 1 for number in range(8))


def test_details_are_for_all_pictures_or_for_one_and_stand_beside_its_preview(
    desk: Desk, page: Page, tmp_path: Path
) -> None:
    tiff = film(tmp_path / "whose c.tif", 3)
    files = [film(tmp_path / "whose a.png", 1), film(tmp_path / "whose b.jpg", 2), tiff]
    ready = tmp_path / "whose d.dcm"
    ready.write_bytes(dicom("1.2.78.1"))
    page.get_by_label("Drop radiographs").set_input_files([*files, ready])
    page.get_by_label("Name: family, given").fill("Lovelace, Ada")
    page.get_by_label("Study date").fill("2024-01-31")
    page.get_by_role("button", name="Details of whose b.jpg").click()
    expect(page.get_by_label("Name: family, given")).to_be_focused()
    preview = page.get_by_role("img", name="Preview of whose b.jpg")
    expect(preview).to_be_visible()
    assert preview.evaluate("picture => picture.decode().then(() => picture.naturalWidth)") == 96
    page.get_by_label("Name: family, given").fill("Hopper, Grace")
    page.get_by_label("View").select_option("AP")
    expect(page.locator("[data-files] li", has_text="whose b.jpg")).to_contain_text("details of its own")
    look(page)
    page.get_by_role("button", name="Next image").click()
    expect(page.locator("[data-film]")).to_contain_text("does not show TIFF")
    expect(page.get_by_label("Name: family, given")).to_have_value("Lovelace, Ada")
    page.get_by_label("These details are for").select_option(label="all 3 images")
    page.get_by_label("pacs").check()
    page.get_by_role("button", name="Enhance 4 images").click()
    expect(page.locator("[data-summary]")).to_contain_text("All 4 taken")
    with desk.database.read() as session:
        said = {
            source.file_name: source.demographics
            for source in session.scalars(select(Source).where(Source.file_name.like("whose%")))
        }
    ada = {"PatientName": "Lovelace^Ada", "StudyDate": "20240131"}
    assert said["whose a.png"] == said["whose c.tif"] == ada
    assert said["whose b.jpg"] == ada | {"PatientName": "Hopper^Grace", "ViewPosition": "AP"}
    assert said["whose d.dcm"] is None
    # a picture goes nowhere before its patient was picked, a DICOM file where it was sent
    assert "destinations" not in jobs(desk, "whose a.png")[0].requested
    assert jobs(desk, "whose d.dcm")[0].requested["destinations"] == ["pacs"]


def test_the_sample_is_tried_with_the_keyboard_alone(page: Page) -> None:
    tab_to(page, page.get_by_role("button", name="Try it with a sample"))
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs/*")
    expect(page.locator("h1")).to_contain_text("Job")


def test_patient_and_study_are_picked_with_the_keyboard_alone(desk: Desk, page: Page) -> None:
    job = desk.jobs["picture"]
    page.goto(f"/jobs/{job}")
    tab_to(page, page.get_by_role("link", name="Pick patient and study"))
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Whose image is it?")
    expect(page.locator("main")).to_contain_text("Rossi, Giulia")
    with fetcher(desk.database, ANSWER | {"studies": STUDIES, "more": False}):
        tab_to(page, page.get_by_label("Patient ID"))
        page.keyboard.type("K*")
        page.keyboard.press("Enter")
        found = page.get_by_role("region", name="3 studies")
        expect(found.locator("tbody tr")).to_have_count(3)
        assert "K" not in page.url.rsplit("/", 1)[1].replace("identity", "")
        look(page)
        tab_to(page, found.get_by_role("radio").first)
        page.keyboard.press("ArrowDown")
        expect(found.get_by_role("radio", name="Nr2")).to_be_checked()
        tab_to(page, page.get_by_role("button", name="It is this patient and study"))
        page.keyboard.press("Enter")
        page.wait_for_url(lambda url: "identity" not in url)
    expect(page.locator("[data-live=identity]")).to_contain_text("Picked from old-films")
    look(page)
    with desk.database.read() as session:
        assert session.get_one(Job, job).state == "cancelled"


def tab_to(page: Page, wanted: object) -> None:
    handle = wanted.element_handle()  # type: ignore[attr-defined]
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("wanted => document.activeElement === wanted", handle):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    pytest.fail("it cannot be reached with the Tab key")
