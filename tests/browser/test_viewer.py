"""The viewer: its pixels against those of the objects, measures, ways to compare, keys, themes, widths."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Page, Route, expect
from pydicom import Dataset
from pydicom.sequence import Sequence

from tests import dicom_variants
from tests.browser.axe import violations
from tests.browser.conftest import CHROMIUM_ARGS, PASSWORD, Node, Opener, log_in
from tests.peers import require

ENHANCED_S = 420.0
READY_MS = 60_000
SPACING = 0.2
"""Millimetres between the detector's pixels in the objects made here."""
Grey = npt.NDArray[np.float64]


@dataclass
class Shown:
    """A job and the objects before and after it."""

    job: int = 0
    source: Dataset = field(default_factory=Dataset)
    result: Dataset = field(default_factory=Dataset)


def _ramp() -> Dataset:
    values = np.tile(np.linspace(0, 4095, 128).round().astype("u2"), (96, 1))
    values[30:50, 40:60] = 4095
    values[60:70, 90:100] = 0
    return dicom_variants.cr(values, PatientID="VIEW-1", WindowCenter="2048", WindowWidth="4096")


def _inverted() -> Dataset:
    return dicom_variants.cr(
        photometric="MONOCHROME1",
        PatientID="VIEW-2",
        WindowCenter=["2000", "1500"],
        WindowWidth=["3000", "900"],
        WindowCenterWidthExplanation=["NORMAL", "HARD"],
    )


def _tabled() -> Dataset:
    ds = dicom_variants.cr(PatientID="VIEW-3")
    del ds.WindowCenter, ds.WindowWidth
    table = Dataset()
    table.add_new("LUTDescriptor", "US", [4096, 0, 12])
    table.LUTExplanation = "SOFT TISSUE"
    entries = np.rint(4095 * (np.arange(4096) / 4095) ** 2).astype("<u2")
    table.add_new("LUTData", "OW", entries.tobytes())
    ds.VOILUTSequence = Sequence([table])
    return ds


@pytest.fixture(scope="module")
def shown(
    browser: Browser, node: Node, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Shown]]:
    """Images that were enhanced by the node, by a short name."""
    folder = tmp_path_factory.mktemp("viewer")
    objects = {"ramp": _ramp(), "inverted": _inverted(), "tabled": _tabled()}
    files = {name: dicom_variants.written(ds, folder / f"{name}.dcm") for name, ds in objects.items()}
    files["chest"] = dicom_variants.SAMPLES / "chest_pa_nih_256.dcm"
    slide = folder / "slide.png"
    picture = Image.fromarray(dicom_variants.chest_values(8))
    picture.save(slide)
    files["slide"] = slide
    context = browser.new_context(base_url=node.url)
    page = context.new_page()
    log_in(page, "ada", PASSWORD)
    token = page.locator("meta[name=csrf-token]").get_attribute("content") or ""
    made = {name: Shown(_sent(page, path, token)) for name, path in files.items()}
    deadline = time.monotonic() + ENHANCED_S
    for name, one in made.items():
        while (told := page.request.get(f"/api/v1/jobs/{one.job}").json())["state"] != "done":
            assert told["state"] in ("queued", "running"), told
            assert time.monotonic() < deadline, told
            page.wait_for_timeout(1000)
        one.result = pydicom.dcmread(BytesIO(page.request.get(f"/api/v1/jobs/{one.job}/result.dcm").body()))
        if name != "slide":
            one.source = pydicom.dcmread(files[name])
    yield made
    context.close()


def _sent(page: Page, path: Path, token: str) -> int:
    file = FilePayload(name=path.name, mimeType="application/octet-stream", buffer=path.read_bytes())
    answer = page.request.post("/api/v1/jobs", multipart={"file": file}, headers={"X-CSRF-Token": token})
    assert answer.status == 202, answer.text()
    return int(answer.json()["jobs"][0]["id"])


