"""The queue page and its interface: filters, orders, changes of many, pauses."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import event, select

from db import Database, pauses
from db.models import AuditEvent, Job
from db.objects import ObjectStore
from db.states import JobState, Priority
from tests.webui.conftest import Person, dicom
from tests.webui.jobs import examine, fail, finish, state
from webui.api.events import missed
from webui.services import Services


def bring(person: Person, instance: str = "1.2.3.4", **wishes: str) -> int:
    answer = person.upload(("x.dcm", dicom(instance)), **wishes)
    assert answer.status_code == 202
    return int(answer.get_json()["jobs"][0]["id"])


def rows(html: str) -> list[int]:
    return [int(number) for number in re.findall(r'data-key="(\d+)"', html)]


@pytest.fixture
def three(anna: Person) -> list[int]:
    wishes = ("routine", "bulk", "stat")
    return [bring(anna, f"1.2.3.{n}", priority=priority) for n, priority in enumerate(wishes)]


def test_the_list_goes_by_age_or_by_the_order_of_processing(anna: Person, three: list[int]) -> None:
    routine, bulk, stat = three
    assert rows(anna.get("/queue").text) == [stat, bulk, routine]
    assert rows(anna.get("/queue?sort=oldest").text) == [routine, bulk, stat]
    assert rows(anna.get("/queue?sort=priority").text) == [stat, routine, bulk]
    found = anna.get("/api/v1/jobs?sort=priority&limit=2").get_json()
    assert [job["id"] for job in found["jobs"]] == [stat, routine]
    more = anna.get(f"/api/v1/jobs?sort=priority&limit=2&cursor={found['next']}").get_json()
    assert ([job["id"] for job in more["jobs"]], more["next"]) == ([bulk], None)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("priority=stat", 1),
        ("origin=upload", 3),
        ("origin=dimse", 0),
        ("rule=chest", 1),
        ("model=srgan", 1),
        ("destination=pacs", 0),
        ("since=2001-01-01&until=2001-01-02", 0),
    ],
)
def test_a_filter_stands_in_the_address_and_says_how_many_match(
    anna: Person, database: Database, store: ObjectStore, three: list[int], query: str, found: int
) -> None:
    finish(database, store)
    html = anna.get(f"/queue?{query}").text
    assert len(rows(html)) == found
    words = re.search(r'data-live="matched"><b>(.*?)</b>', html)
    assert words is not None
    assert words[1] == ("1 job" if found == 1 else f"{found} jobs")
    name = query.partition("=")[0]
    theirs = {"since": "received_from"}.get(name, name)
    asked = query.replace("since=", "received_from=").replace("until=", "received_to=")
    assert theirs in asked
    assert len(anna.get(f"/api/v1/jobs?{asked}").get_json()["jobs"]) == found


def test_a_form_without_a_text_leads_to_an_address_and_one_with_a_text_does_not(
    anna: Person, database: Database, store: ObjectStore
) -> None:
    job_id = bring(anna)
    examine(database, store, job_id)
    answer = anna.post("/queue", data={"q": "", "priority": "stat", "state": "failed", "rule": ""})
    assert (answer.status_code, answer.location) == (303, "/queue?state=failed&priority=stat")
    held = anna.post("/queue", data={"q": "marker", "priority": "stat"})
    assert (held.status_code, rows(held.text)) == (200, [])
    assert rows(anna.post("/queue", data={"q": "marker", "priority": "routine"}).text) == [job_id]


def test_chosen_jobs_are_tried_again_without_script(anna: Person, database: Database) -> None:
    first, second = bring(anna, "1.2.3.1"), bring(anna, "1.2.3.2")
    fail(database)
    data = {"csrf_token": anna.csrf, "action": "retry", "job": [str(first), str(second)]}
    html = anna.post("/queue/bulk", data=data).text
    assert "1 job changed." in html
    assert f"{second}: the job is queued and cannot become queued" in html
    assert state(database, first) == JobState.QUEUED
    none = anna.post("/queue/bulk", data={"csrf_token": anna.csrf, "action": "cancel"})
    assert "No job was chosen." in none.text


def test_all_that_match_are_changed_without_script(
    anna: Person, database: Database, three: list[int]
) -> None:
    data = {"csrf_token": anna.csrf, "action": "cancel", "all": "1", "priority": "stat"}
    assert "1 job changed." in anna.post("/queue/bulk", data=data).text
    assert [state(database, number) for number in three] == ["queued", "queued", "cancelled"]


def test_many_jobs_are_reprioritised_and_each_is_in_the_audit_trail(
    anna: Person, database: Database, three: list[int]
) -> None:
    body = {"action": "priority", "priority": "bulk", "filter": {"priority": "routine"}}
    answer = anna.post("/api/v1/jobs/bulk", json=body).get_json()
    assert answer == {"done": 1, "ids": three[:1], "refused": [], "next": None}
    one = anna.post(f"/api/v1/jobs/{three[1]}/priority", json={"priority": "stat"}).get_json()
    assert (one["priority"], one["timeline"][-1]["message"]) == ("stat", "bulk to stat")
    with database.read() as session:
        assert [session.get_one(Job, n).priority for n in three] == [Priority.BULK, *[Priority.STAT] * 2]
        entries = session.scalars(select(AuditEvent).where(AuditEvent.action == "job.priority"))
        assert [(entry.actor, entry.object_id) for entry in entries] == [
            ("anna", str(three[0])),
            ("anna", str(three[1])),
        ]


def test_one_job_is_put_before_others_on_its_page_without_script(anna: Person, database: Database) -> None:
    job_id = bring(anna)
    assert f'action="/jobs/{job_id}/priority"' in anna.get(f"/jobs/{job_id}").text
    data = {"csrf_token": anna.csrf, "priority": "stat"}
    assert anna.post(f"/jobs/{job_id}/priority", data=data).location == f"/jobs/{job_id}"
    assert anna.post(f"/jobs/{job_id}/priority", data=data | {"priority": "x"}).status_code == 400
    html = anna.get(f"/jobs/{job_id}").text
    assert '<span class="flag stat">stat</span>' in html
    assert "routine to stat" in html


def test_a_finished_job_keeps_its_priority(anna: Person, database: Database, store: ObjectStore) -> None:
    bring(anna)
    done = finish(database, store)
    answer = anna.post(f"/api/v1/jobs/{done}/priority", json={"priority": "stat"})
    assert (answer.status_code, answer.get_json()["state"]) == (409, "done")


@pytest.mark.parametrize(
    "body",
    [
        {"action": "retry"},
        {"action": "retry", "ids": [1], "filter": {}},
        {"action": "retry", "ids": []},
        {"action": "retry", "ids": list(range(501))},
        {"action": "priority", "ids": [1]},
        {"action": "retry", "ids": [1], "priority": "stat"},
        {"action": "delete", "ids": [1]},
        {"action": "retry", "filter": {}, "cursor": "x"},
    ],
)
def test_a_bulk_change_that_makes_no_sense_is_refused_as_a_whole(anna: Person, body: object) -> None:
    assert anna.post("/api/v1/jobs/bulk", json=body).status_code == 422


def test_only_administrators_pause_and_everybody_sees_it(
    anna: Person, root: Person, database: Database
) -> None:
    assert anna.post("/api/v1/pauses", json={"what": "intake"}).status_code == 403
    assert "Pause…" not in anna.get("/queue").text
    answer = root.post("/api/v1/pauses", json={"what": "destination:pacs", "reason": "new firmware"})
    assert [row["what"] for row in answer.get_json()["pauses"]] == ["destination:pacs"]
    for path in ("/queue", "/system"):
        html = anna.get(path).text
        assert "Delivery to pacs is paused" in html, path
        assert "new firmware" in html, path
        assert "Resume" not in html, path
    assert anna.get("/api/v1/pauses").get_json()["pauses"][0]["actor"] == "root"
    assert root.post("/api/v1/pauses", json={"what": "destination:pacs"}).status_code == 409
    assert root.post("/api/v1/pauses", json={"what": "destination:nowhere"}).status_code == 404
    assert root.post("/api/v1/pauses/resume", json={"what": "destination:pacs"}).get_json() == {"pauses": []}
    assert root.post("/api/v1/pauses/resume", json={"what": "destination:pacs"}).status_code == 409
    with database.read() as session:
        entries = session.scalars(select(AuditEvent).where(AuditEvent.object_type == "pause"))
        assert [(entry.actor, entry.action) for entry in entries] == [
            ("root", "queue.pause"),
            ("root", "queue.resume"),
        ]


def test_pausing_works_without_script_and_comes_back_to_its_page(root: Person, database: Database) -> None:
    data = {"csrf_token": root.csrf, "what": "processing", "reason": "new model"}
    answer = root.post("/queue/pause", data=data, headers={"Referer": "http://localhost/system"})
    assert (answer.status_code, answer.location) == (303, "/system")
    assert "Processing is paused" in root.get("/queue").text
    answer = root.post("/queue/pause", data={"csrf_token": root.csrf, "what": "processing", "go": "on"})
    assert answer.location == "/queue"
    with database.read() as session:
        assert pauses.all_pauses(session) == []


def test_paused_intake_refuses_uploads_in_words_and_takes_them_again(anna: Person, root: Person) -> None:
    root.post("/api/v1/pauses", json={"what": "intake"})
    answer = anna.upload(("x.dcm", dicom()))
    assert (answer.status_code, answer.get_json()["type"]) == (503, "urn:cxr-sr:problem:intake-paused")
    assert "paused intake" in answer.get_json()["detail"]
    assert int(answer.headers["Retry-After"]) > 0
    ready = anna.get("/readyz")
    assert ready.status_code == 503
    assert "Intake is paused." in ready.get_json()["reasons"]
    root.post("/api/v1/pauses/resume", json={"what": "intake"})
    assert bring(anna)


def test_what_is_paused_is_told_to_those_who_watch(anna: Person, root: Person) -> None:
    for what in ("processing", "destination:pacs"):
        root.post("/api/v1/pauses", json={"what": what})
    assert anna.get("/readyz").get_json()["paused"] == ["processing", "destination:pacs"]
    text = anna.get("/metrics").text
    for what, value in (("intake", 0), ("processing", 1), ("destination:pacs", 1)):
        assert f'cxr_sr_paused{{what="{what}"}} {value}.0' in text


def test_missed_events_are_read_from_the_end_of_their_table(here: Services, anna: Person) -> None:
    bring(anna)
    asked: list[tuple[str, Any]] = []
    event.listen(here.database.engine, "before_cursor_execute", lambda *given: asked.append(given[2:4]))
    assert missed(here.database, 0)
    statement, values = asked[-1]
    with here.database.engine.connect() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    assert [row[-1] for row in plan] == ["SEARCH job_event USING INTEGER PRIMARY KEY (rowid>?)"]
