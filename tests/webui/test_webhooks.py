"""Webhooks from end to end: made by an administrator, called by the herald, heard by a real server."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from sqlalchemy import func, select, update

from db import Database, retention
from db.desk import Webhook, WebhookCall
from db.models import AuditEvent, JobEvent
from db.objects import ObjectStore
from db.types import utcnow
from pacs_node.carrier import PeerError
from pacs_node.webhooks import Herald, Letter, backoff, is_link_local, post, sign
from tests.webui import jobs
from tests.webui.conftest import Person, dicom

BASE = "https://enhance.example.org"


@dataclass
class Ear:
    """A server that hears calls and answers as it is told to, then with 204."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    condition: threading.Condition = field(default_factory=threading.Condition)

    def wait(self, number: int, seconds: float = 60) -> list[dict[str, Any]]:
        """The messages so far, once there are so many."""
        with self.condition:
            assert self.condition.wait_for(lambda: len(self.heard) >= number, seconds), len(self.heard)
        return [json.loads(body) for _headers, body in self.heard]


@pytest.fixture
def listen() -> Iterator[Callable[..., Ear]]:
    """Return a function that starts a server for calls."""
    servers: list[ThreadingHTTPServer] = []

    def start(*answers: int, hold: threading.Event | None = None) -> Ear:
        ear = Ear(answers=list(answers))

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if hold is not None:
                    hold.wait(timeout=60)
                with ear.condition:
                    status = ear.answers.pop(0) if ear.answers else 204
                    ear.heard.append((dict(self.headers), body))
                    ear.condition.notify_all()
                self.send_response(status)
                self.send_header("Location", f"{ear.url}/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        ear.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
        return ear

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def herald(database: Database) -> Iterator[Herald]:
    """One that tries again at once."""
    made = Herald(database, BASE, wait=lambda _attempts: timedelta(0))
    yield made
    made.stop(patience=30)


def make(root: Person, url: str, *states: str, name: str = "ris") -> dict[str, Any]:
    wanted = {"name": name, "url": url} | ({"states": list(states)} if states else {})
    answer = root.post("/api/v1/webhooks", json=wanted)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.get_json()
    return found


def run_until(herald: Herald, true: Callable[[], bool]) -> None:
    """Let the herald go its rounds, as the scheduler does."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        herald.run()
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")


def states(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(select(WebhookCall.state).order_by(WebhookCall.id)))


def end_two(anna: Person, database: Database, store: ObjectStore) -> tuple[int, int]:
    """A job that is done and one that failed."""
    anna.upload(("a.dcm", dicom("1.2.1")))
    done = jobs.finish(database, store)
    jobs.examine(database, store, done)
    anna.upload(("b.dcm", dicom("1.2.2")))
    return done, jobs.fail(database)


def test_an_address_hears_of_each_job_once_signed_and_without_patient_data(
    root: Person,
    anna: Person,
    database: Database,
    store: ObjectStore,
    listen: Callable[..., Ear],
    herald: Herald,
) -> None:
    ear = listen()
    made = make(root, ear.url)
    done, failed = end_two(anna, database, store)
    run_until(herald, lambda: states(database) == ["done", "done"])
    told = sorted(ear.wait(2), key=lambda message: int(message["event"]))
    assert [(one["job"], one["state"], one["reason_code"]) for one in told] == [
        (done, "done", None), (failed, "failed", "decode"),
    ]  # fmt: skip
    assert told[0]["href"] == f"{BASE}/api/v1/jobs/{done}"
    with database.read() as session:
        event = session.get_one(JobEvent, told[0]["event"])
        assert (event.job_id, event.after) == (done, "done")
    for headers, body in ear.heard:
        time_, _, digest = headers["X-Cxr-Sr-Signature"].partition(",v1=")
        at = time_.removeprefix("t=")
        assert abs(int(at) - time.time()) < 120
        expected = hmac.new(made["secret"].encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        assert digest == expected
        assert set(json.loads(body)) == {"event", "job", "state", "reason_code", "href", "at"}
        for word in (jobs.NAME, jobs.PATIENT_ID, jobs.ACCESSION, "Zzyzx"):
            assert word.encode() not in body
    herald.run()
    assert len(ear.heard) == 2


def test_what_fails_is_tried_again_until_it_is_taken(
    root: Person,
    anna: Person,
    database: Database,
    store: ObjectStore,
    listen: Callable[..., Ear],
    herald: Herald,
) -> None:
    ear = listen(500, 503, 302)
    hook = make(root, ear.url, "done")["id"]
    end_two(anna, database, store)
    run_until(herald, lambda: states(database) == ["done"])
    messages = ear.wait(4)
    assert len({message["event"] for message in messages}) == 1
    assert len(ear.heard) == 4, "a redirect was followed"
    (call,) = root.get(f"/api/v1/webhooks/{hook}/calls").get_json()["calls"]
    assert (call["attempts"], call["status_code"], call["state"]) == (4, 204, "done")
    assert call["ended_at"]


def test_an_attempt_that_failed_is_shown_with_its_reason_and_the_next_time(
    root: Person, anna: Person, database: Database, store: ObjectStore, listen: Callable[..., Ear]
) -> None:
    ear = listen(500)
    hook = make(root, ear.url)["id"]
    end_two(anna, database, store)
    herald = Herald(database, None, wait=lambda _attempts: timedelta(hours=1))
    run_until(herald, lambda: states(database).count("done") == 1)
    herald.stop(patience=30)
    calls = root.get(f"/api/v1/webhooks/{hook}/calls").get_json()["calls"]
    (waiting,) = [call for call in calls if call["state"] == "waiting"]
    assert waiting["message"] == "it answered HTTP 500 Internal Server Error"
    assert waiting["status_code"] == 500
    assert waiting["not_before"] > waiting["created_at"]
    assert all(message["href"].startswith("/api/v1/jobs/") for message in ear.wait(2))


def test_a_dead_and_a_silent_address_delay_no_other(
    root: Person, anna: Person, database: Database, store: ObjectStore, listen: Callable[..., Ear]
) -> None:
    hold = threading.Event()
    silent, well = listen(hold=hold), listen()
    make(root, "http://127.0.0.1:9/", name="a dead one")
    make(root, silent.url, name="a silent one")
    make(root, well.url, name="well")
    end_two(anna, database, store)
    herald = Herald(database, BASE, wait=lambda _attempts: timedelta(hours=1))
    try:
        run_until(herald, lambda: len(well.heard) == 2)
        assert silent.heard == []
        with database.read() as session:
            dead = list(
                session.scalars(
                    select(WebhookCall).join(Webhook, Webhook.id == WebhookCall.webhook_id)
                    .where(Webhook.name == "a dead one").order_by(WebhookCall.id)
                )
            )  # fmt: skip
        run_until(herald, lambda: _put_off(database) == 2)
        assert len(dead) == 2
    finally:
        hold.set()
        herald.stop(patience=30)


def _put_off(database: Database) -> int:
    """Calls of the dead address that wait for a later time: one was tried, the other need not be."""
    with database.read() as session:
        rows = session.scalars(
            select(WebhookCall).join(Webhook, Webhook.id == WebhookCall.webhook_id).where(
                Webhook.name == "a dead one", WebhookCall.not_before > utcnow()
            )
        ).all()  # fmt: skip
    assert sorted(row.attempts for row in rows) in ([], [0, 1]), "each was tried although nobody was there"
    return len(rows)


def test_a_call_that_nobody_took_for_a_day_is_given_up(
    root: Person, anna: Person, database: Database, store: ObjectStore, herald: Herald
) -> None:
    make(root, "http://127.0.0.1:9/")
    end_two(anna, database, store)
    run_until(herald, lambda: len(states(database)) == 2)
    with database.write() as session:
        session.execute(
            update(WebhookCall).values(
                created_at=utcnow() - timedelta(hours=25), not_before=utcnow() + timedelta(hours=1)
            )
        )
    run_until(herald, lambda: states(database) == ["failed", "failed"])


def test_a_call_cut_off_by_a_crash_is_made_by_the_next_herald(
    root: Person,
    anna: Person,
    database: Database,
    store: ObjectStore,
    listen: Callable[..., Ear],
    herald: Herald,
) -> None:
    ear = listen()
    make(root, ear.url)
    end_two(anna, database, store)
    lost = Herald(database, BASE)
    lost._note()  # it died between noting and calling
    assert states(database) == ["waiting", "waiting"]
    run_until(herald, lambda: states(database) == ["done", "done"])
    assert len(ear.wait(2)) == 2


def test_events_are_noted_once_even_when_they_are_read_again(
    root: Person, anna: Person, database: Database, store: ObjectStore
) -> None:
    make(root, "http://127.0.0.1:9/")
    end_two(anna, database, store)
    Herald(database, BASE)._note()
    with database.write() as session:
        from db.exchange import Bookmark

        session.get_one(Bookmark, "webhooks").position = 0
    Herald(database, BASE)._note()
    with database.read() as session:
        assert session.scalar(select(func.count(WebhookCall.id))) == 2


def test_a_new_address_hears_nothing_of_the_past_and_one_switched_off_nothing_at_all(
    root: Person,
    anna: Person,
    database: Database,
    store: ObjectStore,
    listen: Callable[..., Ear],
    herald: Herald,
) -> None:
    end_two(anna, database, store)
    ear = listen()
    hook = make(root, ear.url)["id"]
    herald.run()
    assert root.post(f"/api/v1/webhooks/{hook}/disable").get_json()["disabled_at"]
    anna.upload(("c.dcm", dicom("1.2.3")))
    jobs.fail(database)
    herald.run()
    assert states(database) == []
    assert root.post(f"/api/v1/webhooks/{hook}/test").status_code == 409
    assert root.post(f"/api/v1/webhooks/{hook}/enable").get_json()["disabled_at"] is None
    anna.upload(("d.dcm", dicom("1.2.4")))
    number = jobs.fail(database)
    run_until(herald, lambda: states(database) == ["done"])
    assert [message["job"] for message in ear.wait(1)] == [number]


def test_a_test_call_tells_of_no_job(
    root: Person, database: Database, listen: Callable[..., Ear], herald: Herald
) -> None:
    ear = listen()
    hook = make(root, ear.url, "done")["id"]
    asked = root.post(f"/api/v1/webhooks/{hook}/test")
    assert (asked.status_code, asked.get_json()["told"]) == (202, "test")
    root.post(f"/api/v1/webhooks/{hook}/test")
    run_until(herald, lambda: states(database) == ["done", "done"])
    for message in ear.wait(2):
        assert (message["event"], message["job"], message["state"], message["href"]) == (
            None,
            None,
            "test",
            None,
        )


def test_the_secret_is_shown_once_and_never_told_elsewhere(root: Person, database: Database) -> None:
    made = make(root, "https://ris.example.org/hook?source=cxr")
    assert made["secret"].startswith("whsec_")
    shown = root.get("/api/v1/webhooks").text + root.get(f"/api/v1/webhooks/{made['id']}").text
    assert made["secret"] not in shown
    with database.read() as session:
        entry = session.scalars(select(AuditEvent).where(AuditEvent.action == "webhook.create")).one()
    assert (entry.actor, entry.object_id) == ("root", str(made["id"]))
    assert made["secret"] not in json.dumps(entry.detail)


def test_removing_an_address_forgets_its_calls(root: Person, database: Database, herald: Herald) -> None:
    hook = make(root, "http://127.0.0.1:9/")["id"]
    root.post(f"/api/v1/webhooks/{hook}/test")
    headers = {"X-CSRF-Token": root.csrf}
    assert root.client.delete(f"/api/v1/webhooks/{hook}", headers=headers).status_code == 204
    assert root.client.delete(f"/api/v1/webhooks/{hook}", headers=headers).status_code == 404
    assert states(database) == []
    herald.run()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://ris.example.org/",
        "file:///etc/passwd",
        "ris.example.org",
        "http://",
        "https://user:secret@ris.example.org/",
        "https://ris.example.org/#there",
        "https://ris.example.org:99999/",
        "https://ris.example.org/a b",
        "https://ris.example.org/\r\nHost: x",
    ],
)
def test_addresses_that_cannot_or_must_not_be_called_are_refused(root: Person, url: str) -> None:
    refused = root.post("/api/v1/webhooks", json={"name": "x", "url": url})
    assert refused.status_code == 422
    assert [item["field"] for item in refused.get_json()["errors"]] == ["url"]


def test_names_are_unique_and_states_are_those_that_end_a_job(root: Person) -> None:
    make(root, "https://ris.example.org/")
    again = root.post("/api/v1/webhooks", json={"name": "ris", "url": "https://ris.example.org/"})
    assert again.get_json()["errors"][0]["field"] == "name"
    wrong = {"name": "y", "url": "https://ris.example.org/", "states": ["running"]}
    assert root.post("/api/v1/webhooks", json=wrong).status_code == 422
    assert root.post("/api/v1/webhooks", json=wrong | {"states": []}).status_code == 422


def test_webhooks_are_for_administrators(anna: Person) -> None:
    assert anna.get("/api/v1/webhooks").status_code == 403
    assert anna.post("/api/v1/webhooks", json={"name": "x", "url": "http://a/"}).status_code == 403


def test_calls_are_listed_by_pages(root: Person, database: Database) -> None:
    hook = make(root, "http://127.0.0.1:9/")["id"]
    for _ in range(5):
        root.post(f"/api/v1/webhooks/{hook}/test")
    first = root.get(f"/api/v1/webhooks/{hook}/calls?limit=3").get_json()
    rest = root.get(f"/api/v1/webhooks/{hook}/calls?limit=3&cursor={first['next']}").get_json()
    assert [len(page["calls"]) for page in (first, rest)] == [3, 2]
    assert rest["next"] is None


def test_retention_takes_ended_calls_after_a_month_and_no_waiting_one(
    root: Person, database: Database, store: ObjectStore
) -> None:
    hook = make(root, "http://127.0.0.1:9/")["id"]
    for _ in range(2):
        root.post(f"/api/v1/webhooks/{hook}/test")
    long_ago = utcnow() - timedelta(days=31)
    with database.write() as session:
        session.execute(update(WebhookCall).values(created_at=long_ago))
        first = session.scalar(select(func.min(WebhookCall.id)))
        session.execute(
            update(WebhookCall).where(WebhookCall.id == first).values(ended_at=long_ago, state="failed")
        )
    year = utcnow() - timedelta(days=365)
    retention.purge(database, store, sources_before=year, results_before=year, events_before=year)
    assert states(database) == ["waiting"]


def test_waiting_times_double_up_to_an_hour() -> None:
    seconds = [backoff(number).total_seconds() for number in (1, 2, 3, 30)]
    for found, expected in zip(seconds, (10, 20, 40, 3600), strict=True):
        assert 0.9 * expected <= found <= 1.1 * expected


def test_a_signature_is_that_of_the_documentation() -> None:
    assert sign("whsec_example", b'{"event":815}', 1774274400).startswith("t=1774274400,v1=")


def test_the_page_shows_a_new_secret_once_and_each_call_with_its_outcome(
    root: Person,
    anna: Person,
    database: Database,
    store: ObjectStore,
    listen: Callable[..., Ear],
    herald: Herald,
) -> None:
    ear = listen(500)
    form = {"csrf_token": root.csrf, "name": "ris", "url": ear.url, "states": ["done", "failed"]}
    made = root.post("/admin/webhooks", data=form)
    assert made.status_code == 200
    with database.read() as session:
        hook = session.scalars(select(Webhook)).one()
    assert hook.secret in made.text
    assert hook.secret not in root.get("/admin/webhooks").text
    number, _failed = end_two(anna, database, store)
    run_until(herald, lambda: states(database) == ["done", "done"])
    page = root.get(f"/admin/webhooks/{hook.id}").text
    assert hook.secret not in page
    assert f'href="/jobs/{number}"' in page
    assert "HTTP 204" in page
    for action, location in (
        ("test", f"/admin/webhooks/{hook.id}"),
        ("disable", f"/admin/webhooks/{hook.id}"),
        ("enable", f"/admin/webhooks/{hook.id}"),
        ("remove", "/admin/webhooks"),
    ):
        answer = root.post(f"/admin/webhooks/{hook.id}/{action}", data={"csrf_token": root.csrf})
        assert (answer.status_code, answer.headers["Location"]) == (303, location)
    assert root.get(f"/admin/webhooks/{hook.id}").status_code == 404


def test_the_page_says_what_is_wrong_and_keeps_what_was_typed(root: Person) -> None:
    form = {
        "csrf_token": root.csrf,
        "name": "archive <b>",
        "url": "ftp://ris.example.org",
        "states": ["held"],
    }
    answer = root.post("/admin/webhooks", data=form)
    assert answer.status_code == 422
    assert "Expected http://HOST/... or https://HOST/..." in answer.text
    assert 'value="ftp://ris.example.org"' in answer.text
    assert "<b>" not in answer.text
    assert answer.text.count(" checked") == 1


def test_the_page_is_for_administrators(anna: Person) -> None:
    assert anna.get("/admin/webhooks").status_code == 403


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://2852039166/",
        "http://0xa9fea9fe:8080/",
        "http://169.254.1/",
        "https://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
    ],
)
def test_where_clouds_keep_their_secrets_nobody_is_called(url: str) -> None:
    assert is_link_local(url)
    call = WebhookCall(id=1, webhook_id=1, job_state="test", attempts=0)
    with requests.Session() as http, pytest.raises(PeerError, match="link-local"):
        post(http, Letter(call, url, "secret", b"{}"))


def test_other_addresses_of_the_house_are_called() -> None:
    assert not any(
        map(is_link_local, ("http://127.0.0.1:1/", "http://10.0.0.1/", "http://[::1]/", "http:///"))
    )
