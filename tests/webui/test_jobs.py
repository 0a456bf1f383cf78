from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from db import Database, queue
from db.models import AuditEvent, Job
from db.objects import ObjectStore
from db.states import JobState
from db.types import utcnow
from tests.webui import jobs
from tests.webui.conftest import PACS, Person, dicom, png
from webui.api.models import allowed


@pytest.fixture
def bring(anna: Person) -> Any:
    """Return a function that uploads files with these instance UIDs and returns the jobs' ids."""

    def upload(*uids: str) -> list[int]:
        answer = anna.upload(*((f"{uid}.dcm", dicom(uid)) for uid in uids))
        return [job["id"] for job in answer.get_json()["jobs"]]

    return upload


def test_the_list_is_paged_newest_first(anna: Person, bring: Any) -> None:
    ids = bring(*(f"1.2.{n}" for n in range(1, 8)))
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = anna.get(
            f"/api/v1/jobs?limit=3&cursor={cursor}" if cursor else "/api/v1/jobs?limit=3"
        ).get_json()
        assert len(page["jobs"]) <= 3
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["next"]
    assert seen == sorted(ids, reverse=True)


def test_the_list_is_filtered_by_state(anna: Person, bring: Any, database: Database) -> None:
    bring("1.2.1", "1.2.2")
    failed = jobs.fail(database)
    assert [job["id"] for job in anna.get("/api/v1/jobs?state=failed").get_json()["jobs"]] == [failed]
    assert len(anna.get("/api/v1/jobs?state=failed,queued").get_json()["jobs"]) == 2
    assert anna.get("/api/v1/jobs?state=done").get_json() == {"jobs": [], "next": None}


@pytest.mark.parametrize("query", ["state=lost", "limit=0", "limit=501", "cursor=x", "patient=Doe"])
def test_a_query_that_means_nothing_is_refused(anna: Person, query: str) -> None:
    answer = anna.get(f"/api/v1/jobs?{query}")
    assert answer.status_code == 422
    assert "Doe" not in answer.text


def test_a_search_finds_by_patient_accession_uid_date_and_state(
    anna: Person, bring: Any, database: Database, store: ObjectStore
) -> None:
    first, second = bring("1.2.1", "1.2.2")
    jobs.examine(database, store, first)
    jobs.examine(database, store, second, name="Other^Person")

    def found(**body: Any) -> list[int]:
        answer = anna.post("/api/v1/jobs/search", json=body)
        assert answer.status_code == 200, answer.get_json()
        return [job["id"] for job in answer.get_json()["jobs"]]

    assert found() == [second, first]
    assert found(patient="zzyzx") == [first]
    assert found(patient=jobs.PATIENT_ID) == [second, first]
    assert found(accession=jobs.ACCESSION) == [second, first]
    assert found(accession="none") == []
    for uid in (f"1.9.{first}", f"1.9.{first}.1", "1.2.1"):
        assert found(uid=uid) == [first]
    today = utcnow().date().isoformat()
    assert found(received_from=today, received_to=today) == [second, first]
    assert found(received_to="2020-01-01") == []
    assert found(study_from="2026-01-02", study_to="2026-01-02") == [second, first]
    assert found(study_from="2026-01-03") == []
    assert found(state=["done"]) == []
    assert found(limit=1) == [second]
    assert found(cursor=str(second)) == [first]


@pytest.mark.parametrize(
    "body", [{"patient": 5}, {"nonsense": "x"}, {"state": ["lost"]}, {"received_from": "soon"}]
)
def test_a_search_with_a_wrong_field_is_refused(anna: Person, body: dict[str, Any]) -> None:
    assert anna.post("/api/v1/jobs/search", json=body).status_code == 422


def test_a_search_that_is_not_json_is_refused(anna: Person) -> None:
    assert anna.post("/api/v1/jobs/search", data="{", content_type="application/json").status_code == 400
    assert anna.post("/api/v1/jobs/search", data="a=b", content_type="text/plain").status_code == 415


