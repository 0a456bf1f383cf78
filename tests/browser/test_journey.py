"""What a radiologist comes for: bring images, watch, compare, take the results home."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.conftest import Node, Opener, log_in

ENHANCED = 180_000
"""Milliseconds that two small images may take on a busy machine."""


@pytest.fixture
def small_dicom(samples_dir: Path) -> Path:
    return samples_dir / "chest_pa_nih_256.dcm"


@pytest.fixture
def small_png(samples_dir: Path, tmp_path: Path) -> Path:
    pixels = pydicom.dcmread(samples_dir / "chest_pa_nih_256.dcm").pixel_array
    picture = Image.fromarray((pixels / pixels.max() * 255).astype("uint8")).resize((128, 128))
    picture.save(tmp_path / "from a slide.png")
    return tmp_path / "from a slide.png"


def test_the_first_administrator_must_choose_a_password(open_browser: Opener, node: Node) -> None:
    page = open_browser().new_page()
    log_in(page, "admin", node.administrator_password)
    page.goto("/system")
    expect(page).to_have_url(f"{node.url}/account")
    page.get_by_label("Current password").fill(node.administrator_password)
    page.get_by_label("New password", exact=True).fill("the lamp behind the film")
    page.get_by_label("New password, again").fill("the lamp behind the film")
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_text("The password is changed")).to_be_visible()
    page.goto("/system")
    expect(page.get_by_role("heading", name="System")).to_be_visible()
    expect(page.locator("[data-live=enhancer]")).to_contain_text("at work")


@pytest.mark.slow
def test_a_dicom_and_a_png_are_brought_watched_and_taken_home(
    open_browser: Opener, small_dicom: Path, small_png: Path
) -> None:
    context = open_browser()
    watching, bringing = context.new_page(), context.new_page()
    log_in(watching)
    watching.goto("/queue")
    expect(watching.locator("[data-liveness]")).to_have_attribute("data-state", "live")
    watching.evaluate("window.never_reloaded = true")

    bringing.goto("/upload")
    bringing.locator("input[type=file]").set_input_files([small_dicom, small_png])
    bringing.get_by_label("Name: family, given").fill("Lovelace, Ada")
    bringing.get_by_label("Patient ID").fill("PNG-1815")
    bringing.get_by_role("button", name="Enhance 2 images").click()
    rows = bringing.locator("[data-files] li")
    expect(rows).to_have_count(2)
    dicom_job = _job_of(bringing, "chest_pa_nih_256.dcm")
    png_job = _job_of(bringing, "from a slide.png")

    for job in (dicom_job, png_job):
        row = watching.locator(f'tr[data-key="{job}"]')
        expect(row).to_be_visible()
        expect(row.locator(".state").first).to_have_text("done", timeout=ENHANCED)
    assert watching.evaluate("window.never_reloaded") is True
    expect(watching.locator(f'tr[data-key="{png_job}"]')).to_contain_text("Lovelace, Ada")
    expect(bringing.locator("[data-files]")).to_contain_text("done")

    watching.locator(f'tr[data-key="{dicom_job}"] a').click()
    expect(watching).to_have_title(f"Job {dicom_job} · cxr-sr")
    for pane in ("source", "result"):
        expect(watching.locator(f'[data-pane="{pane}"] canvas')).to_be_visible(timeout=60_000)
    ds = pydicom.dcmread(_download(watching, "DICOM"))
    assert (ds.Rows, ds.Columns) == (1024, 1024)
    with Image.open(_download(watching, "PNG, 16 bits")) as png:
        assert png.size == (1024, 1024)

    watching.goto(f"/jobs/{png_job}")
    ds = pydicom.dcmread(_download(watching, "DICOM"))
    assert (ds.Rows, ds.PatientID, ds.PatientName) == (512, "PNG-1815", "Lovelace^Ada")
    with Image.open(_download(watching, "PNG, 16 bits")) as png:
        assert png.size == (512, 512)

    bringing.close()
    watching.get_by_role("button", name="Log out").click()
    watching.wait_for_url("**/login")
    watching.goto("/queue")
    watching.wait_for_url("**/login?next=*")


def _job_of(page: Page, file_name: str) -> str:
    link = page.locator("[data-files] li", has_text=file_name).get_by_role("link")
    expect(link).to_be_visible()
    return (link.get_attribute("href") or "").rsplit("/", 1)[1]


def _download(page: Page, name: str) -> Path:
    page.locator("summary", has_text="Download").click()
    with page.expect_download() as started:
        page.get_by_role("link", name=name, exact=True).click()
    page.keyboard.press("Escape")
    return Path(started.value.path())
