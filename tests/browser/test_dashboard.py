"""What an administrator comes for: is all well, why is this not in the PACS, and try those again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy.orm import Session

from db import queue
from db.desk import Alert
from db.models import Patient, PeerStatus, Series, Source, Study
from db.states import Priority
from db.types import utcnow
from tests.browser.axe import violations
from tests.browser.conftest import log_in
from tests.browser.desk import ADMIN, Desk, furnished
from tests.db import builders
from tests.peers import require

pytestmark = pytest.mark.peer("chromium")

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    require("chromium")
    with furnished(tmp_path_factory.mktemp("dashboard")) as desk:
        with desk.database.write() as session:
            now = utcnow()
            session.merge(PeerStatus(name="pacs", reachable=False, changed_at=now, message="refused"))
            study = Study(
                patient=Patient(name="Adams^Anna", patient_id="P-77"), study_instance_uid="1.2.77",
                accession_number="ACC-77",
            )  # fmt: skip
            series = Series(study=study, series_instance_uid="1.2.77.1", modality="DX")
            sent = builders.finished(session, builders.PACS, priority=Priority.STAT)
            session.get_one(Source, sent.source_id).series = series
        yield desk


@pytest.fixture
def open_page(desk: Desk, browser: Browser) -> Iterator[Open]:
    """Return a function that opens the dashboard as its administrator sees it on landing."""
    contexts: list[BrowserContext] = []
    said: list[str] = []

    def open_page(*, width: int = 1440, theme: str = "dark", javascript: bool = True) -> Page:
        context = browser.new_context(
            base_url=desk.url, viewport={"width": width, "height": 900}, java_script_enabled=javascript,
            color_scheme="dark" if theme == "dark" else "light", locale="en-GB",
        )  # fmt: skip
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        log_in(page, ADMIN)
        expect(page).to_have_url(re.compile("/dashboard$"))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []


def fail(session: Session, code: str, reason: str) -> None:
    """A job that fails before any other is begun."""
    builders.job(session, priority=Priority.STAT)
    queue.fail(session, builders.claim(session), code, reason)


def count(page: Page, state: str) -> int:
    text = page.locator(f".flow a.tone-{state} b").inner_text()
    return int(text.replace(",", ""))


def test_why_is_answered_on_the_first_screen_by_keyboard_alone(open_page: Open) -> None:
    page = open_page()
    box = page.get_by_role("searchbox", name="Why is this not in the PACS?")
    expect(box).to_be_in_viewport()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(6):
        page.keyboard.press("Tab")
        if box.evaluate("box => box === document.activeElement"):
            break
    page.keyboard.type("acc-77")
    page.keyboard.press("Enter")
    answer = page.locator("[data-live=answer]")
    expect(answer).to_contain_text(
        re.compile(r"Result waits: pacs has been unreachable since .+ \(refused\)\.")
    )
    expect(answer).to_contain_text("Adams, Anna")
    expect(answer).to_be_in_viewport()
    assert "77" not in page.url.partition("/dashboard")[2]
    answer.get_by_role("link").first.click()
    expect(page).to_have_title(re.compile("Job"))
    page.go_back()
    expect(box).to_have_value("acc-77")
    expect(answer).to_contain_text("Adams, Anna")
    box.fill("nobody at all")
    box.press("Enter")
    expect(answer).to_contain_text("Not received.")


def test_counts_and_failures_change_while_one_looks_and_nothing_jumps(open_page: Open, desk: Desk) -> None:
    page = open_page(theme="light")
    page.evaluate(
        "() => { window.shifts = []; new PerformanceObserver(list => { for (const one of list.getEntries())"
        " if (!one.hadRecentInput) window.shifts.push(one.value); }).observe({ type: 'layout-shift' }); }"
    )
    before, failures = count(page, "failed"), page.locator("[data-live=failures] li")
    page.locator("#figures-ended summary").click()
    with desk.database.write() as session:
        for _ in range(3):
            fail(session, "decode", "The pixel data ends early.")
    expect(page.locator(".flow a.tone-failed b")).to_have_text(str(before + 3), timeout=60_000)
    group = failures.filter(has_text="decode")
    expect(group).to_contain_text("The pixel data ends early.")
    expect(page.locator("[data-live=chart-ended] p")).to_contain_text(re.compile(r"[3-9] failed"))
    expect(page.get_by_role("table")).to_be_visible()  # it stays open
    group.get_by_role("button", name="Retry all 3 decode").click()
    expect(page.locator("#toasts")).to_contain_text("3 jobs are tried again.")
    expect(failures.filter(has_text="decode")).to_have_count(0)
    expect(page.locator(".flow a.tone-failed b")).to_have_text(str(before))
    assert sum(page.evaluate("window.shifts")) < 0.1


def test_an_alert_appears_by_itself_and_says_who_was_not_told(open_page: Open, desk: Desk) -> None:
    page = open_page()
    with desk.database.write() as session:
        session.add(
            Alert(
                kind="unreachable",
                subject="pacs",
                message="Destination pacs has not answered since Sunday.",
                trouble="Address 1 (E-Mail) was not told: Connection refused.",
            )
        )
    alerts = page.get_by_role("region", name="Alerts")
    expect(alerts).to_contain_text("Destination pacs has not answered since Sunday.", timeout=60_000)
    expect(alerts).to_contain_text("Address 1 (E-Mail) was not told")
    expect(alerts).to_be_in_viewport()
    page.get_by_role("link", name="All alerts").click()
    expect(page.get_by_role("region", name="Alerts")).to_contain_text("since Sunday")


@pytest.mark.parametrize(("width", "theme"), [(390, "light"), (1440, "dark"), (3840, "light")])
def test_it_fits_is_accessible_and_each_chart_has_its_table(open_page: Open, width: int, theme: str) -> None:
    page = open_page(width=width, theme=theme)
    page.get_by_role("link", name="Day").click()
    expect(page).to_have_url(re.compile("span=day$"))
    for title in ("Jobs ended", "Waiting for a worker", "Workers at work"):
        chart = page.get_by_role("figure", name=title)
        expect(chart.get_by_role("img")).to_be_visible()
        chart.get_by_text("Figures as a table").click()
        expect(chart.get_by_role("row")).to_have_count(49)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    if width < 3840:
        assert violations(page) == []


def test_without_javascript_it_answers_and_retries(open_page: Open, desk: Desk) -> None:
    with desk.database.write() as session:
        fail(session, "model", "The model gave no number.")
    page = open_page(javascript=False)
    page.get_by_role("searchbox").fill("P-77")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("[data-live=answer]")).to_contain_text("Adams, Anna")
    page.goto("/dashboard")
    page.get_by_role("button", name="Retry it model").click()
    expect(page.get_by_text("One job is tried again.")).to_be_visible()
