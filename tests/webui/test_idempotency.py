from __future__ import annotations

import io
import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from db import Database, idempotency
from db.desk import IdempotencyKey
from db.idempotency import Answered, Claim, KeyBusy
from db.models import Job, Source
from db.types import utcnow
from tests.webui.conftest import Person, archive, dicom, png
from webui import door

KEY = {"Idempotency-Key": "3f0c7a52-upload"}


def _send(person: Person, *files: tuple[str, bytes], headers: dict[str, str] | None = None, **fields: Any):
    data = {**fields, "file": [FileStorage(io.BytesIO(content), name) for name, content in files]}
    boundary, body = encode_multipart(data)
    return person.post(
        "/api/v1/jobs",
        data=body,
        content_type=f"multipart/form-data; boundary={boundary}",
        headers=KEY if headers is None else headers,
    )


def _counts(database: Database) -> tuple[int, int]:
    with database.read() as session:
        jobs, sources = (session.scalar(select(func.count(table.id))) for table in (Job, Source))
        return int(jobs or 0), int(sources or 0)


def _age(database: Database, by: timedelta) -> None:
    with database.write() as session:
        session.execute(update(IdempotencyKey).values(at=utcnow() - by))


def test_the_same_upload_under_its_key_is_answered_again_and_not_done_again(
    anna: Person, database: Database
) -> None:
    files = (("a.dcm", dicom("1.2.1")), ("b.png", png()))
    first, second = _send(anna, *files, scale="2"), _send(anna, *files, scale="2")
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.get_json() == second.get_json()
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert _counts(database) == (2, 2)


def test_without_a_key_a_second_copy_is_a_resend(anna: Person) -> None:
    _send(anna, ("a.dcm", dicom("1.2.1")), headers={})
    assert _send(anna, ("a.dcm", dicom("1.2.1")), headers={}).get_json()["jobs"][0]["resend"] is True


@pytest.mark.parametrize(
    ("files", "fields"),
    [
        ((("a.dcm", dicom("1.2.2")),), {}),
        ((("other.dcm", dicom("1.2.1")),), {}),
        ((("a.dcm", dicom("1.2.1")),), {"priority": "stat"}),
        ((("a.dcm", dicom("1.2.1")), ("a.dcm", dicom("1.2.1"))), {}),
    ],
)
def test_another_request_under_a_used_key_is_refused(
    anna: Person, database: Database, files: tuple[tuple[str, bytes], ...], fields: dict[str, Any]
) -> None:
    _send(anna, ("a.dcm", dicom("1.2.1")))
    refused = _send(anna, *files, **fields)
    assert refused.status_code == 422
    assert refused.get_json()["type"] == "urn:cxr-sr:problem:key-reused"
    assert _counts(database) == (1, 1)


def test_a_key_of_one_user_is_nothing_to_another(anna: Person, root: Person) -> None:
    mine, yours = _send(anna, ("a.dcm", dicom("1.2.1"))), _send(root, ("b.dcm", dicom("1.2.2")))
    assert mine.status_code == yours.status_code == 202
    assert mine.get_json()["jobs"][0]["id"] != yours.get_json()["jobs"][0]["id"]


def test_a_refused_upload_leaves_its_key_free(anna: Person) -> None:
    assert _send(anna, ("a.txt", b"text")).status_code == 415
    assert _send(anna, ("a.txt", b"text")).status_code == 415
    assert _send(anna, ("a.dcm", dicom("1.2.1"))).status_code == 202


def test_an_upload_that_fails_here_leaves_its_key_free(anna: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object, **_more: object) -> None:
        raise RuntimeError("Zzyzx")

    with monkeypatch.context() as patch:
        patch.setattr(door, "take", broken)
        assert _send(anna, ("a.dcm", dicom("1.2.1"))).status_code == 500
    assert _send(anna, ("a.dcm", dicom("1.2.1"))).status_code == 202


def test_an_answer_with_refusals_comes_again_as_it_was(anna: Person) -> None:
    files = (("both.zip", archive({"a.dcm": dicom("1.2.1"), "b.txt": b"text"})),)
    first, second = _send(anna, *files), _send(anna, *files)
    assert [item["file"] for item in second.get_json()["refused"]] == ["both.zip/b.txt"]
    assert first.get_json() == second.get_json()