def view(page: Page, one: Shown) -> None:
    """Open the page of a job and wait until its images stand."""
    page.goto(f"/jobs/{one.job}")
    expect(page.locator(".viewer-box[data-ready]")).to_be_visible(timeout=READY_MS)
    page.locator(".viewer-box").focus()
    settled(page)


def settled(page: Page) -> None:
    """Wait until what was asked for is drawn."""
    page.evaluate(
        "new Promise(go => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(go, 80))))"
    )


def canvas(page: Page, pane: str) -> Grey:
    """The shades on a pane's canvas: Float64[height, width], 0 to 255."""
    data = page.locator(f'[data-pane="{pane}"] canvas').evaluate("canvas => canvas.toDataURL('image/png')")
    with Image.open(BytesIO(base64.b64decode(data.split(",")[1]))) as picture:
        rgb = np.asarray(picture.convert("RGB"), np.float64)
    assert np.ptp(rgb, axis=2).max() == 0, "grey images stay grey"
    return rgb[:, :, 0]


def magnified(page: Page) -> float:
    """Show single pixels, several screen pixels for each of the result's; returns how many."""
    page.keyboard.press("o")
    page.keyboard.press("n")
    for _ in range(6):
        page.keyboard.press("+")
    settled(page)
    return 1.25**6


def sampled(drawn: Grey, shape: tuple[int, int], size: float) -> tuple[Grey, npt.NDArray[np.bool_]]:
    """The shade at the middle of each pixel of an image in the middle of `drawn`, and which are in sight."""
    places = []
    for count, extent in zip(shape, drawn.shape, strict=True):
        places.append((np.arange(count) + 0.5 - count / 2) * size + extent / 2)
    inside = [(place > 1) & (place < extent - 1) for place, extent in zip(places, drawn.shape, strict=True)]
    rows, columns = (
        np.clip(place, 0, extent - 1).astype(int) for place, extent in zip(places, drawn.shape, strict=True)
    )
    return drawn[np.ix_(rows, columns)], np.outer(*inside)


def expected(ds: Dataset) -> Grey:
    """The shades that the header asks for (PS3.3 C.11.2.1, C.7.6.3.1.2): Float64[rows, columns]."""
    values = ds.pixel_array.astype(np.float64) * float(ds.get("RescaleSlope", 1)) + float(
        ds.get("RescaleIntercept", 0)
    )
    if "WindowCenter" in ds:
        first = [
            ds[word].value if ds[word].VM == 1 else ds[word].value[0]
            for word in ("WindowCenter", "WindowWidth")
        ]
        centre, width = map(float, first)
        shades = np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    else:
        shades = np.frombuffer(ds.VOILUTSequence[0].LUTData, "<u2")[values.astype(int)] / 4095
    return 255 * (1 - shades if ds.PhotometricInterpretation == "MONOCHROME1" else shades)


@pytest.mark.parametrize("name", ["ramp", "inverted", "tabled"])
def test_the_shades_on_the_screen_are_those_that_the_header_asks_for(
    page: Page, shown: dict[str, Shown], name: str
) -> None:
    one = shown[name]
    view(page, one)
    size = magnified(page)
    for pane, ds, side in (("source", one.source, 4 * size), ("result", one.result, size)):
        wanted = expected(ds)
        seen, inside = sampled(canvas(page, pane), wanted.shape, side)
        assert inside.sum() > 500
        assert np.abs(seen - wanted)[inside].max() <= 1.5, pane
        assert np.ptp(wanted[inside]) > 100, "the part in sight says something"


