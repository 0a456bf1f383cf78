"""A person who has no password here: in by the provider's button, out there as well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from config.settings import WebSettings
from config.signin import OidcSettings
from db.models import RoleInstance
from tests.browser.axe import violations
from tests.browser.conftest import Trouble
from tests.interop.conftest import Roles
from tests.pacs_node.nodes import eventually, make_database, make_settings
from tests.peers import missing
from tests.webui.providers import CLIENT, SECRET, OwnProvider
from webui import assets, server

pytestmark = pytest.mark.peer("chromium")


@dataclass
class Clinic:
    """A node, and the provider on another site that it trusts."""

    url: str
    provider: OwnProvider


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    if not assets.files():
        missing("the front end is not built (make build-web)")
    provider = OwnProvider(host="localhost")
    oidc = OidcSettings(
        issuer=provider.issuer,
        client_id=CLIENT,
        client_secret=SECRET,
        radiologists=("readers",),
        label="Clinic",
    )
    settings = make_settings(tmp_path / "node").model_copy(update={"web": WebSettings(port=0, oidc=oidc)})
    database = make_database(settings)

    def port() -> int | None:
        with database.read() as session:
            return next((int(row.info["port"]) for row in session.query(RoleInstance)), None)

    try:
        with Roles(settings, server.run):
            assert eventually(port, 60)
            yield Clinic(f"http://127.0.0.1:{port()}", provider)
    finally:
        provider.close()
        database.close()


def test_in_by_the_button_and_out_at_the_provider_too(clinic: Clinic, browser: Browser) -> None:
    context = browser.new_context(base_url=clinic.url, locale="en-GB")
    context.set_default_timeout(60_000)
    trouble = Trouble(clinic.url)
    page = context.new_page()
    trouble.watch(page)
    try:
        page.goto("/login?next=/system")
        assert violations(page) == []
        page.get_by_role("link", name="Clinic").click()
        page.wait_for_url("**/system")
        expect(page.get_by_role("link", name="oona")).to_be_visible()
        logout = f"{clinic.provider.issuer}/logout?*"
        page.route(logout, lambda route: route.abort("aborted"))
        with page.expect_event("requestfailed"):  # the page leads on by itself
            page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", name="Logged out")).to_be_visible()
        assert violations(page) == []
        page.unroute(logout)
        page.get_by_role("link", name="Log out there too").click()
        page.wait_for_url("**/login")
        assert clinic.provider.asked[-1] == "/logout"
        assert page.goto("/system").url.endswith("/login?next=%2Fsystem")
        assert trouble.said == []
        assert all(asked.startswith(clinic.provider.issuer) for asked in trouble.strangers)
    finally:
        context.close()
