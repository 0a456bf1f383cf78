"""Every page that a person can open, by the map of addresses: axe finds nothing wrong with it in either
theme, and it stays within the window from 390 to 3840 pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page
from werkzeug.routing import Rule

from config import Settings
from tests.browser.axe import violations
from tests.browser.conftest import log_in
from tests.browser.desk import ADMIN, Desk, furnished
from tests.peers import require
from webui.app import create_app
from webui.errors import PROGRAM_PATHS

pytestmark = pytest.mark.peer("chromium")

NO_PAGES = frozenset({"static", "pages.home", "pages.follow", "oidc.start", "oidc.back"})
"""Endpoints that answer with a file, or lead elsewhere."""

SEEN = ("queued", "held", "done", "failed", "retracted", "picture")
"""The jobs whose page is opened: the others look like one of these."""

ADDRESSES: dict[str, Callable[[Desk], list[str]]] = {
    "pages.job": lambda desk: [f"/jobs/{desk.jobs[state]}" for state in SEEN],
    "pages.job_log": lambda desk: [f"/jobs/{desk.jobs['failed']}/log"],
    "pages.webhook": lambda desk: [f"/admin/webhooks/{desk.webhook}"],
    "pages.review_one": lambda desk: [f"/review/{desk.jobs[name]}" for name in ("held", "done")],
    "pages.batch": lambda desk: [f"/batches/{desk.batch}"],
    "pages.uploaded": lambda desk: [f"/uploads/{desk.upload}"],
    "pages.identity": lambda desk: [f"/jobs/{desk.jobs['picture']}/identity"],
    "pages.queue": lambda desk: ["/queue", "/queue?state=failed", "/queue?state=retracted"],
    "pages.account": lambda desk: ["/account", "/account?changed=1"],
}
"""Addresses of pages that have parameters or several faces; the others are opened as they are in the map."""

COLOURS = ("color-contrast", "link-in-text-block")
"""What the other theme can change."""

OVER = """async () => {
  const drawn = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const until = performance.now() + 5000;
  for (;;) {
    await drawn();
    const over = document.documentElement.scrollWidth - window.innerWidth;
    if (over <= 0 || performance.now() > until) return over;
  }
}"""
"""How many pixels stand out of the window, once it is laid out in its new size (canvases follow later)."""

ERRORS = {"/nowhere": 404, "/queue?state=odd": 400}


def rules() -> list[Rule]:
    """The addresses that answer a browser's GET."""
    found = create_app(Settings()).url_map.iter_rules()
    return [
        rule
        for rule in sorted(found, key=lambda rule: rule.rule)
        if "GET" in (rule.methods or ()) and not rule.rule.startswith(PROGRAM_PATHS)
    ]


RULES = rules()


def test_every_address_is_walked_or_is_no_page() -> None:
    nameless = [
        rule.endpoint
        for rule in RULES
        if rule.arguments and rule.endpoint not in ADDRESSES and rule.endpoint not in NO_PAGES
    ]
    assert nameless == [], "tell ADDRESSES with which parameters they open, or NO_PAGES that they are none"
    known = {rule.endpoint for rule in RULES}
    assert known >= NO_PAGES
    assert known >= set(ADDRESSES)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    require("chromium")
    with furnished(tmp_path_factory.mktemp("desk")) as desk:
        yield desk


@pytest.fixture(scope="module")
def room(desk: Desk, browser: Browser) -> Iterator[BrowserContext]:
    """A browser of the administrator."""
    context = browser.new_context(
        base_url=desk.url, viewport={"width": 1440, "height": 900}, color_scheme="dark", locale="en-GB"
    )
    context.set_default_timeout(60_000)
    log_in(context.new_page(), ADMIN)
    yield context
    context.close()


@pytest.mark.parametrize(
    "rule", [rule for rule in RULES if rule.endpoint not in NO_PAGES], ids=lambda r: r.rule
)
def test_nothing_stands_in_the_way_on(desk: Desk, room: BrowserContext, browser: Browser, rule: Rule) -> None:
    addresses = ADDRESSES.get(rule.endpoint, lambda _: [rule.rule])(desk)
    context = browser.new_context(base_url=desk.url) if rule.endpoint == "pages.login" else room
    page = context.new_page()
    try:
        for address in addresses:
            answer = page.goto(address)
            assert answer is not None
            assert answer.ok, address
            look(page, address)
    finally:
        page.close()
        if context is not room:
            context.close()


def test_nothing_stands_in_the_way_on_a_refusal(room: BrowserContext) -> None:
    page = room.new_page()
    for address, status in ERRORS.items():
        answer = page.goto(address)
        assert answer is not None
        assert answer.status == status
        look(page, address)
    page.close()


def look(page: Page, address: str) -> None:
    """What axe finds in the dark and in the light, and what stands out of the window."""
    page.locator("html[data-ready]").wait_for(state="attached")
    page.evaluate("document.fonts.ready.then(() => null)")
    found = {}
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    found["dark"] = violations(page)
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    found["light"] = violations(page, rules=COLOURS)
    for width in (390, 3840, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        over = page.evaluate(OVER)
        found[f"{width} wide"] = [f"{over} pixels too wide"] if over > 0 else []
        if width == 390:
            found["390 wide"] += violations(page, rules=["target-size", "scrollable-region-focusable"])
    assert not any(found.values()), (address, {how: said for how, said in found.items() if said})
