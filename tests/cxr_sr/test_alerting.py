"""Alerts told to a real mail server and a real web server: once, again, over; never with what is secret."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from click.testing import CliRunner
from sqlalchemy import update
from structlog.testing import capture_logs

from config import Settings
from config.network import Destination
from config.settings import AlertSettings, StorageSettings, WebSettings
from cxr_sr.alerting import Alerting, called, send, without_secrets
from cxr_sr.cli import cli
from cxr_sr.doctor import check_alerts
from db import alerts
from db.models import PeerStatus
from db.types import utcnow
from tests.cxr_sr.hearers import Hearer, mail_server, web_server

PACS = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
SECRETS = ("geheim-1", "robot", "hidden-path")


@pytest.fixture
def web() -> Iterator[Hearer]:
    with web_server() as hearer:
        yield hearer


@pytest.fixture
def mail() -> Iterator[Hearer]:
    with mail_server() as hearer:
        yield hearer


@pytest.fixture
def alerting(data_dir, database, store) -> Iterator[Callable[..., Alerting]]:
    """Return a function that makes an Alerting that tells these addresses and tries again at once."""
    made: list[Alerting] = []

    def make(*urls: str, **more: object) -> Alerting:
        settings = Settings(
            data_dir=data_dir,
            destinations=(PACS,),
            storage=StorageSettings(reserve_bytes=0),
            web=WebSettings(public_url="https://node.hospital.example/"),
            alerts=AlertSettings(urls=urls, unreachable_minutes=0.001, **more),
        )
        made.append(Alerting(settings, database, store, first_wait=0.05))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def peer(database, *, reachable: bool) -> None:
    with database.write() as session:
        session.merge(PeerStatus(name="pacs", reachable=reachable, changed_at=utcnow(), message="refused"))
        if not reachable:
            session.execute(update(PeerStatus).values(changed_at=utcnow().replace(year=2020)))


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def row(database):
    with database.read() as session:
        (alert,) = alerts.past(session)
        return alert


def test_an_alert_goes_by_mail_and_by_webhook_once_and_so_does_its_end(alerting, database, web, mail) -> None:
    node = alerting(web.url, mail.url)
    peer(database, reachable=False)
    node.check()
    until(lambda: row(database).told_at)
    node.check()
    peer(database, reachable=True)
    node.check()
    assert row(database).cleared_at is None  # over only when it was over twice
    node.check()
    until(lambda: len(web.heard) == len(mail.heard) == 2)
    for hearer in (web, mail):
        (title, text), (over, last) = hearer.heard
        assert title.startswith("cxr-sr: Destination pacs has not answered since 2020-")
        assert "has not answered since 2020-" in text
        assert "https://node.hospital.example/dashboard" in text
        assert over.startswith("cxr-sr: Over: ")
        assert "Over: Destination pacs" in last
    assert row(database).cleared_at is not None
    assert row(database).trouble is None


def test_what_comes_and_goes_is_not_told_each_time(alerting, database, web) -> None:
    node = alerting(web.url)
    for reachable in (False, True, False, True, False):
        peer(database, reachable=reachable)
        node.check()
    until(lambda: row(database).told_at)
    assert len(web.heard) == 1


def test_what_stands_is_told_again_after_its_time(alerting, database, web) -> None:
    node = alerting(web.url, repeat_hours=1e-6)
    peer(database, reachable=False)
    node.check()
    until(lambda: row(database).told_at)
    time.sleep(0.01)
    node.check()
    until(lambda: len(web.heard) == 2)
    assert web.heard[1][1].startswith("Still: Destination pacs")


def test_an_address_that_fails_is_shown_tried_again_and_keeps_the_other_no_longer(
    alerting, database, web, mail
) -> None:
    web.refuses = True
    node = alerting(web.url, mail.url)
    peer(database, reachable=False)
    with capture_logs() as logs:
        node.check()
        until(lambda: mail.heard and row(database).trouble)
        for _ in range(3):
            node.check()
        found = row(database)
        assert found.told_at is None
        assert found.trouble.startswith("Address 1 (JSON) was not told: Failed to send JSON POST")
        web.refuses = False
        until(lambda: row(database).told_at)
    assert row(database).trouble is None
    assert (len(web.heard), len(mail.heard)) == (1, 1)
    written = f"{logs} {found.trouble}"
    assert [secret for secret in SECRETS if secret in written] == []


def test_an_address_that_hangs_keeps_nobody_waiting(alerting, database, web, mail) -> None:
    web.hangs = threading.Event()
    node = alerting(web.url, mail.url)
    peer(database, reachable=False)
    try:
        node.check()
        until(lambda: mail.heard)
        node.check()  # would wait here if it were to
        assert web.heard == []
    finally:
        web.hangs.set()


def test_without_addresses_the_dashboard_alone_tells(alerting, database) -> None:
    node = alerting()
    peer(database, reachable=False)
    node.check()
    assert row(database).told_at is not None


def test_a_scheduler_that_leads_again_tells_again(alerting, database, web) -> None:
    node = alerting(web.url)
    peer(database, reachable=False)
    node.check()
    until(lambda: row(database).told_at)
    node.stop()
    peer(database, reachable=True)
    node.check()
    node.check()
    until(lambda: len(web.heard) == 2)


def test_a_failure_says_why_without_what_the_address_holds(free_port) -> None:
    told = send(f"json://robot:geheim-1@127.0.0.1:{free_port()}/hidden-path", "title", "body")
    assert not told.ok
    assert "Connection refused" in told.why
    assert [secret for secret in SECRETS if secret in told.why] == []


@pytest.mark.parametrize(
    ("url", "said", "shown"),
    [
        ("mailtos://ann:pass%21word@mail.example", "login ann pass!word at mail.example", "login *** *** at"),
        ("slack://TokenA/TokenB", "posting to TokenA/TokenB", "posting to ***/***"),
        ("jsons://host.example/a-path?x=secret1", "host.example/a-path secret1", "host.example/*** ***"),
    ],
)
def test_nothing_of_an_address_but_its_host_is_repeated(url: str, said: str, shown: str) -> None:
    assert without_secrets(said, url).startswith(shown)


def test_an_address_is_called_by_its_number_and_service() -> None:
    assert called(2, "jsons://robot:geheim-1@host.example/x") == "2 (JSON)"


class TestCommand:
    @pytest.fixture
    def run(self, tmp_path):
        def run(*urls: str):
            file = tmp_path / "node.toml"
            listed = ", ".join(f'"{url}"' for url in urls)
            file.write_text(f'data_dir = "{tmp_path / "var"}"\n[alerts]\nurls = [{listed}]\n', "utf-8")
            return CliRunner().invoke(cli, ["alerts", "test", "--config", str(file)])

        return run

    def test_a_test_says_of_each_address_what_became_of_it(self, run, web, mail) -> None:
        mail.refuses = True
        result = run(web.url, mail.url)
        assert result.exit_code == 1
        first, second, *_ = result.output.splitlines()
        assert first == "told    1 (JSON)"
        assert second.startswith("FAILED  2 (E-Mail): ")
        assert web.heard == [("cxr-sr: test", "This is a test: alerts of this node arrive here.")]

    def test_a_test_that_arrives_everywhere_is_a_success(self, run, web) -> None:
        assert run(web.url).exit_code == 0

    def test_without_addresses_it_says_where_to_write_them(self, run) -> None:
        result = run()
        assert result.exit_code == 1
        assert "alerts.urls names nobody" in result.output


def test_the_doctor_names_the_addresses_and_tells_nobody(web) -> None:
    said = check_alerts(Settings(alerts=AlertSettings(urls=(web.url,))))
    assert said == "told to 1 (JSON); `cxr-sr alerts test` sends them a message"
    assert web.heard == []