def test_the_graphics_card_draws_the_same_shades(
    browser: Browser, node: Node, shown: dict[str, Shown]
) -> None:
    flags = [flag for flag in CHROMIUM_ARGS if flag != "--disable-gpu"]
    flags += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
    other = browser.browser_type.launch(executable_path=require("chromium"), args=flags)
    page = other.new_context(base_url=node.url).new_page()
    log_in(page)
    one = shown["inverted"]
    page.goto(f"/jobs/{one.job}#renderer=gpu")
    expect(page.locator(".viewer-box[data-ready]")).to_be_visible(timeout=READY_MS)
    expect(page.locator(".viewer-box")).to_have_attribute("data-renderer", "gpu")
    page.locator(".viewer-box").focus()
    size = magnified(page)
    page.wait_for_timeout(500)  # the card has a clock of its own
    for pane, ds, side in (("source", one.source, 4 * size), ("result", one.result, size)):
        wanted = expected(ds)
        seen, inside = sampled(canvas(page, pane), wanted.shape, side)
        assert np.abs(seen - wanted)[inside].max() <= 2, pane
    other.close()


def test_both_panes_show_the_same_place_through_the_same_window(page: Page, shown: dict[str, Shown]) -> None:
    view(page, shown["ramp"])
    before = canvas(page, "source")
    box = page.locator('[data-pane="source"]').bounding_box()
    assert box
    x, y = box["x"] + box["width"] * 0.4, box["y"] + box["height"] * 0.45
    page.mouse.move(x, y)
    page.mouse.wheel(0, -400)
    page.mouse.down(button="middle")
    page.mouse.move(x + 60, y + 30, steps=3)
    page.mouse.up(button="middle")
    page.mouse.down()
    page.mouse.move(x + 120, y + 20, steps=3)
    page.mouse.up()
    settled(page)
    source, result = canvas(page, "source"), canvas(page, "result")
    assert np.abs(source - before).mean() > 10
    assert source.shape == result.shape
    assert np.abs(source - result).mean() < 4
    shifted = np.roll(result, 8, axis=1)
    assert np.abs(source - shifted).mean() > 1.2 * np.abs(source - result).mean()
    expect(page.locator("[data-preset]")).to_have_value("own")


def test_turned_and_flipped_both_panes_stay_together(page: Page, shown: dict[str, Shown]) -> None:
    view(page, shown["chest"])
    upright = canvas(page, "source")
    for keys in (["r"], ["h"], ["ArrowRight", "+"]):
        for key in keys:
            page.keyboard.press(key)
        settled(page)
        source, result = canvas(page, "source"), canvas(page, "result")
        assert np.abs(source - upright).mean() > 5
        assert np.abs(source - result).mean() < 4
    page.keyboard.press("0")
    settled(page)
    assert np.abs(canvas(page, "source") - upright).max() == 0
    page.keyboard.press("r")
    settled(page)
    turned = canvas(page, "source")
    assert turned.shape == upright.shape
    height, width = upright.shape
    half, middle = min(height, width) // 2 - 2, (height // 2, width // 2)
    part = upright[middle[0] - half : middle[0] + half, middle[1] - half : middle[1] + half]
    clockwise = turned[middle[0] - half : middle[0] + half, middle[1] - half : middle[1] + half]
    assert np.abs(np.rot90(part, -1) - clockwise).mean() < 4


def _at(page: Page, pane: str, row: float, column: float, shape: tuple[int, int]) -> tuple[float, float]:
    """The place on the page of a place in an image that fits into its pane."""
    box = page.locator(f'[data-pane="{pane}"]').bounding_box()
    assert box
    scale = min(box["width"] / shape[1], box["height"] / shape[0])
    x = box["x"] + box["width"] / 2 + (column - shape[1] / 2) * scale
    return x, box["y"] + box["height"] / 2 + (row - shape[0] / 2) * scale


def _drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()
    settled(page)


