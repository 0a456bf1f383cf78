"""Every page in both themes and widths, by keyboard, without JavaScript, and with input that is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PASSWORD, Node, Opener, Trouble, log_in

PAGES = ("/queue", "/upload", "/system", "/account")

CONTRAST = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = colour => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const linear = [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] > 250) return colour;
    }
    return rgba("white");
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest(":disabled")) continue;
    const [a, b] = [light(rgba(getComputedStyle(element).color)), light(ground(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push(`${ratio.toFixed(2)} ${walker.currentNode.data.trim().slice(0, 40)}`);
  }
  return poor;
}"""


def test_a_wrong_password_is_refused_in_words(open_browser: Opener, trouble: Trouble) -> None:
    page = open_browser().new_page()
    page.goto("/login")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    trouble.said.clear()  # Chromium reports the 401 of the page itself


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_fits_and_can_be_read(
    open_browser: Opener, a_job: str, theme: str, width: int, trouble: Trouble
) -> None:
    page = open_browser(width=width, theme=theme).new_page()
    page.goto("/login")
    _fits(page)
    log_in(page)
    for address in (*PAGES, f"/jobs/{a_job}", "/nowhere"):
        page.goto(address)
        _fits(page)
        expect(page.get_by_text("not for diagnosis").first).to_be_in_viewport()
    assert len(trouble.said) == 1
    trouble.said.clear()  # Chromium reports the 404 of the last address


def _fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0, page.url
    assert page.evaluate(CONTRAST) == [], page.url


@pytest.fixture(scope="module")
def a_job(node: Node, browser: Browser, samples_dir: Path) -> str:
    """Return the number of a job that failed or was skipped or done; it only has to be there."""
    context = browser.new_context(base_url=node.url)
    page = context.new_page()
    log_in(page)
    page.goto("/upload")
    page.locator("input[type=file]").set_input_files(samples_dir / "chest_pa_nih_256.dcm")
    page.get_by_role("button", name="Enhance").click()
    link = page.locator("[data-files] a")
    expect(link).to_be_visible()
    number = (link.get_attribute("href") or "").rsplit("/", 1)[1]
    context.close()
    return number


def test_the_theme_is_chosen_once_and_kept(page: Page) -> None:
    page.goto("/queue")
    room = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(room)
    page.get_by_role("button", name="Dark theme").click()
    light = page.evaluate(room)
    assert dark != light
    page.reload()
    assert page.evaluate(room) == light
    page.get_by_role("button", name="Dark theme").click()
    assert page.evaluate(room) == dark


def test_login_and_upload_need_only_a_keyboard(open_browser: Opener, samples_dir: Path) -> None:
    page = open_browser().new_page()
    page.on(
        "filechooser", lambda _chooser: None
    )  # asked for early: the browser must know before the key comes
    page.goto("/login")
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.type("ada")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: not url.endswith("/login"))
    page.goto("/upload")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    _tab_to(page, "input[type=file]")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(samples_dir / "chest_pa_nih_256.dcm")
    _tab_to(page, "[data-send]")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("[data-files] a")).to_be_visible()


def _tab_to(page: Page, selector: str) -> None:
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"{selector} cannot be reached with the Tab key")


def test_a_refusal_stands_with_its_file_and_the_next_good_image_still_works(
    page: Page, samples_dir: Path, tmp_path: Path, trouble: Trouble
) -> None:
    text = tmp_path / "letter.txt"
    text.write_text("Dear colleague, thank you for the referral.", encoding="utf-8")
    huge = tmp_path / "huge.tif"
    huge.write_bytes(bytes(1_000_001))
    page.goto("/upload")
    page.locator("input[type=file]").set_input_files([text, huge, samples_dir / "chest_pa_nih_256.dcm"])
    page.get_by_role("button", name="Enhance 3 images").click()
    expect(page.locator("[data-summary]")).to_contain_text("1 taken, 2 refused")
    expect(page.locator("[data-files] li", has_text="huge.tif")).to_contain_text("larger than 1.0 MB")
    refused = page.locator("[data-files] li", has_text="letter.txt")
    expect(refused.locator(".reason")).not_to_be_empty()
    expect(page.locator("[data-files] li", has_text="chest_pa").get_by_role("link")).to_be_visible()
    trouble.said.clear()  # Chromium reports the 415 that the page has put into words


