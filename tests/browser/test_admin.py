"""An administrator's day: a setting, a rule, a test image, people, tokens, logins, the audit trail, a log."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pydicom import dcmread

from db import Database, people
from pacs_node.archive import Archive
from tests.browser.axe import violations
from tests.browser.conftest import PASSWORD, START_SECONDS, log_in
from tests.browser.test_every_page import OVER
from tests.peers import ROOT, missing, require
from webui import assets

pytestmark = pytest.mark.peer("chromium")

WAIT = 60_000
"""Milliseconds that a role may take to answer on a busy machine."""


@dataclass
class Node:
    """A running `cxr-sr serve` with web, worker and sender, and the archive that is its destination."""

    url: str
    archive: Archive
    file: Path


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node of its own: it sends in earnest, and its people come and go."""
    require("chromium")
    if not assets.files():
        missing("the front end is not built (make build-web)")
    folder = tmp_path_factory.mktemp("admin")
    with Archive(folder / "archive") as archive:
        file = folder / "cxr-sr.toml"
        file.write_text(
            f'data_dir = "{folder / "var"}"\n'
            "[web]\nport = 0\n"
            "[storage]\nreserve_bytes = 0\n"
            "[queue]\npoll_seconds = 0.1\n"
            '[[rules]]\nname = "portable"\nmatch = { CallingAETitle = "ER*" }\nscale = 2\n'
            '[[rules]]\nname = "nothing yet"\naction = "skip"\n'
            '[[destinations]]\nname = "pacs"\nae_title = "DEMO_PACS"\nhost = "127.0.0.1"\n'
            f"port = {archive.port}\n",
            encoding="utf-8",
        )
        with serving(file, folder / "stderr") as url:
            database = Database(f"sqlite:///{folder / 'var' / 'cxr-sr.db'}")
            with database.write() as session:
                people.add_user(session, "root", "admin", PASSWORD)
                people.add_user(session, "ada", "radiologist", PASSWORD)
            database.close()
            yield Node(url, archive, file)


class serving:  # noqa: N801 - reads as what it does
    """The node as a user starts it, until the block ends."""

    def __init__(self, config: Path, said: Path) -> None:
        self.config, self.said = config, said

    def __enter__(self) -> str:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("CXR_SR_")}
        words = [sys.executable, "-m", "cxr_sr", "serve", "--config", str(self.config)]
        for role in ("web", "worker", "sender"):
            words += ["--role", role]
        with self.said.open("wb") as stderr:
            self.process = subprocess.Popen(
                words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=stderr
            )
        deadline = time.monotonic() + 2 * START_SECONDS
        while not (found := re.search(r"Pages:\s+(\S+)/", self.said.read_text("utf-8", errors="replace"))):
            assert self.process.poll() is None, self.said.read_text()
            if time.monotonic() > deadline:
                self.__exit__()
                raise AssertionError(self.said.read_text())
            time.sleep(0.1)
        return found[1]

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@pytest.fixture(scope="module", autouse=True)
def _patience() -> Iterator[None]:
    """Roles answer late on a busy machine."""
    expect.set_options(timeout=WAIT)
    yield
    expect.set_options(timeout=5_000)


@pytest.fixture(scope="module")
def desk(node: Node, browser: Browser) -> Iterator[BrowserContext]:
    """A browser of the administrator, who has logged in; nothing of it complains."""
    context = browser.new_context(base_url=node.url, color_scheme="dark", locale="en-GB")
    context.set_default_timeout(WAIT)
    said: list[str] = []
    context.on("weberror", lambda error: said.append(str(error.error)))
    context.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page = context.new_page()
    log_in(page, "root")
    page.close()
    yield context
    context.close()
    assert said == []


@pytest.fixture
def page(desk: BrowserContext) -> Iterator[Page]:
    """Return a window of the administrator."""
    page = desk.new_page()
    page.set_viewport_size({"width": 1440, "height": 900})
    yield page
    page.close()