def test_a_ruler_reads_a_known_distance_and_says_what_it_is_worth(
    page: Page, shown: dict[str, Shown]
) -> None:
    view(page, shown["ramp"])
    page.keyboard.press("l")
    shape = (96, 128)
    _drag(page, _at(page, "source", 20, 24, shape), _at(page, "source", 80, 104, shape))
    text = page.locator('[data-pane="source"] svg text')
    expect(text).to_contain_text("mm at the detector")
    read = float(re.findall(r"[\d.]+", text.text_content() or "")[0])
    assert read == pytest.approx(100 * SPACING, rel=0.01)
    expect(page.locator('[data-pane="result"] svg text')).to_have_text(text.text_content() or "")
    expect(page.locator(".viewer-status")).to_contain_text("mm at the detector")
    page.keyboard.press("Delete")
    expect(page.locator(".stage svg text")).to_have_count(0)

    page.keyboard.press("a")
    page.mouse.move(*_at(page, "result", 20, 64, shape))
    page.mouse.down()
    page.mouse.move(*_at(page, "result", 60, 64, shape), steps=4)
    page.mouse.up()
    page.mouse.move(*_at(page, "result", 60, 100, shape), steps=4)
    page.mouse.down()
    page.mouse.up()
    angle = page.locator('[data-pane="result"] svg text')
    expect(angle).to_contain_text("°")
    assert float(re.findall(r"[\d.]+", angle.text_content() or "")[0]) == pytest.approx(90, rel=0.01)


def test_the_magnifier_enlarges_the_same_place_in_both_panes(page: Page, shown: dict[str, Shown]) -> None:
    view(page, shown["chest"])
    page.keyboard.press("m")
    page.mouse.move(*_at(page, "result", 100, 120, (256, 256)))
    page.mouse.down()
    lenses = page.locator(".lens canvas")
    expect(lenses).to_have_count(2)
    settled(page)
    page.wait_for_timeout(300)
    pictures = []
    for lens in lenses.all():
        data = lens.evaluate("canvas => canvas.toDataURL('image/png')")
        with Image.open(BytesIO(base64.b64decode(data.split(",")[1]))) as picture:
            pictures.append(np.asarray(picture.convert("L"), np.float64))
    assert np.abs(pictures[0] - pictures[1]).mean() < 6
    assert np.ptp(pictures[0]) > 20
    page.mouse.up()
    expect(lenses).to_have_count(0)


def test_a_rectangle_is_told_in_pixels_of_the_result(page: Page, shown: dict[str, Shown]) -> None:
    view(page, shown["ramp"])
    page.evaluate(
        "() => document.addEventListener('viewer-rectangle', event => (window.told = event.detail))"
    )
    page.keyboard.press("e")
    shape = (96, 128)
    _drag(page, _at(page, "result", 30, 40, shape), _at(page, "result", 50, 60, shape))
    told: dict[str, float] = page.evaluate("() => window.told")
    for name, wanted in {"x": 160, "y": 120, "width": 80, "height": 80}.items():
        assert told[name] == pytest.approx(wanted, abs=2), told
    page.keyboard.press("Shift+Delete")
    assert page.evaluate("() => window.told") is None


def _enlarged(values: Grey, shape: tuple[int, int]) -> Grey:
    """Catmull-Rom interpolation of `values` to `shape`, edges repeated."""
    for axis in (0, 1):
        count, new = values.shape[axis], shape[axis]
        place = (np.arange(new) + 0.5) * count / new - 0.5
        first = np.floor(place).astype(int)
        t = place - first
        weights = (
            (-t + 2 * t**2 - t**3) / 2,
            1 - 2.5 * t**2 + 1.5 * t**3,
            (t + 4 * t**2 - 3 * t**3) / 2,
            (t**3 - t**2) / 2,
        )
        total = np.zeros((*values.shape[:axis], new, *values.shape[axis + 1 :]))
        for k, weight in enumerate(weights):
            taken = np.take(values, np.clip(first + k - 1, 0, count - 1), axis=axis)
            total += taken * (weight[:, None] if axis == 0 else weight[None, :])
        values = total
    return values