def test_a_job_shows_its_whole_story(
    anna: Person, bring: Any, database: Database, store: ObjectStore
) -> None:
    (number,) = bring("1.2.1")
    jobs.examine(database, store, number)
    jobs.finish(database, store, to=(PACS,))
    job = anna.get(f"/api/v1/jobs/{number}").get_json()
    assert job["state"] == "delivering"
    assert [event["after"] for event in job["timeline"] if event["kind"] == "state"] == [
        "queued",
        "running",
        "delivering",
    ]
    assert job["patient"]["name"] == jobs.NAME
    assert job["source"]["preview"] == f"/api/v1/jobs/{number}/source.png"
    assert job["result"]["object"] == f"/api/v1/jobs/{number}/result.dcm"
    assert job["result"]["figures"] == {"seconds": 1.5}
    assert [(d["destination"], d["state"]) for d in job["deliveries"]] == [("pacs", "waiting")]
    assert (job["model"], job["scale"], job["rule"]) == ("srgan", 2, "chest")


@pytest.mark.parametrize("path", ["", "/source.png", "/result.png", "/result.dcm"])
def test_a_job_that_is_not_there_is_404(anna: Person, path: str) -> None:
    for number in ("1", "999999999999999999999999"):
        answer = anna.get(f"/api/v1/jobs/{number}{path}")
        assert answer.status_code == 404
        assert answer.content_type == "application/problem+json"


def test_pictures_and_object_are_there_once_they_are_made(
    anna: Person, bring: Any, database: Database, store: ObjectStore
) -> None:
    (number,) = bring("1.2.1")
    base = f"/api/v1/jobs/{number}"
    for name in ("source.png", "result.png", "result.dcm"):
        assert anna.get(f"{base}/{name}").status_code == 409, name
    jobs.examine(database, store, number)
    jobs.finish(database, store)
    source, result = anna.get(f"{base}/source.png"), anna.get(f"{base}/result.png")
    assert (source.content_type, source.data) == ("image/png", png())
    assert (result.content_type, result.data) == ("image/png", png(200))
    made = anna.get(f"{base}/result.dcm")
    assert made.content_type == "application/dicom"
    assert made.data == dicom(f"1.8.{number}.1")
    assert made.headers["Content-Disposition"] == f'attachment; filename="cxr-sr-job-{number}.dcm"'
    assert made.content_length == len(made.data)
    head = anna.client.head(f"{base}/result.dcm")
    assert (head.content_length, head.data) == (len(made.data), b"")
    with database.read() as session:
        assert "job.download" in set(session.scalars(select(AuditEvent.action)))


def test_what_will_never_be_or_is_no_more_is_said_so(
    anna: Person, root: Person, bring: Any, database: Database, store: ObjectStore
) -> None:
    bring("1.2.1")
    failed = jobs.fail(database)
    assert anna.get(f"/api/v1/jobs/{failed}/result.dcm").status_code == 404
    bring("1.2.2")
    done = jobs.finish(database, store)
    root.post(f"/api/v1/jobs/{done}/retract", json={"reason": "wrong patient"})
    for name in ("result.png", "result.dcm"):
        answer = anna.get(f"/api/v1/jobs/{done}/{name}")
        assert answer.status_code == 410
    assert anna.get(f"/api/v1/jobs/{done}").get_json()["result"]["object"] is None
    bring("1.2.3")
    purged = jobs.finish(database, store)
    with database.write() as session:
        result = session.get_one(Job, purged).result
        assert result is not None
        store.delete(result.object_key)
    assert anna.get(f"/api/v1/jobs/{purged}/result.dcm").status_code == 404


