"""Write the README's pictures of the pages, docs/images/*.png, from a demo node with invented patients.

Run it with `make screenshots`; it needs Debian's chromium. Look at the pictures before you commit them.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from playwright.sync_api import Page, ViewportSize, expect, sync_playwright
from pydicom.uid import generate_uid

from tests.peers import find

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
SAMPLES = ROOT / "cxr_sr" / "samples"
PASSWORD = "the lamp behind the film"
SIZE = ViewportSize(width=1280, height=800)
LARGEST = 300_000
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 600


def main() -> None:
    chromium = find("chromium")
    if chromium is None:
        sys.exit("chromium is not installed (Debian package chromium)")
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with demo(folder / "demo") as (url, password), sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGS)
            context = browser.new_context(base_url=url, viewport=SIZE, color_scheme="dark", locale="en-GB")
            context.set_default_timeout(60_000)
            expect.set_options(timeout=60_000)
            page = context.new_page()
            first_login(page, password)
            picture_all(page, pictures(folder))
            browser.close()


@contextmanager
def demo(folder: Path) -> Iterator[tuple[str, str]]:
    """A demo node whose samples have all come back; its address and the administrator's first password."""
    told = folder.with_suffix(".log")
    with told.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "cxr_sr", "demo", "--folder", str(folder)],
            cwd=ROOT,
            env=os.environ | {"CXR_SR_WEB__PORT": "0", "CXR_SR_DICOM__PORT": "0"},
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + SECONDS
        while "The node goes on" not in (text := told.read_text("utf-8")):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the demo did not come up:\n{text}")
            time.sleep(0.5)
        url, password = re.search(r"Pages: (\S+)/", text), re.search(r"with the password (\S+)", text)
        if url is None or password is None:
            sys.exit(f"the demo did not say where it is:\n{text}")
        yield url[1], password[1]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def pictures(folder: Path) -> list[Path]:
    """Files to upload: a hip, a broken object, two images with invented names."""
    hip = pydicom.dcmread(SAMPLES / "chest_pa_nih_256.dcm")
    hip.BodyPartExamined, hip.SOPInstanceUID = "HIP", generate_uid()
    hip.PatientName, hip.PatientID = "Okafor^Daniel", "MRN204417"
    hip.save_as(folder / "hip_ap.dcm")
    whole = (SAMPLES / "chest_pa_nih_512.dcm").read_bytes()
    (folder / "interrupted.dcm").write_bytes(whole[: len(whole) * 2 // 3])
    found = [folder / "hip_ap.dcm", folder / "interrupted.dcm"]
    for number, name in enumerate(("Rossi^Giulia", "Åberg^Nils")):
        ds = pydicom.dcmread(SAMPLES / "chest_pa_nih_512.dcm")
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.PatientName, ds.PatientID = name, f"MRN20{5170 + 311 * number}"
        ds.AccessionNumber = f"A77{120 + number}"
        ds.SOPInstanceUID, ds.StudyInstanceUID = generate_uid(), generate_uid()
        ds.SeriesInstanceUID = generate_uid()
        ds.save_as(folder / f"chest_{number + 1}.dcm")
        found.append(folder / f"chest_{number + 1}.dcm")
    slide = pydicom.dcmread(SAMPLES / "chest_pa_nih_256.dcm").pixel_array
    Image.fromarray((slide / slide.max() * 255).astype("uint8")).save(folder / "teaching file.png")
    return [*found, folder / "teaching file.png"]


def first_login(page: Page, password: str) -> None:
    page.goto("/login")
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    page.get_by_label("Current password").fill(password)
    page.get_by_label("New password", exact=True).fill(PASSWORD)
    page.get_by_label("New password, again").fill(PASSWORD)
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_text("The password is changed")).to_be_visible()


def picture_all(page: Page, files: list[Path]) -> None:
    page.goto("/queue")
    last = page.locator("table.jobs tbody tr").first.get_attribute("data-key")
    page.goto(f"/jobs/{last}")
    expect(page.locator(".viewer-box[data-ready]")).to_be_visible(timeout=60_000)
    box = page.locator(".film").first.bounding_box()
    if box is None:
        sys.exit("the job shows no image")
    page.mouse.move(box["x"] + box["width"] * 0.40, box["y"] + box["height"] * 0.45)
    for _ in range(4):
        page.mouse.wheel(0, -100)
    page.mouse.move(0, 0)
    take(page, "job")

    page.goto("/upload")
    page.locator("input[type=file]").set_input_files(files[:2])
    enhance(page)
    page.goto("/queue")
    expect(page.locator("tr.tone-skipped").first).to_be_visible(timeout=SECONDS * 1000)
    page.goto("/upload")
    page.locator("input[type=file]").set_input_files(files[2:])
    page.get_by_label("Name: family, given").fill("Novák, Petr")
    page.get_by_label("Patient ID").fill("MRN206881")
    page.get_by_label("demo-archive").check()
    page.evaluate("scrollTo(0, 0)")
    take(page, "upload")
    enhance(page)
    page.goto("/queue")
    expect(page.locator("tr.tone-running").first).to_be_visible()
    take(page, "queue")
    page.goto("/system")
    page.get_by_role("button", name="C-ECHO to demo-archive").click()
    expect(page.locator(".peers")).to_contain_text("answered")
    expect(page.locator("[aria-busy]")).to_have_count(0)
    take(page, "system")
    page.goto("/dashboard")
    expect(page.locator("[data-liveness]").first).to_have_attribute("data-state", "live")
    take(page, "dashboard")
    page.goto("/admin/settings")
    take(page, "settings")


def enhance(page: Page) -> None:
    """Send what was chosen, and wait until all of it was answered."""
    page.get_by_role("button", name="Enhance").click()
    expect(page.locator("[data-summary]")).to_contain_text("taken", ignore_case=True)


def take(page: Page, name: str) -> None:
    """One picture of the window in at most 256 colours, so that it stays small."""
    page.locator("html[data-ready]").wait_for(state="attached")
    page.evaluate("document.fonts.ready.then(() => null)")
    page.wait_for_timeout(400)
    target = IMAGES / f"{name}.png"
    page.screenshot(path=target)
    with Image.open(target) as picture:
        whole = picture.convert("RGB")
    whole.save(target, optimize=True)
    if target.stat().st_size > LARGEST:
        whole.quantize(palette=palette(whole), dither=Image.Dither.NONE).save(target, optimize=True)
    size = target.stat().st_size
    print(f"{target.relative_to(ROOT)}: {size // 1000} kB")
    if size > LARGEST:
        sys.exit(f"{target.name} is larger than {LARGEST // 1000} kB")


def palette(picture: Image.Image) -> Image.Image:
    """128 greys for the radiographs, and 128 colours so that small marks keep theirs."""
    pixels = np.asarray(picture).reshape(-1, 3)
    coloured = pixels[np.ptp(pixels.astype(np.int16), axis=1) > 10]
    colours = Image.fromarray(coloured.reshape(1, -1, 3)).quantize(128).getpalette() or []
    greys = [
        level for shade in np.linspace(0, 255, 128).round().astype(int).tolist() for level in [shade] * 3
    ]
    made = Image.new("P", (1, 1))
    made.putpalette(greys + colours[: 128 * 3])
    return made


if __name__ == "__main__":
    main()
