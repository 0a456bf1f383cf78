from __future__ import annotations

import threading
import time

import pytest

from db import Database, commands, presence
from db.models import PeerStatus
from db.objects import ObjectStore
from tests.webui import jobs
from tests.webui.conftest import PACS, Person, dicom
from webui.api import system


def test_the_system_tells_of_roles_destinations_disk_and_model(
    anna: Person, database: Database, store: ObjectStore
) -> None:
    anna.upload(("a.dcm", dicom()))
    jobs.finish(database, store, to=(PACS,))
    with database.write() as session:
        session.add(PeerStatus(name="pacs", reachable=False, seconds=0.1, message="refused"))
    worker = {"model": "srgan", "version": "1", "device": "cpu"}
    with (
        presence.Presence(database, "worker", worker),
        presence.Presence(database, "receiver", {"port": 11112}),
    ):
        found = anna.get("/api/v1/system").get_json()
    assert [role["role"] for role in found["roles"]] == ["receiver", "worker"]
    assert found["missing"] == ["sender", "web", "scheduler"]
    (pacs,) = found["destinations"]
    assert (pacs["name"], pacs["reachable"], pacs["message"], pacs["open_deliveries"]) == (
        "pacs",
        False,
        "refused",
        1,
    )
    assert found["disk"]["accepts"]
    assert found["enhancer"] == {
        "model": "srgan",
        "version": "1",
        "device": "cpu",
        "running": True,
        "problem": None,
    }
    assert found["jobs"]["delivering"] == 1
    assert found["dicom_port"] == 11112


def test_an_echo_is_done_by_the_sender_and_its_answer_shown(anna: Person, database: Database) -> None:
    def sender() -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with database.write() as session:
                command = commands.take(session, "sender")
                if command is not None:
                    assert (command.kind, command.arguments) == ("echo", {"destination": "pacs"})
                    commands.answer(session, command.id, {"ok": True, "seconds": 0.01, "message": "Success"})
                    return
            time.sleep(0.02)

    with presence.Presence(database, "sender"):
        thread = threading.Thread(target=sender)
        thread.start()
        answer = anna.post("/api/v1/destinations/pacs/echo")
        thread.join()
    assert answer.status_code == 200
    assert answer.get_json() == {"destination": "pacs", "ok": True, "seconds": 0.01, "message": "Success"}


def test_an_echo_without_a_sender_says_so(anna: Person) -> None:
    answer = anna.post("/api/v1/destinations/pacs/echo")
    assert answer.status_code == 503
    assert answer.get_json()["type"] == "urn:cxr-sr:problem:role-missing"


def test_an_echo_that_nobody_answers_ends(
    anna: Person, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system, "ECHO_SECONDS", 0.2)
    with presence.Presence(database, "sender"):
        assert anna.post("/api/v1/destinations/pacs/echo").status_code == 504


def test_only_configured_destinations_are_echoed(anna: Person) -> None:
    assert anna.post("/api/v1/destinations/elsewhere/echo").status_code == 404