def test_an_image_can_be_dropped_and_asks_whose_it_is(page: Page) -> None:
    page.goto("/upload")
    expect(page.locator("[data-demographics]")).to_be_hidden()
    drop = page.evaluate_handle(
        "() => { const drop = new DataTransfer();"
        " drop.items.add(new File(['x'], 'slide.png', { type: 'image/png' })); return drop; }"
    )
    page.dispatch_event("[data-drop]", "drop", {"dataTransfer": drop})
    expect(page.locator("[data-files] li")).to_contain_text("slide.png")
    expect(page.locator("[data-demographics]")).to_be_visible()
    page.get_by_role("button", name="Remove slide.png").click()
    expect(page.locator("[data-files] li")).to_have_count(0)


def test_a_search_never_shows_in_the_address_and_is_there_on_return(page: Page, a_job: str) -> None:
    page.goto("/queue")
    page.get_by_role("searchbox").fill("sample-2")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Clear")).to_be_visible()
    page.locator(f'tr[data-key="{a_job}"] a').click()
    expect(page).to_have_title(f"Job {a_job} · cxr-sr")
    page.go_back()
    expect(page.get_by_role("searchbox")).to_have_value("sample-2")
    expect(page.get_by_role("link", name="Clear")).to_be_visible()
    page.get_by_role("button", name="retracted").click()
    expect(page.get_by_text("Nothing matches.")).to_be_visible()
    page.get_by_role("button", name="All").click()
    expect(page.locator(f'tr[data-key="{a_job}"]')).to_be_visible()
    assert "sample" not in page.url
    page.get_by_role("searchbox").fill("no such patient")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing matches.")).to_be_visible()
    assert "such" not in page.url
    page.get_by_role("link", name="Clear").click()
    expect(page.locator(f'tr[data-key="{a_job}"]')).to_be_visible()


def test_jobs_can_be_seen_by_state(page: Page, a_job: str) -> None:
    page.goto("/queue?state=retracted")
    expect(page.get_by_text("No job is in the state retracted.")).to_be_visible()
    expect(page.get_by_role("link", name="retracted")).to_have_attribute("aria-current", "true")


def test_windows_share_one_stream_and_all_leave_when_one_logs_out(open_browser: Opener) -> None:
    context = open_browser()
    streams: list[str] = []
    context.on("request", lambda request: streams.append(request.url) if "/events" in request.url else None)
    first = context.new_page()
    log_in(first)
    first.goto("/queue")
    expect(first.locator("[data-liveness]")).to_have_attribute("data-state", "live")
    streams.clear()
    others = [context.new_page() for _ in range(2)]
    for other in others:
        other.goto("/queue")
        expect(other.locator("[data-liveness]")).to_have_attribute("data-state", "live")
    assert streams == []
    others[1].get_by_role("button", name="Log out").click()
    for page in (first, *others):
        page.wait_for_url("**/login*")


def test_the_pages_work_without_javascript(open_browser: Opener, tmp_path: Path) -> None:
    Image.radial_gradient("L").resize((64, 64)).save(tmp_path / "plain.png")
    page = open_browser(javascript=False).new_page()
    log_in(page)
    page.goto("/upload")
    page.locator("input[type=file]").set_input_files(tmp_path / "plain.png")
    page.get_by_role("button", name="Enhance").click()
    page.get_by_role("link", name="job").click()
    expect(page.locator("h1")).to_contain_text("Job")
    page.goto("/queue")
    expect(page.locator("table.jobs")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url("**/login")


def test_a_destination_that_does_not_answer_is_said_so(page: Page, trouble: Trouble) -> None:
    page.goto("/system")
    page.get_by_role("button", name="C-ECHO to pacs").click()
    expect(page.locator("#toasts")).to_contain_text("No sender is running")
    trouble.said.clear()  # this node runs no sender: Chromium reports the 503