@pytest.fixture(scope="module")
def job(node: Node, browser: Browser, samples_dir: Path) -> str:
    """Return the number of a job whose image was received."""
    context = browser.new_context(base_url=node.url)
    context.set_default_timeout(WAIT)
    page = context.new_page()
    log_in(page)
    token = page.locator('meta[name="csrf-token"]').get_attribute("content") or ""
    answer = page.request.post(
        "/api/v1/jobs",
        multipart={
            "file": {
                "name": "chest.dcm",
                "mimeType": "application/dicom",
                "buffer": (samples_dir / "chest_pa_nih_256.dcm").read_bytes(),
            }
        },
        headers={"X-CSRF-Token": token},
    )
    number = str(answer.json()["jobs"][0]["id"])
    context.close()
    return number


def stands(page: Page) -> None:
    """axe finds nothing in either theme, and nothing stands out of the window, narrow and wide."""
    found = {}
    page.emulate_media(color_scheme="dark", reduced_motion="reduce")
    found["dark"] = violations(page)
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    found["light"] = violations(page, rules=["color-contrast", "link-in-text-block"])
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        over = page.evaluate(OVER)
        found[f"{width} wide"] = [f"{over} pixels too wide"] if over > 0 else []
    assert not any(found.values()), {how: said for how, said in found.items() if said}


def test_a_setting_is_looked_up_with_the_keyboard_alone(page: Page, node: Node) -> None:
    page.goto("/admin")
    expect(page.get_by_role("heading", name="Settings", exact=True)).to_be_visible()
    find = page.get_by_label("Find a setting")
    for _ in range(40):
        page.keyboard.press("Tab")
        if find.evaluate("element => element === document.activeElement"):
            break
    page.keyboard.type("port destinations")
    rows = page.locator("[data-filter-row]:visible")
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("destinations[0].port")
    expect(rows).to_contain_text(str(node.archive.port))
    line = node.file.read_text().splitlines().index(f"port = {node.archive.port}") + 1
    expect(rows).to_contain_text(f"file, line {line}")
    page.keyboard.press("Control+A")
    page.keyboard.type("nonsense")
    expect(page.get_by_text("No setting matches.")).to_be_visible()
    stands(page)


def test_a_rule_is_tried_on_a_received_object_on_a_phone(page: Page, job: str) -> None:
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/admin/rules")
    page.get_by_role("link", name=f"Job {job}", exact=True).click()
    page.get_by_role("button", name="Try").click()
    expect(page.locator("[data-verdict]")).to_contain_text("Left out by the rule “nothing yet”.")
    page.get_by_label("Attributes, one a line").fill("CallingAETitle = ER_7")
    page.get_by_role("button", name="Try").click()
    expect(page.locator("[data-verdict]")).to_contain_text("Enhanced ×2 by the rule “portable”.")
    page.get_by_label("Attributes, one a line").fill("CallingAETitle = WARD")
    page.get_by_role("button", name="Try").click()
    expect(page.locator(".rulelist")).to_contain_text("CallingAETitle is WARD, not ER*")
    stands(page)


def test_a_test_image_arrives_in_the_archive(page: Page, node: Node) -> None:
    page.goto("/admin/destinations")
    expect(page.get_by_text("none sent yet")).to_be_visible()
    page.get_by_role("button", name="Send a test image to pacs").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".destination")).to_contain_text("status 0000")
    expect(page.locator(".destination .state").last).to_have_text("arrived")
    [kept] = node.archive.objects()
    ds = dcmread(kept.path, stop_before_pixels=True)
    assert (str(ds.PatientName), ds.PatientID, ds.QualityControlImage) == ("TEST^TEST", "TEST", "YES")
    page.get_by_role("button", name="Echo pacs").click()
    expect(page.locator(".destination")).to_contain_text("DEMO_PACS answered")
    stands(page)