def test_the_difference_map_shows_the_result_less_the_enlarged_original(
    page: Page, shown: dict[str, Shown]
) -> None:
    one = shown["ramp"]
    view(page, one)
    page.keyboard.press("d")
    scale = page.locator(".viewer-scale")
    expect(scale).to_be_visible(timeout=READY_MS)
    expect(scale).to_contain_text("grey levels")
    size = magnified(page)
    reach = int((page.locator("[data-high]").text_content() or "").lstrip("+").replace(",", ""))
    assert page.locator("[data-low]").text_content() in (f"-{reach}", f"-{reach:,}", f"−{reach:,}")
    result = one.result.pixel_array.astype(np.float64)
    difference = result - _enlarged(one.source.pixel_array.astype(np.float64), result.shape)
    assert np.percentile(np.abs(difference), 99.9) == pytest.approx(reach, rel=0.02, abs=1)
    wanted = np.clip((np.rint(difference) + reach) / (2 * reach), 0, 1) * 255
    seen, inside = sampled(canvas(page, "difference"), wanted.shape, size)
    assert np.abs(seen - wanted)[inside].max() <= 255 / (2 * reach) + 1.5
    box = page.locator('[data-pane="difference"]').bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    _drag(page, (x, y), (x + 80, y))
    expect(page.locator("[data-high]")).not_to_have_text(f"+{reach:,}")


def test_swipe_and_flicker_exchange_original_and_result(page: Page, shown: dict[str, Shown]) -> None:
    view(page, shown["chest"])
    source, result = page.locator('[data-pane="source"]'), page.locator('[data-pane="result"]')
    page.keyboard.press("s")
    settled(page)
    assert source.bounding_box() == result.bounding_box()
    divider = page.get_by_role("slider", name="Divider")
    box = page.locator(".stage").bounding_box()
    assert box
    _drag(
        page,
        (box["x"] + box["width"] / 2, box["y"] + 30),
        (box["x"] + box["width"] / 4, box["y"] + 30),
    )
    expect(divider).to_have_attribute("aria-valuenow", "25")
    divider.press("ArrowRight")
    expect(divider).to_have_attribute("aria-valuenow", "27")
    assert "27%" in result.evaluate("film => getComputedStyle(film).clipPath")

    page.locator(".viewer-box").focus()
    page.keyboard.press("Space")
    expect(source).to_be_visible()
    expect(result).not_to_be_visible()
    expect(source.locator(".caption")).to_have_text("Original")
    page.keyboard.press("Space")
    expect(result).to_be_visible()
    expect(source).not_to_be_visible()
    expect(result.locator(".caption")).to_contain_text("AI-processed")


@pytest.mark.parametrize(("width", "theme"), [(1440, "dark"), (1440, "light"), (390, "dark"), (390, "light")])
def test_the_keyboard_alone_serves_in_each_theme_and_width(
    open_browser: Opener, shown: dict[str, Shown], width: int, theme: str
) -> None:
    page = open_browser(width=width, theme=theme).new_page()
    log_in(page)
    view(page, shown["inverted"])
    banner = page.locator(".ai-banner")
    expect(banner).to_be_visible()
    expect(banner).to_contain_text("Compare with the original")
    expect(page.locator(".viewer-figures")).to_contain_text("Error bound")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page) == []

    page.evaluate("() => document.querySelector('#main').focus()")
    for _ in range(40):
        if page.evaluate("() => document.activeElement.classList.contains('viewer-box')"):
            break
        page.keyboard.press("Tab")
    expect(page.locator(".viewer-box")).to_be_focused()
    plain = canvas(page, "result")
    page.keyboard.press("2")
    settled(page)
    hard = canvas(page, "result")
    assert np.abs(hard - plain).mean() > 3
    expect(page.locator(".viewer-status")).to_contain_text("Window 900, level 1,500")
    page.keyboard.press("i")
    settled(page)
    room = hard != 0
    assert np.abs(255 - hard - canvas(page, "result"))[room].max() <= 1
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys of the viewer")
    expect(keys).to_be_visible()
    expect(keys).to_contain_text("Flicker")
    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(keys).not_to_be_visible()


