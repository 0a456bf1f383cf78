from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select

from config import Settings
from config.settings import WebSettings
from db import Database, people
from db.models import JobEvent, User, WebSession
from db.objects import ObjectStore
from tests.webui import jobs
from tests.webui.conftest import Person, Running, dicom
from webui import auth, server
from webui.api import events
from webui.api.events import Broadcaster
from webui.errors import Unavailable
from webui.services import KEY, Services


class Stream:
    """A browser's EventSource, as far as the tests need one."""

    def __init__(self, port: int, cookie: str, last: int | None = None) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        resume = f"Last-Event-ID: {last}\r\n" if last is not None else ""
        self.sock.sendall(
            f"GET /api/v1/events HTTP/1.1\r\nHost: t\r\n{resume}".encode()
            + f"Cookie: {auth.COOKIE}={cookie}\r\n\r\n".encode()
        )
        self.file = self.sock.makefile("rb")
        self.status = int(self.file.readline().split()[1])

    def read_until(self, wanted: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Events until `wanted` of them is true; what is no event is passed over."""
        found: list[dict[str, Any]] = []
        while not wanted(found):
            line = self.file.readline()
            assert line, "the stream ended"
            if line.startswith(b"data: ") and len(line) > 10:
                found.append(json.loads(line[6:]))
        return found

    def close(self) -> None:
        self.file.close()
        self.sock.close()


@pytest.fixture
def serving(run_server: Callable[..., Running]) -> Running:
    return run_server()


def _cookie(database: Database, name: str = "anna") -> str:
    with database.write() as session:
        user = session.scalars(select(User).where(User.name == name)).one()
        return people.open_session(session, user, hours=1, address=None)[0]


def _newest(database: Database) -> int:
    with database.read() as session:
        return session.scalar(select(func.max(JobEvent.id))) or 0


def _queued(number: int) -> Callable[[list[dict[str, Any]]], bool]:
    return lambda found: any(event["job_id"] == number and event["after"] == "queued" for event in found)


def test_a_listener_hears_of_each_change_of_a_job(
    serving: Running, anna: Person, database: Database, store: ObjectStore
) -> None:
    with closing(Stream(serving.port, _cookie(database))) as stream:
        assert stream.status == 200
        number = anna.upload(("a.dcm", dicom())).get_json()["jobs"][0]["id"]
        jobs.finish(database, store)
        found = stream.read_until(lambda found: any(event["after"] == "done" for event in found))
    assert [(e["job_id"], e["after"]) for e in found if e["kind"] == "state"] == [
        (number, "queued"), (number, "running"), (number, "done"),
    ]  # fmt: skip


def test_a_listener_that_comes_back_gets_what_it_missed(
    serving: Running, anna: Person, database: Database
) -> None:
    anna.upload(("a.dcm", dicom("1.2.1")))
    last = _newest(database)
    missed = anna.upload(("b.dcm", dicom("1.2.2"))).get_json()["jobs"][0]["id"]
    with closing(Stream(serving.port, _cookie(database), last)) as stream:
        found = stream.read_until(_queued(missed))
        assert last not in [event["id"] for event in found]
        later = anna.upload(("c.dcm", dicom("1.2.3"))).get_json()["jobs"][0]["id"]
        stream.read_until(_queued(later))


def test_one_who_missed_too_much_is_told_to_begin_anew(
    serving: Running, anna: Person, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "MAX_REPLAY", 3)
    anna.upload(*((f"{n}.dcm", dicom(f"1.2.{n}")) for n in range(1, 6)))
    with closing(Stream(serving.port, _cookie(database), 0)) as stream:
        while stream.file.readline() != b"event: reset\n":
            pass


def test_a_hundred_streams_are_held_while_pages_answer(
    settings: Settings, run_server: Callable[..., Running], anna: Person, database: Database
) -> None:
    serving = run_server(settings.model_copy(update={"web": WebSettings(port=0)}))
    cookie = _cookie(database)
    streams: list[Stream] = []
    try:
        while len(streams) < 100:
            streams.append(Stream(serving.port, cookie))
        assert {stream.status for stream in streams} == {200}
        slowest = max(_get(serving.port, "/api/v1/jobs", cookie) for _ in range(20))
        number = anna.upload(("a.dcm", dicom())).get_json()["jobs"][0]["id"]
        begun = time.monotonic()
        for stream in streams:
            stream.read_until(_queued(number))
        heard = time.monotonic() - begun
    finally:
        for stream in streams:
            stream.close()
    assert slowest < 2.0, f"a page took {slowest:.2f} s"
    assert heard < 5.0, f"the last listener heard after {heard:.2f} s"


def test_the_server_stops_in_time_with_streams_open(serving: Running, database: Database) -> None:
    with closing(Stream(serving.port, _cookie(database))) as stream:
        assert stream.status == 200
        serving.stop.set()
        serving.thread.join(timeout=15)
        assert not serving.thread.is_alive()


def test_a_stream_ends_soon_after_its_session_was_revoked(
    serving: Running, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.2)
    with closing(Stream(serving.port, _cookie(database))) as stream:
        assert stream.file.readline()
        with database.write() as session:
            for row in session.scalars(select(WebSession)):
                people.revoke_session(session, row)
        while stream.file.readline() != b"0\r\n":  # the last chunk
            pass


def test_a_listener_that_goes_away_is_soon_forgotten(
    app: Flask, settings: Settings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.1)
    stop = threading.Event()
    monkeypatch.setattr(server, "create_app", lambda *_args: app)
    with server.listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.serve, args=(settings, database, listener, stop))
        thread.start()
        broadcaster = app.extensions[KEY].broadcaster
        with closing(Stream(listener.getsockname()[1], _cookie(database))) as stream:
            assert stream.file.readline()
            assert broadcaster.open_streams == 1
        deadline = time.monotonic() + 5
        while broadcaster.open_streams and time.monotonic() < deadline:
            time.sleep(0.02)
        stop.set()
        thread.join()
    assert broadcaster.open_streams == 0


def test_asking_for_the_head_alone_opens_no_stream(anna: Person, here: Services) -> None:
    answer = anna.client.head("/api/v1/events")
    assert answer.status_code == 200
    assert here.broadcaster.open_streams == 0


def test_a_line_is_kept_open_by_comments(
    serving: Running, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.1)
    with closing(Stream(serving.port, _cookie(database))) as stream:
        while b"still here" not in (line := stream.file.readline()):
            assert line


@pytest.fixture
def broadcaster(database: Database) -> Iterator[Broadcaster]:
    made = Broadcaster(database, max_streams=2, poll_seconds=0.02)
    yield made
    made.close()


def test_there_are_no_more_streams_than_allowed(broadcaster: Broadcaster) -> None:
    first = broadcaster.subscribe()
    broadcaster.subscribe()
    with pytest.raises(Unavailable):
        broadcaster.subscribe()
    broadcaster.unsubscribe(first)
    broadcaster.subscribe()
    assert broadcaster.open_streams == 2


def test_a_slow_listener_is_let_go_and_holds_nobody_up(
    broadcaster: Broadcaster, anna: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BACKLOG", 3)
    slow, quick = broadcaster.subscribe(), broadcaster.subscribe()
    heard = 0
    for number in range(1, 8):
        anna.upload(("a.dcm", dicom(f"1.2.{number}")))
        heard += len(quick.take(5))
    assert heard == 7
    assert len(slow.take(1)) <= 3
    with pytest.raises(events.Closed):
        slow.take(1)


def test_an_event_says_nothing_of_the_patient(
    anna: Person, broadcaster: Broadcaster, database: Database, store: ObjectStore
) -> None:
    listener = broadcaster.subscribe()
    number = anna.upload(("Zzyzx.png", dicom()), PatientName=jobs.NAME).get_json()["jobs"][0]["id"]
    jobs.examine(database, store, number)
    jobs.finish(database, store)
    said = b""
    while b'"done"' not in said:
        said += b"".join(line for _number, line in listener.take(5))
    assert b"Zzyzx" not in said


def _get(port: int, path: str, cookie: str) -> float:
    begun = time.monotonic()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path, headers={"Cookie": f"{auth.COOKIE}={cookie}"})
        answer = connection.getresponse()
        assert answer.status == 200
        answer.read()
    return time.monotonic() - begun
