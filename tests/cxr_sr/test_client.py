"""The Python client against a real server, as programs use it."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from argon2 import PasswordHasher

from config import Settings
from config.settings import WebSettings
from cxr_sr import client
from cxr_sr.client import Client, Problem, verify_signature
from db import Database, people, presence
from db.models import Job
from db.states import JobState
from pacs_node.webhooks import sign
from tests.webui import jobs
from tests.webui.conftest import archive, dicom, png
from webui import server


@pytest.fixture
def settings(data_dir: Path) -> Settings:
    return Settings(data_dir=data_dir, web=WebSettings(port=0, max_upload_bytes=8 << 20))


@pytest.fixture
def node(settings: Settings, database: Database) -> Iterator[str]:
    """Address of the web role, running."""
    stop = threading.Event()
    thread = threading.Thread(target=server.run, args=(settings, stop), daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    port = None
    while port is None and time.monotonic() < deadline:
        with database.read() as session:
            port = next((row.info["port"] for row in presence.alive(session) if row.role == "web"), None)
        time.sleep(0.02)
    assert port, "the server did not come up"
    yield f"http://127.0.0.1:{port}"
    stop.set()
    thread.join(timeout=20)
    assert not thread.is_alive()


@pytest.fixture
def token(database: Database, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(people, "_hasher", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
    with database.write() as session:
        user = people.add_user(session, "robot", "admin", "correct horse battery")
        return people.create_token(session, user, "tests")[0]


@pytest.fixture
def program(node: str, token: str) -> Iterator[Client]:
    made = Client(node, token)
    yield made
    made.http.close()


def test_files_go_in_and_results_come_out(
    program: Client, database: Database, store: Any, tmp_path: Path
) -> None:
    file = tmp_path / "chest.dcm"
    file.write_bytes(dicom("1.2.1", pixels=bytes(2 << 20)))
    sent = program.upload(file, ("b.png", png()), ("notes.txt", b"text"), scale="2", priority="stat")
    assert [one.state for one in sent.jobs] == ["queued", "queued"]
    assert [(one.file, one.kind) for one in sent.refused] == [("notes.txt", "unsupported-content")]
    assert not sent.replayed
    first, second = (one.id for one in sent.jobs)
    assert jobs.finish(database, store) == first
    done = program.wait(first, timeout=60)
    assert done.state == "done"
    assert done.raw["result"]["rows"] == 16
    got = program.download(first, tmp_path / "result.dcm")
    assert got.read_bytes() == dicom(f"1.8.{first}.1")
    assert program.download(first, tmp_path / "result.png", "result.png").read_bytes()[:4] == b"\x89PNG"
    assert [path.name for path in tmp_path.glob(".*.part")] == []
    assert {job.id for job in program.jobs(state="queued")} == {second}


def test_an_archive_by_name_and_bytes_with_words_about_the_patient(
    program: Client, database: Database
) -> None:
    sent = program.upload(
        ("both.zip", archive({"a.png": png(1), "b.png": png(2)})), demographics={"PatientID": "EX-1"}
    )
    assert len(sent.jobs) == 2
    with database.read() as session:
        job = session.get_one(Job, sent.jobs[0].id)
        assert job.source.demographics["PatientID"] == "EX-1"


def test_the_same_key_makes_the_same_jobs(program: Client) -> None:
    first = program.upload(("a.dcm", dicom("1.2.1")), key="nightly-1")
    again = program.upload(("a.dcm", dicom("1.2.1")), key="nightly-1")
    assert (first.jobs, first.replayed, again.replayed) == (again.jobs, False, True)
    with pytest.raises(Problem) as problem:
        program.upload(("b.dcm", dicom("1.2.2")), key="nightly-1")
    assert (problem.value.status, problem.value.kind) == (422, "key-reused")


def test_problems_are_typed(program: Client, node: str) -> None:
    with pytest.raises(Problem) as missing:
        program.job(999_999)
    assert (missing.value.status, missing.value.kind) == (404, "not-found")
    assert missing.value.detail == "There is no such job."
    with pytest.raises(Problem) as stranger:
        Client(node, "cxrsr_nobody").job(1)
    assert stranger.value.kind == "login-required"
    with pytest.raises(Problem) as wrong:
        program.upload(("a.txt", b"text"))
    assert wrong.value.body["refused"][0]["file"] == "a.txt"


def test_jobs_are_steered(program: Client, database: Database, store: Any) -> None:
    ids = [program.upload((f"{n}.dcm", dicom(f"1.2.{n}"))).jobs[0].id for n in range(1, 5)]
    assert program.prioritise(ids[3], "stat").raw["priority"] == "stat"
    assert program.cancel(ids[3]).state == "cancelled"
    assert program.retry(ids[3]).state == "queued"
    done, refused = program.bulk("cancel", ids[2:])
    assert (sorted(done), refused) == (ids[2:], {})
    done, refused = program.bulk("retry", ids)
    assert sorted(done) == ids[2:]
    assert sorted(refused) == ids[:2]
    program.bulk("cancel", matching={"state": ["queued"]})
    assert {job.state for job in program.jobs()} == {"cancelled"}
    program.retry(ids[0])
    assert jobs.finish(database, store, release="review") == ids[0]
    assert program.release(ids[0]).state == "done"
    assert program.retract(ids[0], "It is a test.", "safety").state == "retracted"
    with pytest.raises(Problem) as late:
        program.release(ids[0])
    assert late.value.kind == "state"


def test_pages_are_followed_to_the_end(program: Client) -> None:
    made = [program.upload((f"{n}.dcm", dicom(f"1.2.{n}"))).jobs[0].id for n in range(1, 6)]
    assert [job.id for job in program.jobs(limit=2)] == made[::-1]
    assert [job.id for job in program.search(limit=2, state=["queued"])] == made[::-1]
    assert list(program.jobs(state="done")) == []


def test_events_are_heard_as_they_come_and_after_a_break(
    program: Client, node: str, token: str, database: Database, store: Any
) -> None:
    number = program.upload(("a.dcm", dicom("1.2.1"))).jobs[0].id
    heard: list[client.Event] = []
    listener = Client(node, token, timeout=60)

    def listen() -> None:
        for event in listener.events(after=None):
            heard.append(event)
            if event.after == "done":
                return

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not _streams(program) and time.monotonic() < deadline:
        time.sleep(0.05)
    jobs.finish(database, store)
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert heard[-1].job == number
    assert (heard[-1].kind, heard[-1].after) == ("state", "done")
    for event in listener.events(after=heard[-1].id - 1):  # young ones before it may come again
        if event.id == heard[-1].id:
            break
    listener.http.close()


def _streams(program: Client) -> bool:
    return "cxr_sr_event_streams 1.0" in requests.get(f"{program.url}/metrics", timeout=30).text


def test_waiting_ends(program: Client) -> None:
    number = program.upload(("a.dcm", dicom("1.2.1"))).jobs[0].id
    with pytest.raises(TimeoutError, match="still queued"):
        program.wait(number, timeout=0.1)


def test_a_download_that_is_refused_leaves_no_file(program: Client, tmp_path: Path) -> None:
    number = program.upload(("a.dcm", dicom("1.2.1"))).jobs[0].id
    with pytest.raises(Problem) as problem:
        program.download(number, tmp_path / "result.dcm")
    assert problem.value.kind == "not-yet"
    assert [path.name for path in tmp_path.iterdir() if path.name != "var"] == []


def test_administrators_add_webhooks_and_look_at_the_node(program: Client) -> None:
    made = program.add_webhook("ris", "https://ris.example.org/hook", "done", "held")
    assert made["secret"].startswith("whsec_")
    assert program.call("GET", "/api/v1/webhooks")["webhooks"][0]["states"] == ["held", "done"]
    assert program.call("DELETE", f"/api/v1/webhooks/{made['id']}") == {}
    assert "queued" in program.dashboard()["jobs"]


def test_a_signature_is_checked_with_its_secret_and_its_time() -> None:
    now, body = int(time.time()), b'{"event":815}'
    assert verify_signature("whsec_a", sign("whsec_a", body, now), body)
    assert not verify_signature("whsec_b", sign("whsec_a", body, now), body)
    assert not verify_signature("whsec_a", sign("whsec_a", body, now), body + b" ")
    assert not verify_signature("whsec_a", sign("whsec_a", body, now - 3600), body)
    assert not verify_signature("whsec_a", "t=,v1=", body)
    assert not verify_signature("whsec_a", "", body)
    assert not verify_signature("whsec_a", "t=1,v1=ü", body)


@pytest.fixture
def flaky(node: str) -> Iterator[Callable[..., str]]:
    """Return a function that starts a way to the node on which the first requests end as it says."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(*ends: str) -> str:
        left = list(ends)

        class Way(http.server.BaseHTTPRequestHandler):
            def _pass(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                end = left.pop(0) if left else ""
                if end == "before":
                    self.connection.close()
                    return
                if end.isdigit():
                    self.send_response(int(end))
                    self.send_header("Retry-After", "1")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                kept = {
                    name: self.headers[name]
                    for name in self.headers
                    if name.lower() not in {"host", "connection"}
                }
                said = requests.request(self.command, node + self.path, data=body, headers=kept, timeout=30)
                if end == "after":  # it was done, and nobody hears of it
                    self.connection.close()
                    return
                self.send_response(said.status_code)
                for name in ("Content-Type", "Idempotent-Replayed"):
                    if name in said.headers:
                        self.send_header(name, said.headers[name])
                self.send_header("Content-Length", str(len(said.content)))
                self.end_headers()
                self.wfile.write(said.content)

            def do_GET(self) -> None:
                self._pass()

            def do_POST(self) -> None:
                self._pass()

            def log_message(self, *_args: object) -> None:
                pass

        made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Way)
        made.daemon_threads = True
        servers.append(made)
        threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return f"http://127.0.0.1:{made.server_address[1]}"

    yield start
    for made in servers:
        made.shutdown()
        made.server_close()


def _number_of_jobs(database: Database) -> int:
    with database.read() as session:
        return int(session.query(Job).count())


def test_an_upload_whose_answer_was_lost_is_sent_again_and_done_once(
    flaky: Callable[..., str], token: str, database: Database, tmp_path: Path
) -> None:
    file = tmp_path / "a.dcm"
    file.write_bytes(dicom("1.2.1", pixels=bytes(600_000)))
    with_breaks = Client(flaky("before", "after", "503", "429"), token)
    sent = with_breaks.upload(file)
    assert sent.replayed
    assert len(sent.jobs) == 1
    assert _number_of_jobs(database) == 1
    with_breaks.http.close()


def test_a_change_that_may_have_been_made_is_not_sent_again(
    flaky: Callable[..., str], token: str, program: Client, database: Database
) -> None:
    number = program.upload(("a.dcm", dicom("1.2.1"))).jobs[0].id
    broken = Client(flaky("after"), token)
    with pytest.raises(requests.ConnectionError):
        broken.cancel(number)
    with database.read() as session:
        assert session.get_one(Job, number).state == JobState.CANCELLED
    broken.http.close()


def test_the_client_stays_small() -> None:
    assert len(Path(client.__file__).read_text().splitlines()) < 300
