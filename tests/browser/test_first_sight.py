"""What comes first stays small and where it is: the weight of a page, its shifts, its menu, its print."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import update

from db import events
from db.models import Job
from tests.browser.conftest import log_in
from tests.browser.desk import ADMIN, Desk, furnished
from tests.peers import require

pytestmark = pytest.mark.peer("chromium")

LARGEST_FIRST_PAGE = 250_000
"""Bytes of a page with everything that it loads by itself, with a cold cache."""

SHIFTS = """() => {
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries())
      if (!entry.hadRecentInput) window.shifts.push([entry.value, ...entry.sources.map(({ node }) =>
        node instanceof Element ? node.outerHTML.slice(0, 80) : String(node?.textContent))]);
  }).observe({ type: "layout-shift", buffered: true });
}"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    require("chromium")
    with furnished(tmp_path_factory.mktemp("desk")) as desk:
        yield desk


@pytest.fixture
def room(desk: Desk, browser: Browser) -> Iterator[BrowserContext]:
    """A browser of the administrator with a cold cache."""
    context = browser.new_context(
        base_url=desk.url, viewport={"width": 1440, "height": 900}, color_scheme="dark", locale="en-GB"
    )
    context.set_default_timeout(60_000)
    yield context
    context.close()


@pytest.mark.parametrize("address", ["/login", "/queue", "/dashboard", "/upload"])
def test_a_first_page_is_light_and_asks_for_nothing_in_a_row(room: BrowserContext, address: str) -> None:
    if address != "/login":
        cookies = room.new_page()
        log_in(cookies, ADMIN)
        cookies.close()
    session = room.new_page()
    client = room.new_cdp_session(session)
    client.send("Network.enable")
    client.send("Network.setCacheDisabled", {"cacheDisabled": True})
    received: list[int] = []
    client.on("Network.loadingFinished", lambda event: received.append(int(event["encodedDataLength"])))
    session.goto(address)
    session.locator("html[data-ready]").wait_for(state="attached")
    loaded: list[Any] = session.evaluate(
        "performance.getEntriesByType('resource').filter(e => !e.name.includes('/events'))"
        ".map(e => new URL(e.name).pathname.split('/').pop())"
    )
    assert 0 < sum(received) < LARGEST_FIRST_PAGE
    assert not [name for name in loaded if "mount" in name or name.endswith(".wasm")]
    assert len(loaded) <= 12, loaded


PLACES = ("/login", "/queue", "/dashboard", "/system", "/upload", "/jobs/{running}")


@pytest.mark.parametrize("address", PLACES)
def test_nothing_jumps_while_a_page_loads_and_follows_the_node(
    desk: Desk, room: BrowserContext, address: str
) -> None:
    page = room.new_page()
    if address != "/login":
        log_in(page, ADMIN)
    page.add_init_script(f"({SHIFTS})()")
    page.goto(address.format(**desk.jobs))
    page.locator("html[data-ready]").wait_for(state="attached")
    page.evaluate("document.fonts.ready.then(() => null)")
    if page.locator("[data-live]").count():
        expect(page.locator("[data-liveness]").first).to_have_attribute("data-state", "live")
        with page.expect_response(lambda answer: answer.url.endswith(address.format(**desk.jobs))):
            _news(desk)
        page.evaluate("new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")
    shifts = page.evaluate("window.shifts")
    assert sum(shift[0] for shift in shifts) < 0.01, shifts


def _news(desk: Desk) -> None:
    """The running job moves on."""
    with desk.database.write() as session:
        job = session.get_one(Job, desk.jobs["running"])
        session.execute(update(Job).where(Job.id == job.id).values(progress=min(1.0, job.progress + 0.1)))
        events.record(session, job.id, "resend")


def test_the_menu_of_a_narrow_window_needs_no_script_and_no_mouse(desk: Desk, browser: Browser) -> None:
    for javascript in (False, True):
        context = browser.new_context(
            base_url=desk.url, viewport={"width": 390, "height": 844}, java_script_enabled=javascript
        )
        context.set_default_timeout(60_000)
        page = context.new_page()
        log_in(page, ADMIN)
        page.goto("/account")
        menu = page.get_by_text("Menu", exact=True)
        menu.focus()
        page.keyboard.press("Enter")
        queue = page.get_by_role("link", name="Queue")
        expect(queue).to_be_visible()
        if javascript:
            page.keyboard.press("Escape")
            expect(queue).to_be_hidden()
            expect(menu).to_be_focused()
            page.keyboard.press("Enter")
        _tab_to(page, queue.evaluate("link => link.getAttribute('href')"))
        page.keyboard.press("Enter")
        page.wait_for_url("**/queue")
        context.close()


def _tab_to(page: Page, address: str) -> None:
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.locator(":focus").get_attribute("href") == address:
            return
    pytest.fail(f"{address} cannot be reached with the Tab key")


def test_paper_carries_the_words_and_not_the_buttons(desk: Desk, room: BrowserContext) -> None:
    page = room.new_page()
    log_in(page, ADMIN)
    page.goto(f"/jobs/{desk.jobs['failed']}")
    page.emulate_media(media="print")
    expect(page.get_by_text("not for diagnosis").first).to_be_visible()
    expect(page.get_by_role("navigation", name="Main").first).to_be_hidden()
    expect(page.get_by_role("button", name="Log out")).to_be_hidden()


def test_still_pictures_for_those_who_want_no_motion(desk: Desk, room: BrowserContext) -> None:
    page = room.new_page()
    log_in(page, ADMIN)
    page.goto("/queue")
    turning = "document.getAnimations().filter(a => a.playState === 'running').length"
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(turning) > 0
    page.emulate_media(reduced_motion="reduce")
    page.evaluate("new Promise((r) => setTimeout(r, 50))")
    assert page.evaluate(turning) == 0
