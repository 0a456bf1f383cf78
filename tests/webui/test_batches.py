"""Archives from the web: searched by the sender's process, studies chosen, batches followed and steered."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import select, update

from config import Settings
from config.network import Archive
from db import Database, batches, commands, presence
from db.exchange import BatchItem
from db.models import AuditEvent, Batch, Command
from db.types import utcnow
from tests.webui.conftest import Person
from webui import errands

STUDIES = [
    {
        "study": f"1.2.3.{number}",
        "shown": {
            "PatientName": f"Kim^Nr{number}=金",
            "PatientID": f"K{number}",
            "StudyDate": "20240115",
            "ModalitiesInStudy": ["CR"],
            "NumberOfStudyRelatedInstances": "2",
        },
    }
    for number in (1, 2, 3)
]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    archive = Archive(name="old", ae_title="OLD", host="127.0.0.1", port=104)
    return settings.model_copy(update={"archives": (archive,)})


@contextmanager
def fetcher(database: Database, answer: dict[str, Any] | None = None) -> Iterator[list[dict[str, Any]]]:
    """The part of the sender that searches; what it was asked is in the list."""
    said = {"ok": True, "message": "", "studies": STUDIES, "more": False, "modalities": ["CR", "DX"]}
    asked: list[dict[str, Any]] = []
    stop = threading.Event()

    def work() -> None:
        while not stop.wait(0.02):
            with database.write() as session:
                command = commands.take(session, batches.ROLE)
                if command is not None:
                    asked.append(command.arguments)
                    commands.answer(session, command.id, said if answer is None else answer)

    thread = threading.Thread(target=work)
    with presence.Presence(database, "sender"):
        thread.start()
        try:
            yield asked
        finally:
            stop.set()
            thread.join()


def search(person: Person, **wanted: Any) -> Any:
    return person.post("/api/v1/archives/old/search", json=wanted or {"patient": "K*"})


def made(person: Person, database: Database, **more: Any) -> Any:
    with fetcher(database):
        number = search(person).get_json()["search"]
    return person.post("/api/v1/batches", json={"search": number, **more})


def test_a_search_is_done_by_the_sender_and_its_answer_shown(anna: Person, database: Database) -> None:
    with fetcher(database) as asked:
        answer = search(anna, patient="K*", study_from="2024-01-01", modality="dx", limit=7)
    assert answer.status_code == 200
    found = answer.get_json()
    assert [study["study"] for study in found["studies"]] == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]
    assert asked[0]["archive"] == "old"
    assert asked[0]["terms"] == {"patient": "K*", "date": "20240101-", "modality": "DX"}
    assert asked[0]["limit"] == 7
    with database.read() as session:
        row = session.scalars(select(AuditEvent).where(AuditEvent.action == "archive.search")).one()
    assert (row.actor, row.object_id, row.detail) == ("anna", "old", {})


@pytest.mark.parametrize(
    "wanted", [{}, {"modality": "CR"}, {"patient": "a\\b"}, {"limit": 0, "patient": "a"}, {"sex": "F"}]
)
def test_a_search_for_nothing_or_nonsense_is_refused(anna: Person, wanted: dict[str, Any]) -> None:
    assert anna.post("/api/v1/archives/old/search", json=wanted).status_code == 422


def test_a_search_without_a_sender_says_so(anna: Person) -> None:
    answer = search(anna)
    assert (answer.status_code, answer.get_json()["type"]) == (503, "urn:cxr-sr:problem:role-missing")


def test_an_archive_that_fails_is_said_so(anna: Person, database: Database) -> None:
    with fetcher(database, {"ok": False, "message": "127.0.0.1:104 cannot be reached"}):
        answer = search(anna)
    assert answer.status_code == 502
    assert "cannot be reached" in answer.get_json()["detail"]


def test_a_search_that_nobody_answers_ends(
    anna: Person, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errands, "ARCHIVE_SECONDS", 0.2)
    with presence.Presence(database, "sender"):
        assert search(anna).status_code == 504


def test_a_batch_is_made_of_the_studies_that_were_chosen(anna: Person, database: Database) -> None:
    answer = made(
        anna, database, studies=["1.2.3.3", "1.2.3.1"], scale="2", destination=["pacs"], name="January"
    )
    assert answer.status_code == 201
    view = answer.get_json()
    assert (view["state"], view["total"], view["archive"], view["name"]) == ("open", 2, "old", "January")
    with database.read() as session:
        batch = session.get_one(Batch, view["id"])
        items = session.scalars(select(BatchItem).order_by(BatchItem.id)).all()
        assert batch.query == {
            "modalities": ["CR", "DX"],
            "matches": {"patient": "K*"},
            "requested": {"scale": 2, "destinations": ["pacs"]},
        }
        assert [(item.study_instance_uid, item.shown["PatientID"]) for item in items] == [
            ("1.2.3.1", "K1"),
            ("1.2.3.3", "K3"),
        ]
    assert [one["id"] for one in anna.get("/api/v1/batches").get_json()["batches"]] == [view["id"]]


def test_a_batch_needs_a_search_of_ones_own_that_is_not_forgotten(
    anna: Person, root: Person, database: Database
) -> None:
    with fetcher(database):
        number = search(anna).get_json()["search"]
    assert root.post("/api/v1/batches", json={"search": number}).status_code == 422
    assert anna.post("/api/v1/batches", json={"search": number, "studies": ["9.9"]}).status_code == 422
    assert anna.post("/api/v1/batches", json={"search": number, "destination": ["moon"]}).status_code == 422
    with database.write() as session:
        long_ago = utcnow() - 2 * batches.SEARCH_KEPT
        session.execute(update(Command).values(created_at=long_ago))
        assert batches.forget_searches(session) == 1
    assert anna.post("/api/v1/batches", json={"search": number}).status_code == 422


def test_a_batch_is_paused_resumed_and_cancelled(anna: Person, database: Database) -> None:
    number = made(anna, database).get_json()["id"]
    address = f"/api/v1/batches/{number}"
    assert anna.post(f"{address}/pause").get_json()["state"] == "paused"
    assert anna.post(f"{address}/pause").status_code == 409
    assert anna.post(f"{address}/resume").get_json()["state"] == "open"
    assert anna.post(f"{address}/retry").status_code == 409
    assert anna.post(f"{address}/cancel").get_json()["state"] == "cancelled"
    assert anna.post(f"{address}/resume").status_code == 409
    detail = anna.get(address).get_json()
    assert {item["state"] for item in detail["items"]} == {"cancelled"}
    assert detail["ended"] == detail["total"] == 3
    assert anna.get("/api/v1/batches/999").status_code == 404


def test_the_page_searches_and_makes_a_batch_without_javascript(anna: Person, database: Database) -> None:
    assert 'href="/fetch"' in anna.get("/queue").text
    with fetcher(database):
        page = anna.post("/fetch", data={"archive": "old", "name": "Kim*", "csrf_token": anna.csrf})
    assert page.status_code == 200
    assert "Kim, Nr2" in page.text
    number = re.search(r'name="search" value="(\d+)"', page.text)
    assert number is not None
    form = {"search": number[1], "studies": ["1.2.3.2"], "scale": "auto", "csrf_token": anna.csrf}
    answer = anna.post("/fetch/start", data=form)
    assert answer.status_code == 303
    shown = anna.get(answer.headers["Location"])
    assert "Kim, Nr2" in shown.text
    assert "Kim, Nr1" not in shown.text
    assert anna.post(answer.headers["Location"] + "/pause").status_code == 303
    assert "Resume" in anna.get(answer.headers["Location"]).text
    assert answer.headers["Location"] in anna.get("/fetch").text


def test_the_page_says_what_is_missing(anna: Person, database: Database) -> None:
    empty = anna.post("/fetch", data={"archive": "old", "csrf_token": anna.csrf})
    assert (empty.status_code, "Enter a patient" in empty.text) == (422, True)
    none = anna.post("/fetch/start", data={"search": "77", "csrf_token": anna.csrf})
    assert (none.status_code, "search again" in none.text) == (422, True)
