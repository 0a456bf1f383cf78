"""A long queue: looked through, changed many at a time, and parts of the node made to stand still."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, expect
from sqlalchemy import select

from config import Settings
from config.network import Destination
from config.settings import WebSettings
from db import Database, browse, pauses, people
from db.browse import Search
from db.models import Job
from db.states import JobState, Priority
from tests.browser.axe import violations
from tests.browser.conftest import PASSWORD, log_in
from tests.interop.conftest import Roles
from tests.pacs_node.nodes import eventually, make_database, make_settings
from tests.peers import missing, require
from tools import filling
from webui import assets, server

pytestmark = pytest.mark.peer("chromium")

JOBS = 400
Open = Callable[..., Page]


@dataclass
class Long:
    """A node with a long queue, its web role alone running: nothing changes by itself."""

    url: str
    settings: Settings
    database: Database

    def states(self, numbers: list[int]) -> set[JobState]:
        with self.database.read() as session:
            return set(session.scalars(select(Job.state).where(Job.id.in_(numbers))))

    def ids(self, state: JobState, search: Search) -> list[int]:
        with self.database.read() as session:
            return browse.ids(session, states=[state], limit=500, search=search)


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Long]:
    require("chromium")
    if not assets.files():
        missing("the front end is not built (make build-web)")
    pacs = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=1)
    settings = make_settings(tmp_path_factory.mktemp("long"), destinations=(pacs,)).model_copy(
        update={"web": WebSettings(port=0)}
    )
    database = make_database(settings)
    filling.fill(database, JOBS)
    with database.write() as session:
        people.add_user(session, "ada", "radiologist", PASSWORD)
        people.add_user(session, "root", "admin", PASSWORD)
    with Roles(settings, server.run):
        assert eventually(lambda: _port(database), 60)
        yield Long(f"http://127.0.0.1:{_port(database)}", settings, database)
    database.close()


def _port(database: Database) -> int:
    from db import presence

    with database.read() as session:
        return next((int(r.info["port"]) for r in presence.alive(session) if r.info.get("port")), 0)


@pytest.fixture
def open_queue(long: Long, browser: Browser) -> Iterator[Open]:
    """Return a function that opens the queue in a browser of its own; what it complains of fails the test."""
    contexts: list[BrowserContext] = []
    said: list[str] = []

    def open_queue(
        path: str = "/queue",
        *,
        width: int = 1440,
        theme: str = "dark",
        name: str = "ada",
        script: bool = True,
    ) -> Page:
        context = browser.new_context(
            base_url=long.url, viewport={"width": width, "height": 900}, java_script_enabled=script,
            color_scheme="dark" if theme == "dark" else "light", locale="en-GB",
        )  # fmt: skip
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        log_in(page, name)
        page.goto(path)
        if script:
            expect(page.locator("html[data-ready]")).to_be_attached()
        return page

    yield open_queue
    for context in contexts:
        context.close()
    assert said == []


def rows(page: Page) -> list[int]:
    return [int(row.get_attribute("data-key") or "") for row in page.locator("tr[data-key]").all()]


def sound(page: Page) -> None:
    """The page fits its window and axe finds nothing."""
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    assert violations(page) == []


@pytest.mark.parametrize(("width", "theme"), [(1440, "dark"), (390, "light")])
def test_a_long_queue_is_browsed_filtered_and_searched(open_queue: Open, width: int, theme: str) -> None:
    page = open_queue(width=width, theme=theme)
    assert rows(page) == list(range(JOBS, JOBS - 50, -1))
    page.get_by_role("link", name="Older").click()
    page.wait_for_url("**/queue?after=351")
    assert rows(page) == list(range(JOBS - 50, JOBS - 100, -1))
    page.get_by_text("More filters").click()
    page.get_by_label("Priority", exact=True).select_option("stat")
    page.get_by_label("Order").select_option("oldest")
    page.get_by_role("button", name="Find").click()
    page.wait_for_url("**/queue?sort=oldest&priority=stat")
    assert rows(page) == list(range(50, JOBS + 1, 50))
    expect(page.locator(".matched")).to_have_text("8 jobs")
    sound(page)
    page.get_by_role("searchbox", name="Find").fill("abb")
    page.get_by_role("button", name="Find").click()
    expect(page.locator(".matched")).not_to_have_text("8 jobs")
    assert "abb" not in page.url.rpartition("/")[2]
    page.get_by_label("Priority", exact=True).select_option("")
    page.get_by_role("button", name="Find").click()
    expect(page.locator(".matched")).to_have_text("4 jobs")
    assert all("Abbott" in row.inner_text() for row in page.locator("tr[data-key]").all())
    sound(page)


def test_chosen_jobs_are_changed_in_place(open_queue: Open, long: Long) -> None:
    page = open_queue("/queue?state=failed", width=390, theme="light")
    first, second = rows(page)[:2]
    for number in (first, second):
        page.get_by_label(f"Choose job {number}", exact=True).check()
    expect(page.locator("[data-number]")).to_have_text("2 chosen")
    sound(page)
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("Jobs changed: 2.")).to_be_visible()
    assert long.states([first, second]) == {JobState.QUEUED}
    expect(page.locator(f"tr[data-key='{first}']")).to_have_count(0)
    page.goto("/queue?state=queued")
    for number in (first, second):
        page.get_by_label(f"Choose job {number}", exact=True).check()
    page.get_by_label("Priority of the chosen jobs").select_option("stat")
    page.get_by_role("button", name="Set priority").click()
    expect(page.locator(f"tr[data-key='{first}'] .stat")).to_be_visible()
    with long.database.read() as session:
        assert session.get_one(Job, second).priority == Priority.STAT
    asked: list[str] = []

    def agree(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.accept()

    page.on("dialog", agree)
    page.get_by_label("Choose all on this page").focus()
    for number in (first, second):
        page.get_by_label(f"Choose job {number}", exact=True).check()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(f"tr[data-key='{second}']")).to_have_count(0)
    assert asked == ["Cancel: 2 jobs?"]
    assert long.states([first, second]) == {JobState.CANCELLED}


def test_all_that_match_are_changed_and_the_rest_is_told(open_queue: Open, long: Long) -> None:
    skipped = long.ids(JobState.SKIPPED, Search(origin_kind="dimse"))
    page = open_queue("/queue?state=skipped&origin=dimse", theme="light")
    page.get_by_label("All that match").check()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text(f"Jobs changed: {len(skipped)}.")).to_be_visible()
    assert long.states(skipped) == {JobState.QUEUED}
    page.goto("/queue?state=done")
    page.locator("td.pick input").first.check()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_text("Left as they are: 1.")).to_contain_text("The job is done")


def test_rows_are_chosen_and_changed_by_keyboard_alone(open_queue: Open, long: Long) -> None:
    page = open_queue("/queue?state=queued")
    number = rows(page)[0]
    _tab_to(page, f"pick-{number}")
    page.keyboard.press("Space")
    expect(page.locator("[data-number]")).to_have_text("1 chosen")
    for _ in range(20):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.value") == "priority":
            break
    page.keyboard.press("Enter")
    expect(page.get_by_text("Jobs changed: 1.")).to_be_visible()
    with long.database.read() as session:
        assert session.get_one(Job, number).priority == Priority.STAT


def _tab_to(page: Page, handle: str) -> None:
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == handle:
            return
    raise AssertionError(f"no way to {handle}")


def test_an_administrator_lets_things_stand_still_and_go_on(open_queue: Open, long: Long) -> None:
    page = open_queue(width=390, name="root")
    page.get_by_text("Pause…").click()
    page.get_by_label("What").select_option("destination:pacs")
    page.get_by_label("Reason").fill("new firmware until noon")
    page.get_by_role("button", name="Pause", exact=True).click()
    told = page.get_by_text("Delivery to pacs is paused")
    expect(told).to_be_visible()
    sound(page)
    with long.database.read() as session:
        assert [row.reason for row in pauses.all_pauses(session)] == ["new firmware until noon"]
    reader = open_queue(theme="light")
    expect(reader.get_by_text("new firmware until noon")).to_be_visible()
    expect(reader.get_by_role("button", name=re.compile("Resume"))).to_have_count(0)
    page.get_by_role("button", name="Resume: Delivery to pacs").click()
    expect(told).to_have_count(0)
    with long.database.read() as session:
        assert pauses.all_pauses(session) == []


def test_without_script_jobs_are_chosen_and_changed_too(open_queue: Open, long: Long) -> None:
    page = open_queue("/queue?state=held", script=False)
    number = rows(page)[0]
    page.get_by_label(f"Choose job {number}", exact=True).check()
    page.get_by_role("button", name="Set priority").click()
    expect(page.get_by_role("status").filter(has_text="1 job changed.")).to_be_visible()
    assert long.states([number]) == {JobState.HELD}
