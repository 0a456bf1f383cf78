from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
from flask import Flask

from config.network import Archive
from db import Database, commands, presence
from db.models import PeerStatus
from db.objects import ObjectStore
from tests.webui import jobs
from tests.webui.conftest import PACS, Person, dicom
from webui.api import system
from webui.services import KEY, Services


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


def test_the_doors_and_their_callers_are_told(anna: Person, database: Database) -> None:
    problem = "dicom.tls: the key does not belong to the certificate"
    told = {
        "port": 11112,
        "tls_port": 2762,
        "problem": problem,
        "associations": 1,
        "connections": 3,
        "refused": {"called": 2, "tls": 5},
    }
    with presence.Presence(database, "receiver", told), presence.Presence(database, "receiver", told):
        door = anna.get("/api/v1/system").get_json()["door"]
        page = anna.get("/system").text
    assert door == {
        "ae_titles": ["CXR_SR"],
        "port": 11112,
        "tls_port": 2762,
        "tls_profile": None,
        "callers_show_certificates": False,
        "associations": 2,
        "connections": 6,
        "max_associations": 64,
        "max_associations_per_peer": 32,
        "refused": {"called": 4, "tls": 10},
        "problem": problem,
    }
    assert "calls for others: 4" in page
    assert "TLS that failed: 10" in page
    assert problem in page
    assert ":2762" in page


def test_the_end_of_a_certificate_stands_on_the_page(anna: Person, database: Database) -> None:
    shown = {
        "keys": "dicom.tls.cert",
        "subject": "node.hospital.example",
        "until": "2031-02-03T04:05:06+00:00",
        "trouble": "expires on 2031-02-03, in 9 days; replace it",
    }
    with presence.Presence(database, "scheduler", {"certificates": [shown]}):
        (found,) = anna.get("/api/v1/system").get_json()["certificates"]
        page = anna.get("/system").text
    assert found["subject"] == shown["subject"]
    assert 'until <time datetime="2031-02-03"' in page
    assert shown["trouble"] in page


def test_callers_refusals_and_certificates_are_figures(visitor: Person, database: Database) -> None:
    certificate = {
        "keys": "web.tls_cert",
        "subject": "x",
        "until": "2031-01-01T00:00:00+00:00",
        "trouble": None,
    }
    receiver = {"associations": 1, "connections": 3, "refused": {"called": 2}}
    with (
        presence.Presence(database, "receiver", receiver),
        presence.Presence(database, "scheduler", {"certificates": [certificate]}),
    ):
        figures = visitor.get("/metrics").text
    assert "cxr_sr_dicom_connections 3.0" in figures
    assert "cxr_sr_dicom_associations 1.0" in figures
    assert 'cxr_sr_dicom_refused{reason="called"} 2.0' in figures
    assert 'cxr_sr_certificate_end_seconds{keys="web.tls_cert"} 1.924992e+09' in figures


def test_archives_stand_on_the_page_with_their_last_answer_and_are_echoed_by_the_sender(
    anna: Person, app: Flask, here: Services, database: Database
) -> None:
    archive = Archive(name="old", ae_title="OLD", host="192.0.2.1", port=104, tls=True)
    settings = here.settings.model_copy(update={"archives": (archive,)})
    app.extensions[KEY] = replace(here, settings=settings)
    with database.write() as session:
        session.add(PeerStatus(name=archive.peer, reachable=True, seconds=0.1, message="OLD answered"))
    (found,) = anna.get("/api/v1/system").get_json()["archives"]
    assert (found["name"], found["reachable"], found["message"]) == ("old", True, "OLD answered")
    page = anna.get("/system").text
    assert "OLD@192.0.2.1:104 TLS" in page
    assert "C-ECHO to old" in page
    assert anna.post("/api/v1/archives/new/echo").status_code == 404
    with presence.Presence(database, "sender"):
        asked = threading.Thread(target=anna.post, args=("/api/v1/archives/old/echo",))
        asked.start()
        command = None
        while command is None:
            with database.write() as session:
                command = commands.take(session, "sender")
                if command is not None:
                    assert command.arguments == {"archive": "old"}
                    commands.answer(session, command.id, {"ok": True, "seconds": 0.0, "message": ""})
            time.sleep(0.02)
        asked.join()
