"""An administrator has an address told of jobs: made and tried by keyboard, removed on a phone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import expect

from config import Settings
from config.settings import WebSettings
from db import Database, people, presence, schema
from pacs_node.webhooks import Herald
from tests.browser.axe import violations
from tests.browser.conftest import PASSWORD, Node, Opener, log_in
from tests.peers import missing, require
from webui import assets, server

pytestmark = pytest.mark.peer("chromium")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """The web role and, as the scheduler has it, the herald that makes the calls."""
    require("chromium")
    if not assets.files():
        missing("the front end is not built (make build-web)")
    settings = Settings(data_dir=tmp_path / "var", web=WebSettings(port=0))
    settings.data_dir.mkdir()
    database = Database(settings.database_url)
    schema.upgrade(database)
    with database.write() as session:
        people.add_user(session, "root", "admin", PASSWORD)
    stop = threading.Event()
    web = threading.Thread(target=server.run, args=(settings, stop), daemon=True)
    herald = Herald(database, "https://enhance.example.org", wait=lambda _attempts: timedelta(hours=1))
    calls = threading.Thread(target=_rounds, args=(herald, stop), daemon=True)
    web.start()
    calls.start()
    try:
        yield Node(f"http://127.0.0.1:{_port(database)}", "")
    finally:
        stop.set()
        calls.join(timeout=30)
        web.join(timeout=30)
        herald.stop(patience=30)
        database.close()


def _rounds(herald: Herald, stop: threading.Event) -> None:
    while not stop.wait(0.2):
        herald.run()


def _port(database: Database) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with database.read() as session:
            for row in presence.alive(session):
                if row.role == "web":
                    return int(row.info["port"])
        time.sleep(0.05)
    raise AssertionError("the server did not come up")


@pytest.fixture
def address() -> Iterator[str]:
    """One that takes every call."""

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    made.daemon_threads = True
    threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_address[1]}/hook"
    made.shutdown()
    made.server_close()


def test_an_address_is_added_tried_and_removed(open_browser: Opener, address: str) -> None:
    page = open_browser(width=1440, theme="dark").new_page()
    log_in(page, "root")
    page.goto("/admin/webhooks")
    expect(page.get_by_role("link", name="Webhooks")).to_have_attribute("aria-current", "page")
    page.get_by_label("Name").focus()
    page.keyboard.type("ris")
    page.keyboard.press("Tab")
    page.keyboard.type(address)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # held, too
    page.keyboard.press("Enter")
    secret = page.locator("code.secret")
    expect(secret).to_contain_text("whsec_")
    expect(page.get_by_role("row", name="ris")).to_contain_text("held, done, failed")
    assert violations(page) == []
    page.get_by_role("link", name="ris").focus()
    page.keyboard.press("Enter")
    expect(secret).to_have_count(0)
    page.get_by_role("button", name="Make a test call").focus()
    page.keyboard.press("Enter")
    _until(page, "HTTP 204")
    expect(page.get_by_role("row", name="test")).to_contain_text("taken")
    assert violations(page) == []
    page.close()  # it would look after what the next window removes

    small = open_browser(width=390, theme="light").new_page()
    log_in(small, "root")
    small.goto("/admin/webhooks")
    assert violations(small) == []
    assert small.evaluate("document.documentElement.scrollWidth <= innerWidth")
    small.get_by_role("link", name="ris").click()
    expect(small.get_by_role("heading", name="Webhook ris")).to_be_visible()
    assert violations(small) == []
    assert small.evaluate("document.documentElement.scrollWidth <= innerWidth")
    small.get_by_role("button", name="Switch off").click()
    expect(small.get_by_role("button", name="Switch on")).to_be_visible()
    small.get_by_role("button", name="Remove").click()
    expect(small.get_by_text("There are none.")).to_be_visible()


def _until(page, text: str) -> None:
    """Load the page again until the call was made."""
    deadline = time.monotonic() + 60
    while text not in page.locator("main").inner_text() and time.monotonic() < deadline:
        page.wait_for_timeout(300)
        page.reload()
    expect(page.locator("main")).to_contain_text(text)
