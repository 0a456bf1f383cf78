from __future__ import annotations

import io
from typing import Any

import pytest
import structlog
from flask import Flask
from sqlalchemy.exc import OperationalError

from db import Database, browse
from db.objects import ObjectStore
from tests.webui import jobs
from tests.webui.conftest import Person, dicom, png

MARK = "Zzyzx"


def test_programs_get_a_problem_and_people_a_page(visitor: Person) -> None:
    problem = visitor.get("/api/v1/nothing")
    assert (problem.status_code, problem.content_type) == (404, "application/problem+json")
    assert set(problem.get_json()) == {"type", "title", "status", "detail"}
    page = visitor.get("/nothing")
    assert page.status_code == 404
    assert page.mimetype == "text/html"


def test_a_method_that_is_not_taken_names_those_that_are(visitor: Person) -> None:
    answer = visitor.client.delete("/api/v1/jobs")
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]


def test_a_fault_shows_a_number_and_no_traceback(
    anna: Person, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: Any, **_more: Any) -> Any:
        raise RuntimeError(f"{MARK}^Jane in /secret/path")

    monkeypatch.setattr(browse, "jobs", broken)
    with structlog.testing.capture_logs() as logs:
        answer = anna.get("/api/v1/jobs")
    assert answer.status_code == 500
    incident = next(entry["incident"] for entry in logs if entry["event"] == "request failed")
    assert incident in answer.get_json()["detail"]
    for text in (answer.text, str(logs)):
        assert MARK not in text
        assert "secret" not in text
    assert "broken" in str(logs), "the log says where it was"


def test_a_database_that_is_away_is_503_with_a_page_or_a_problem(
    anna: Person, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_args: Any, **_more: Any) -> Any:
        raise OperationalError("SELECT patient", {"name": f"{MARK}^Jane"}, Exception("unable to open"))

    monkeypatch.setattr(database, "read", away)
    problem = anna.get("/api/v1/jobs")
    assert problem.status_code == 503
    assert problem.get_json()["type"] == "urn:cxr-sr:problem:database"
    page = anna.get("/queue")
    assert page.status_code in {404, 503}
    assert MARK not in problem.text + page.text
    assert "Traceback" not in page.text


def test_no_patient_data_is_in_logs_metrics_addresses_or_problems(
    anna: Person, database: Database, store: ObjectStore
) -> None:
    fields = {"PatientName": f"{MARK}^Jane", "PatientID": f"{MARK}-1", "AccessionNumber": f"{MARK}-2"}
    answers = []
    with structlog.testing.capture_logs() as logs:
        number = anna.upload((f"{MARK}.png", png()), **fields).get_json()["jobs"][0]["id"]
        jobs.examine(database, store, number, name=f"{MARK}^Jane")
        jobs.finish(database, store)
        anna.get(f"/api/v1/jobs/{number}")
        anna.get(f"/api/v1/jobs/{number}/result.dcm")
        anna.post("/api/v1/jobs/search", json={"patient": MARK})
        answers.append(anna.post(f"/api/v1/jobs/{number}/retry"))
        answers.append(anna.post("/api/v1/jobs/search", json={MARK: MARK, "state": [MARK]}))
        answers.append(anna.get(f"/api/v1/jobs?state={MARK}"))
        answers.append(anna.get(f"/api/v1/{MARK}"))
        answers.append(anna.get(f"/{MARK}?name={MARK}"))
        answers.append(anna.get("/metrics"))
    assert logs
    assert MARK not in str(logs)
    for answer in answers[:1] + answers[2:]:
        assert MARK not in answer.text
        assert MARK not in str(answer.headers)
    paths = [event["href"] for event in anna.get("/api/v1/jobs").get_json()["jobs"]]
    assert MARK not in str(paths)


def test_a_problem_about_a_form_does_not_repeat_what_was_typed(anna: Person) -> None:
    data = {"file": (io.BytesIO(dicom()), "a.dcm"), "PatientSex": MARK}
    answer = anna.post("/api/v1/jobs", data=data, content_type="multipart/form-data")
    assert answer.status_code == 422
    assert MARK not in answer.text