def test_fingers_pinch_and_drag(open_browser: Opener, shown: dict[str, Shown]) -> None:
    page = open_browser(width=390).new_page()
    log_in(page)
    view(page, shown["chest"])
    zoom = page.locator("[data-zoom]")
    before = zoom.text_content() or ""
    page.locator('[data-pane="source"]').scroll_into_view_if_needed()
    box = page.locator('[data-pane="source"]').bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    fingers = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        spots: list[dict[str, Any]] = [{"x": px, "y": py, "id": i} for i, (px, py) in enumerate(points)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": spots})

    touch("touchStart", (x - 20, y), (x + 20, y))
    for far in (30, 40, 60):
        touch("touchMove", (x - far, y), (x + far, y))
    touch("touchEnd")
    settled(page)
    percent = [float(re.sub(r"[^\d.]", "", text)) for text in (before, zoom.text_content() or "")]
    assert percent[1] == pytest.approx(3 * percent[0], rel=0.15)
    moved = canvas(page, "source")
    page.keyboard.press("p")
    touch("touchStart", (x, y))
    touch("touchMove", (x + 30, y + 10))
    touch("touchEnd")
    settled(page)
    assert np.abs(canvas(page, "source") - moved).mean() > 1


def test_an_upload_that_is_no_dicom_is_compared_by_its_preview_and_says_so(
    page: Page, shown: dict[str, Shown]
) -> None:
    view(page, shown["slide"])
    expect(page.locator(".viewer-note")).to_contain_text("8 bits")
    expect(page.get_by_role("button", name="Difference")).to_have_count(0)
    source, result = canvas(page, "source"), canvas(page, "result")
    assert np.abs(source - result).mean() < 6
    page.keyboard.press("i")
    settled(page)
    assert np.abs(canvas(page, "source") - canvas(page, "result")).mean() < 6


def test_the_viewer_comes_when_the_result_does_and_its_code_to_its_pages_alone(
    page: Page, tmp_path: Path
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/queue")
    expect(page.locator("[data-liveness]")).to_have_attribute("data-state", "live")
    assert [url for url in asked if "mount-" in url or "decodeImage" in url] == []
    token = page.locator("meta[name=csrf-token]").get_attribute("content") or ""
    job = _sent(
        page, dicom_variants.written(dicom_variants.cr(PatientID="LATER"), tmp_path / "later.dcm"), token
    )
    page.goto(f"/jobs/{job}")
    expect(page.locator(".viewer-box[data-ready]")).to_be_visible(timeout=ENHANCED_S * 1000)
    expect(page.get_by_alt_text("AI-processed radiograph")).not_to_be_visible()
    assert [url for url in asked if "mount-" in url]


def test_a_result_that_waits_for_release_is_read_from_its_file(page: Page, shown: dict[str, Shown]) -> None:
    one = shown["tabled"]

    def held(route: Route) -> None:
        answer = route.fetch()
        body = re.sub(
            r"&#34;result&#34;: \{[^}]*\}",
            f"&#34;result&#34;: {{&#34;file&#34;: &#34;/api/v1/jobs/{one.job}/result.dcm&#34;}}",
            answer.text(),
        )
        assert "result.dcm&#34;" in body
        route.fulfill(response=answer, body=body)

    page.route(f"**/jobs/{one.job}", held)
    view(page, one)
    size = magnified(page)
    wanted = expected(one.result)
    seen, inside = sampled(canvas(page, "result"), wanted.shape, size)
    assert np.abs(seen - wanted)[inside].max() <= 1.5


def test_without_javascript_the_previews_stand_side_by_side(
    open_browser: Opener, shown: dict[str, Shown]
) -> None:
    page = open_browser(javascript=False).new_page()
    log_in(page)
    page.goto(f"/jobs/{shown['chest'].job}")
    for name in ("Original radiograph", "AI-processed radiograph"):
        expect(page.get_by_alt_text(name)).to_be_visible()
    expect(page.locator(".ai-banner")).to_be_visible()