def test_a_person_is_added_logs_in_and_is_shut_out(page: Page, node: Node, browser: Browser) -> None:
    page.goto("/admin/users")
    page.get_by_label("Name to log in with").fill("eve")
    page.get_by_role("button", name="Add").click()
    secret = page.locator(".secret").inner_text()
    stands(page)
    theirs = browser.new_context(
        base_url=node.url, color_scheme="light", viewport={"width": 390, "height": 844}
    )
    window = theirs.new_page()
    window.set_default_timeout(WAIT)
    log_in(window, "eve", secret)
    expect(window.get_by_text("Choose a password of your own")).to_be_visible()
    page.get_by_label("Change eve").click()
    page.get_by_role("button", name="Shut out").click()
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="eve", exact=True))
    expect(row).to_contain_text("shut out")
    window.goto("/queue")
    expect(window.get_by_role("button", name="Log in")).to_be_visible()
    theirs.close()


def test_a_token_is_made_used_and_revoked(page: Page, node: Node, browser: Browser) -> None:
    page.goto("/admin/tokens")
    page.get_by_label("Acts as").select_option("ada")
    page.get_by_label("What it is for").fill("night upload")
    page.get_by_role("button", name="Make").click()
    secret = page.locator(".secret").inner_text()
    stands(page)
    program = browser.new_context(base_url=node.url)
    bearer = {"Authorization": f"Bearer {secret}"}
    assert program.request.get("/api/v1/me", headers=bearer).json()["name"] == "ada"
    page.get_by_role("button", name="Revoke the token night upload").click()
    expect(page.get_by_role("row", name="night upload")).to_contain_text("revoked")
    assert program.request.get("/api/v1/me", headers=bearer).status == 401
    program.close()


def test_a_login_elsewhere_is_seen_and_ended(page: Page, node: Node, browser: Browser) -> None:
    elsewhere = browser.new_context(base_url=node.url, color_scheme="light")
    window = elsewhere.new_page()
    window.set_default_timeout(WAIT)
    log_in(window)
    page.goto("/admin/sessions")
    while page.get_by_role("button", name="End the login of ada").count():
        page.get_by_role("button", name="End the login of ada").first.click()
        page.wait_for_load_state()
    window.goto("/queue")
    expect(window.get_by_role("button", name="Log in")).to_be_visible()
    log_in(window)
    window.goto("/account")
    expect(window.locator("#logins")).to_contain_text("this one")
    stands(window)
    elsewhere.close()


def test_the_audit_trail_is_filtered_and_exported(page: Page, job: str) -> None:
    page.goto("/admin/audit")
    page.get_by_label("Who").fill("ada")
    page.get_by_label("Outcome").select_option("success")
    page.get_by_role("button", name="Filter").click()
    rows = page.locator("table.audit tbody tr")
    expect(rows.first).to_contain_text("ada")
    assert set(page.locator("table.audit tbody tr td:nth-child(2)").all_inner_texts()) <= {"ada\n127.0.0.1"}
    with page.expect_download() as download:
        page.get_by_role("link", name="Export CSV").click()
    with Path(download.value.path()).open(encoding="utf-8", newline="") as file:
        exported = list(csv.DictReader(file))
    assert len(exported) == rows.count()
    assert {row["actor"] for row in exported} == {"ada"}
    stands(page)


def test_the_log_of_a_job_is_read_from_its_page(page: Page, job: str) -> None:
    page.goto(f"/jobs/{job}")
    page.get_by_role("link", name="Log", exact=True).click()
    expect(page.get_by_role("heading", name=f"Log of job {job}")).to_be_visible()
    deadline = time.monotonic() + WAIT / 1000
    while not page.get_by_text("job examined").count() and time.monotonic() < deadline:
        page.wait_for_timeout(500)
        page.reload()
    table = page.locator("table.log")
    expect(table).to_contain_text("upload taken")
    expect(table).to_contain_text("job examined")
    stands(page)


def test_a_model_card_is_read_in_full(page: Page) -> None:
    page.goto("/admin/models")
    page.get_by_text("Model card of srgan").click()
    card = page.locator(".card-text").first
    expect(card.get_by_role("heading", name="What it must not be used for")).to_be_visible()
    expect(card.locator(".wide table").first).to_be_visible()
    stands(page)
