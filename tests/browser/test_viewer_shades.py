"""The viewer's pixels against those of the objects."""

from __future__ import annotations

import re

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.conftest import CHROMIUM_ARGS, Node, log_in
from tests.browser.viewing import (
    READY_MS,
    Grey,
    Shown,
    canvas,
    drag,
    expected,
    magnified,
    sampled,
    view,
)
from tests.peers import require


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
    drag(page, (x, y), (x + 80, y))
    expect(page.locator("[data-high]")).not_to_have_text(f"+{reach:,}")


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