def test_while_the_first_is_answered_the_second_is_asked_to_come_back(
    anna: Person, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    told: list[TestResponse] = []
    take = door.take

    def slow(*args: Any, **more: Any) -> object:
        if not told:
            thread = threading.Thread(target=lambda: told.append(_send(anna, ("a.dcm", dicom("1.2.1")))))
            thread.start()
            thread.join(timeout=60)
        return take(*args, **more)

    monkeypatch.setattr(door, "take", slow)
    first = _send(anna, ("a.dcm", dicom("1.2.1")))
    assert first.status_code == 202
    (second,) = told
    assert second.status_code == 409
    assert second.get_json()["type"] == "urn:cxr-sr:problem:key-busy"
    assert int(second.headers["Retry-After"]) > 0
    assert _counts(database) == (1, 1)


def test_a_first_request_that_died_blocks_its_key_for_minutes_alone(database: Database) -> None:
    dead = idempotency.claim(database, 1, "k", "0" * 64)
    assert isinstance(dead, Claim)
    with pytest.raises(KeyBusy):
        idempotency.claim(database, 1, "k", "0" * 64)
    _age(database, timedelta(minutes=11))
    alive = idempotency.claim(database, 1, "k", "0" * 64)
    assert isinstance(alive, Claim)
    idempotency.settle(database, dead, 202, {"late": True})  # its place was taken: nobody hears it
    with pytest.raises(KeyBusy):
        idempotency.claim(database, 1, "k", "0" * 64)
    idempotency.settle(database, alive, 202, {"late": False})
    assert idempotency.claim(database, 1, "k", "0" * 64) == Answered(202, {"late": False})


def test_after_a_day_a_key_is_new_again(anna: Person, database: Database) -> None:
    _send(anna, ("a.dcm", dicom("1.2.1")))
    _age(database, timedelta(hours=25))
    again = _send(anna, ("b.dcm", dicom("1.2.2")))
    assert again.status_code == 202
    assert "Idempotent-Replayed" not in again.headers


@pytest.mark.parametrize("key", ["", "with space", "x" * 129, "ü"])
def test_a_key_that_is_none_is_refused(anna: Person, key: str) -> None:
    refused = _send(anna, ("a.dcm", dicom("1.2.1")), headers={"Idempotency-Key": key})
    assert refused.status_code == 422
    assert refused.get_json()["type"] == "urn:cxr-sr:problem:bad-key"


def test_quotes_around_a_key_are_not_part_of_it(anna: Person) -> None:
    _send(anna, ("a.dcm", dicom("1.2.1")), headers={"Idempotency-Key": '"k-1"'})
    again = _send(anna, ("a.dcm", dicom("1.2.1")), headers={"Idempotency-Key": "k-1"})
    assert again.headers["Idempotent-Replayed"] == "true"


def test_two_uploads_at_once_make_one_set_of_jobs(anna: Person, database: Database) -> None:
    answers: list[TestResponse] = []
    ready = threading.Barrier(4)

    def send() -> None:
        person = Person(anna.client.application.test_client())
        person.client.set_cookie("cxr_sr_session", anna.client.get_cookie("cxr_sr_session").value)
        person.csrf = anna.csrf
        ready.wait(timeout=30)
        answers.append(_send(person, ("a.dcm", dicom("1.2.1")), ("b.dcm", dicom("1.2.2"))))

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(answers) == 4
    assert {answer.status_code for answer in answers} <= {202, 409}
    done = [answer.get_json() for answer in answers if answer.status_code == 202]
    assert done
    assert all(answer == done[0] for answer in done)
    assert _counts(database) == (2, 2)


def test_other_requests_that_make_something_take_keys_too(anna: Person, database: Database) -> None:
    first, second = (anna.post("/api/v1/uploads", headers=KEY) for _ in range(2))
    assert first.get_json() == second.get_json()
    other = anna.post("/api/v1/uploads/sample", headers=KEY)
    assert other.get_json()["type"] == "urn:cxr-sr:problem:key-reused"
    anna.post("/api/v1/uploads/sample", headers={"Idempotency-Key": "sample-1"})
    again = anna.post("/api/v1/uploads/sample", headers={"Idempotency-Key": "sample-1"})
    assert again.headers["Idempotent-Replayed"] == "true"
    assert _counts(database) == (1, 1)
