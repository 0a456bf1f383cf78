"""The viewer: measures, ways to compare, keys, fingers, themes, widths."""

from __future__ import annotations

import base64
import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests import dicom_variants
from tests.browser.axe import violations
from tests.browser.conftest import Opener, log_in
from tests.browser.viewing import (
    ENHANCED_SECONDS,
    Shown,
    at,
    canvas,
    deposit,
    drag,
    settled,
    view,
)

SPACING = 0.2
"""Millimetres between the detector's pixels in the objects made here."""


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


def test_a_ruler_reads_a_known_distance_and_says_what_it_is_worth(
    page: Page, shown: dict[str, Shown]
) -> None:
    view(page, shown["ramp"])
    page.keyboard.press("l")
    shape = (96, 128)
    drag(page, at(page, "source", 20, 24, shape), at(page, "source", 80, 104, shape))
    text = page.locator('[data-pane="source"] svg text')
    expect(text).to_contain_text("mm at the detector")
    read = float(re.findall(r"[\d.]+", text.text_content() or "")[0])
    assert read == pytest.approx(100 * SPACING, rel=0.01)
    expect(page.locator('[data-pane="result"] svg text')).to_have_text(text.text_content() or "")
    expect(page.locator(".viewer-status")).to_contain_text("mm at the detector")
    page.keyboard.press("Delete")
    expect(page.locator(".stage svg text")).to_have_count(0)

    page.keyboard.press("a")
    page.mouse.move(*at(page, "result", 20, 64, shape))
    page.mouse.down()
    page.mouse.move(*at(page, "result", 60, 64, shape), steps=4)
    page.mouse.up()
    page.mouse.move(*at(page, "result", 60, 100, shape), steps=4)
    page.mouse.down()
    page.mouse.up()
    angle = page.locator('[data-pane="result"] svg text')
    expect(angle).to_contain_text("°")
    assert float(re.findall(r"[\d.]+", angle.text_content() or "")[0]) == pytest.approx(90, rel=0.01)


def test_the_magnifier_enlarges_the_same_place_in_both_panes(page: Page, shown: dict[str, Shown]) -> None:
    view(page, shown["chest"])
    page.keyboard.press("m")
    page.mouse.move(*at(page, "result", 100, 120, (256, 256)))
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
    drag(page, at(page, "result", 30, 40, shape), at(page, "result", 50, 60, shape))
    told: dict[str, float] = page.evaluate("() => window.told")
    for name, wanted in {"x": 160, "y": 120, "width": 80, "height": 80}.items():
        assert told[name] == pytest.approx(wanted, abs=2), told
    page.keyboard.press("Shift+Delete")
    assert page.evaluate("() => window.told") is None


def test_swipe_and_flicker_exchange_original_and_result(page: Page, shown: dict[str, Shown]) -> None:
    view(page, shown["chest"])
    source, result = page.locator('[data-pane="source"]'), page.locator('[data-pane="result"]')
    page.keyboard.press("s")
    settled(page)
    assert source.bounding_box() == result.bounding_box()
    divider = page.get_by_role("slider", name="Divider")
    box = page.locator(".stage").bounding_box()
    assert box
    drag(
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
    job = deposit(
        page, dicom_variants.written(dicom_variants.cr(PatientID="LATER"), tmp_path / "later.dcm"), token
    )
    page.goto(f"/jobs/{job}")
    expect(page.locator(".viewer-box[data-ready]")).to_be_visible(timeout=ENHANCED_SECONDS * 1000)
    expect(page.get_by_alt_text("AI-processed radiograph")).not_to_be_visible()
    assert [url for url in asked if "mount-" in url]


def test_without_javascript_the_previews_stand_side_by_side(
    open_browser: Opener, shown: dict[str, Shown]
) -> None:
    page = open_browser(javascript=False).new_page()
    log_in(page)
    page.goto(f"/jobs/{shown['chest'].job}")
    for name in ("Original radiograph", "AI-processed radiograph"):
        expect(page.get_by_alt_text(name)).to_be_visible()
    expect(page.locator(".ai-banner")).to_be_visible()