def test_a_failed_job_is_tried_again_and_a_queued_one_cancelled(
    anna: Person, bring: Any, database: Database
) -> None:
    bring("1.2.1")
    number = jobs.fail(database)
    job = anna.post(f"/api/v1/jobs/{number}/retry").get_json()
    assert job["state"] == "queued"
    assert job["timeline"][-1]["actor"] == "anna"
    assert anna.post(f"/api/v1/jobs/{number}/cancel").get_json()["state"] == "cancelled"
    with database.read() as session:
        actions = [row.action for row in session.scalars(select(AuditEvent)) if row.object_id == str(number)]
    assert actions[-2:] == ["job.retry", "job.cancel"]


def test_a_held_result_is_released_to_its_destinations(
    anna: Person, bring: Any, database: Database, store: ObjectStore
) -> None:
    bring("1.2.1")
    number = jobs.finish(database, store, to=(PACS,), release="review")
    assert jobs.state(database, number) == JobState.HELD
    assert anna.post(f"/api/v1/jobs/{number}/release").get_json()["state"] == "delivering"


def test_a_result_is_taken_back_by_an_administrator_with_a_reason(
    anna: Person, root: Person, bring: Any, database: Database, store: ObjectStore
) -> None:
    bring("1.2.1")
    number = jobs.finish(database, store)
    assert anna.post(f"/api/v1/jobs/{number}/retract", json={"reason": "wrong"}).status_code == 403
    assert root.post(f"/api/v1/jobs/{number}/retract", json={}).status_code == 422
    job = root.post(f"/api/v1/jobs/{number}/retract", json={"reason": "wrong side"}).get_json()
    assert (job["state"], job["reason"]) == ("retracted", "wrong side")


@pytest.mark.parametrize(
    ("body", "code"),
    [({}, "retracted"), ({"why": "safety"}, "retracted-safety"), ({"why": "worklist"}, "retracted-worklist")],
)
def test_a_retraction_keeps_what_archives_are_told(
    root: Person, bring: Any, database: Database, store: ObjectStore, body: dict[str, str], code: str
) -> None:
    bring("1.2.1")
    number = jobs.finish(database, store)
    assert (
        root.post(f"/api/v1/jobs/{number}/retract", json={"reason": "why", "why": "age"}).status_code == 422
    )
    job = root.post(f"/api/v1/jobs/{number}/retract", json={"reason": "wrong side", **body}).get_json()
    assert job["reason_code"] == code
    assert "retry" not in job["actions"]


@pytest.mark.parametrize("action", ["retry", "release", "retract"])
def test_what_the_state_does_not_allow_is_a_conflict(
    root: Person, anna: Person, bring: Any, database: Database, action: str
) -> None:
    (number,) = bring("1.2.1")
    answer = root.post(f"/api/v1/jobs/{number}/{action}", json={"reason": "because"})
    assert answer.status_code == 409
    problem = answer.get_json()
    assert (problem["type"], problem["state"]) == ("urn:cxr-sr:problem:state", "queued")
    assert jobs.state(database, number) == JobState.QUEUED


def test_the_actions_that_a_job_offers_are_those_that_succeed(
    root: Person, anna: Person, bring: Any, database: Database, store: ObjectStore
) -> None:
    numbers = bring(*(f"1.2.{n}" for n in range(1, 6)))
    jobs.finish(database, store)
    jobs.finish(database, store, to=(PACS,))
    jobs.finish(database, store, to=(PACS,), release="review")
    jobs.fail(database)
    for number in numbers:
        for action in ("retry", "cancel", "release", "retract"):
            with database.read() as session:
                offered = action in allowed(session.get_one(Job, number))
            assert offered == _would_succeed(database, number, action), (number, action)


def _would_succeed(database: Database, number: int, action: str) -> bool:
    from db.states import IllegalTransition

    steps: dict[str, Any] = {
        "retry": queue.retry,
        "cancel": queue.cancel,
        "release": queue.release,
        "retract": lambda session, job, actor: queue.retract(session, job, reason="r", actor=actor),
    }
    try:
        with database.write() as session:
            steps[action](session, session.get_one(Job, number), actor="anna")
            raise _Undo
    except IllegalTransition:
        return False
    except _Undo:
        return True


class _Undo(Exception):
    """Rolls the trial back."""
