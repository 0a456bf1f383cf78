"""A node as a user starts it, real browser windows on it, and people who work with their hands."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from PIL import Image
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    sync_playwright,
)

from db import Database, people
from tests import dicom_variants
from tests.browser.viewing import ENHANCED_SECONDS, Shown, deposit, inverted, ramp, tabled
from tests.peers import ROOT, missing, require
from webui import assets

PASSWORD = "a quiet dark room"
CHROMIUM_ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
START_SECONDS = 90


@dataclass
class Node:
    """A running `cxr-sr serve` with the roles web and worker."""

    url: str
    administrator_password: str


@dataclass
class Trouble:
    """What a browser complained of, and what it asked of other hosts."""

    host: str
    said: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)

    def watch(self, page: Page) -> None:
        page.on(
            "console", lambda message: self.said.append(message.text) if message.type == "error" else None
        )
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.said.append(message.text)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.host, "blob:", "data:")):
            self.strangers.append(request.url)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Start the node on free ports; every test of this folder shares it, none relies on another's traces."""
    require("chromium")
    if not assets.files():
        missing("the front end is not built (make build-web)")
    folder = tmp_path_factory.mktemp("node")
    config = folder / "cxr-sr.toml"
    config.write_text(
        f'data_dir = "{folder / "var"}"\n'
        "[web]\nport = 0\nmax_upload_bytes = 1000000\n"
        "[dicom]\nport = 0\n"
        "[storage]\nreserve_bytes = 0\n"
        '[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 1\n',
        encoding="utf-8",
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CXR_SR_")}
    told = folder / "stderr"
    with told.open("wb") as stderr:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "cxr_sr",
                "serve",
                "--config",
                config,
                "--role",
                "web",
                "--role",
                "worker",
            ],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (url := _told(told, r"Pages:\s+(\S+)/")):
            assert process.poll() is None, told.read_text()
            assert time.monotonic() < deadline, told.read_text()
            time.sleep(0.1)
        password = _told(told, r"log in as admin with the password (\S+)")
        database = Database(f"sqlite:///{folder / 'var' / 'cxr-sr.db'}")
        with database.write() as session:
            people.add_user(session, "ada", "radiologist", PASSWORD)
        database.close()
        yield Node(url, password)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def _told(file: Path, pattern: str) -> str:
    found = re.search(pattern, file.read_text("utf-8", errors="replace"))
    return found[1] if found else ""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_ARGS))
        yield browser
        browser.close()


@pytest.fixture
def trouble(node: Node) -> Iterator[Trouble]:
    """Fail the test when a page complained or asked another host for anything."""
    trouble = Trouble(node.url)
    yield trouble
    assert trouble.said == []
    assert trouble.strangers == []


Opener = Callable[..., BrowserContext]


@pytest.fixture
def open_browser(browser: Browser, node: Node, trouble: Trouble) -> Iterator[Opener]:
    """Return a function that opens a browser of its own: `width`, `theme`, `javascript`."""
    opened: list[BrowserContext] = []

    def open_(*, width: int = 1280, theme: str = "dark", javascript: bool = True) -> BrowserContext:
        context = browser.new_context(
            base_url=node.url,
            viewport={"width": width, "height": 844},
            color_scheme="dark" if theme == "dark" else "light",
            java_script_enabled=javascript,
            locale="en-GB",
        )
        context.set_default_timeout(20_000)
        context.on("page", trouble.watch)
        opened.append(context)
        return context

    yield open_
    for context in opened:
        context.close()


def log_in(page: Page, name: str = "ada", password: str = PASSWORD) -> None:
    """Log in by the form; ends on the first page."""
    page.goto("/login")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(lambda url: not url.endswith("/login"))


@pytest.fixture
def page(open_browser: Opener) -> Page:
    """Return a window of a radiologist who has logged in."""
    page = open_browser().new_page()
    log_in(page)
    return page


@pytest.fixture(scope="session")
def shown(
    browser: Browser, node: Node, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Shown]]:
    """Images that were enhanced by the node, by a short name."""
    folder = tmp_path_factory.mktemp("viewer")
    objects = {"ramp": ramp(), "inverted": inverted(), "tabled": tabled()}
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
    made = {name: Shown(deposit(page, path, token)) for name, path in files.items()}
    deadline = time.monotonic() + ENHANCED_SECONDS
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
