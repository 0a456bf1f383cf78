"""The pages around a result, as they work before any script: send, share, judge, review, choose many."""

from __future__ import annotations

import io
import re
import zipfile
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from db import Database
from db.desk import ShareLink
from db.models import AuditEvent
from db.objects import ObjectStore
from db.states import JobState
from db.types import utcnow
from tests.webui import jobs
from tests.webui.conftest import PACS, Person, dicom
from webui.api import results


@pytest.fixture
def finish(anna: Person, database: Database, store: ObjectStore) -> Any:
    """Return a function that makes a finished (or held) job of its own."""
    made: list[None] = []

    def one(**more: Any) -> int:
        made.append(None)
        number = int(anna.upload(("a.dcm", dicom(f"1.2.{len(made)}"))).get_json()["jobs"][0]["id"])
        jobs.examine(database, store, number)
        jobs.finish(database, store, **more)
        return number

    return one


def post(person: Person, path: str, **fields: Any) -> Any:
    return person.client.post(path, data={"csrf_token": person.csrf, **fields})


def audited(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.scalars(select(AuditEvent.action).order_by(AuditEvent.id)))


def test_a_result_is_sent_from_its_page(anna: Person, finish: Any, database: Database) -> None:
    number = finish()
    assert 'value="pacs"' in anna.get(f"/jobs/{number}").text
    answer = post(anna, f"/jobs/{number}/send", destination="pacs")
    assert (answer.status_code, answer.location) == (303, f"/jobs/{number}")
    assert jobs.state(database, number) == JobState.DELIVERING
    assert "on its way" in anna.get(f"/jobs/{number}").text
    again = post(anna, f"/jobs/{number}/send", destination="pacs")
    assert again.status_code == 409
    assert again.mimetype == "text/html"


def test_a_link_is_shown_once_and_leads_a_colleague_to_the_job(
    anna: Person, root: Person, visitor: Person, finish: Any, database: Database
) -> None:
    number = finish()
    page = post(anna, f"/jobs/{number}/share", days="2").text
    [url] = re.findall(r'value="(http://localhost/s/[^"]+)"', page)
    assert url not in anna.get(f"/jobs/{number}").text
    path = url.removeprefix("http://localhost")
    asked = visitor.get(path)
    assert asked.status_code == 303
    assert asked.location.startswith("/login?next=")
    entered = visitor.login("root", next=path)
    assert entered.location == path
    assert visitor.get(path).location == root.get(path).location == f"/jobs/{number}"
    assert [action for action in audited(database) if action.startswith("share")] == [
        "share.create",
        "share.follow",
        "share.follow",
    ]


def test_the_address_that_people_use_stands_in_the_link(anna: Person, finish: Any, here: Any) -> None:
    number = finish()
    web = here.settings.web.model_copy(update={"public_url": "https://images.hospital.example/"})
    object.__setattr__(here, "settings", here.settings.model_copy(update={"web": web}))
    answer = anna.post(f"/api/v1/jobs/{number}/share", json={})
    assert answer.get_json()["url"].startswith("https://images.hospital.example/s/")


def test_a_link_that_is_over_says_so(anna: Person, root: Person, finish: Any, database: Database) -> None:
    number = finish()

    def link() -> tuple[int, str]:
        made = anna.post(f"/api/v1/jobs/{number}/share", json={"days": 1})
        assert made.status_code == 201
        return made.get_json()["id"], made.get_json()["url"].removeprefix("http://localhost")

    unknown = anna.get("/s/nonsense")
    assert (unknown.status_code, "leads nowhere" in unknown.text) == (404, True)
    first, expired = link()
    with database.write() as session:
        old = utcnow() - timedelta(minutes=1)
        session.execute(update(ShareLink).where(ShareLink.id == first).values(expires_at=old))
    assert (anna.get(expired).status_code, "has expired" in anna.get(expired).text) == (410, True)
    second, revoked = link()
    assert post(anna, f"/jobs/{number}/shares/{second}/revoke").status_code == 303
    assert "was ended" in root.get(revoked).text
    _, gone = link()
    root.post(f"/api/v1/jobs/{number}/retract", json={"reason": "wrong side"})
    assert (anna.get(gone).status_code, "no longer kept" in anna.get(gone).text) == (410, True)
    assert anna.post(f"/api/v1/jobs/{number}/share", json={}).status_code == 409


def test_links_are_their_makers_and_the_administrators(
    anna: Person, root: Person, finish: Any, database: Database
) -> None:
    number = finish()
    mine = anna.post(f"/api/v1/jobs/{number}/share", json={}).get_json()["id"]
    theirs = root.post(f"/api/v1/jobs/{number}/share", json={}).get_json()["id"]

    def listed(person: Person) -> list[int]:
        return [one["id"] for one in person.get(f"/api/v1/jobs/{number}/shares").get_json()["shares"]]

    assert listed(anna) == [mine]
    assert listed(root) == [theirs, mine]
    assert anna.post(f"/api/v1/shares/{theirs}/revoke").status_code == 404
    assert root.post(f"/api/v1/shares/{mine}/revoke").status_code == 200
    assert listed(anna) == []


def test_a_link_lasts_no_longer_than_is_allowed(anna: Person, finish: Any) -> None:
    number = finish()
    for days in (8, 0, "soon"):
        assert anna.post(f"/api/v1/jobs/{number}/share", json={"days": days}).status_code == 422
    assert anna.post("/api/v1/jobs/99/share", json={}).status_code == 404


def test_a_judgement_is_saved_changed_and_withdrawn_by_plain_forms(
    anna: Person, finish: Any, database: Database
) -> None:
    number = finish()
    where = {f"rectangle.{name}": value for name, value in (("x", 1), ("y", 2), ("width", 3), ("height", 4))}
    answer = post(anna, f"/jobs/{number}/judgement", verdict="invented", note="a rib twice", **where)
    assert answer.location == f"/jobs/{number}#judgement"
    page = anna.get(f"/jobs/{number}").text
    assert "a rib twice" in page
    assert "3 × 4 pixels at 1, 2" in page
    assert post(anna, f"/jobs/{number}/judgement", verdict="good").status_code == 303
    assert "a rib twice" not in anna.get(f"/jobs/{number}").text
    assert post(anna, f"/jobs/{number}/judgement", verdict="superb").status_code == 422
    far = {**where, "rectangle.x": 400}
    assert post(anna, f"/jobs/{number}/judgement", verdict="good", **far).status_code == 409
    assert post(anna, f"/jobs/{number}/judgement/withdraw").status_code == 303
    assert post(anna, f"/jobs/{number}/judgement/withdraw").status_code == 404
    kinds = [action for action in audited(database) if action.startswith("judgement")]
    assert kinds == ["judgement.put", "judgement.put", "judgement.withdraw"]


def test_administrators_read_and_export_judgements_without_names(
    anna: Person, root: Person, finish: Any
) -> None:
    numbers = [finish() for _ in range(3)]
    for number, verdict in zip(numbers, ("good", "bad", "invented"), strict=True):
        body = {"verdict": verdict, "note": "=1+1", "rectangle": {"x": 0, "y": 0, "width": 2, "height": 2}}
        assert anna.post(f"/api/v1/jobs/{number}/judgement", json=body).status_code == 200
    for path in ("/api/v1/judgements", "/api/v1/judgements.csv", "/admin/judgements"):
        assert anna.get(path).status_code == 403
    first = root.get("/api/v1/judgements?limit=2").get_json()
    rest = root.get(f"/api/v1/judgements?limit=2&cursor={first['next']}").get_json()
    found = first["judgements"] + rest["judgements"]
    assert [one["job_id"] for one in found] == numbers[::-1]
    assert rest["next"] is None
    assert (found[0]["model"], found[0]["version"], found[0]["scale"]) == ("srgan", "1", 2)
    assert found[0]["sop_instance_uid"] == f"1.8.{numbers[-1]}.1"
    assert found[0]["figures"] == {"seconds": 1.5}
    assert [one["job_id"] for one in root.get("/api/v1/judgements?verdict=bad").get_json()["judgements"]] == [
        numbers[1]
    ]
    table = root.get("/api/v1/judgements.csv?model=srgan 1&since=2020-01-01")
    assert table.mimetype == "text/csv"
    assert table.text.count("'=1+1") == 3
    page = root.get("/admin/judgements?verdict=good&model=&since=&until=").text
    assert page.count("=1+1") == 1
    for text in (str(found), table.text, page):
        assert "Zzyzx" not in text
        assert jobs.PATIENT_ID not in text
    assert root.get("/admin/judgements?verdict=superb").status_code == 422
    assert "Nothing matches" in root.get("/admin/judgements?until=2020-01-01").text


def test_held_results_follow_each_other_until_none_waits(
    anna: Person, finish: Any, database: Database
) -> None:
    first, second, third = (finish(to=(PACS,), release="review") for _ in range(3))
    assert anna.get("/review").location == f"/review/{first}"
    page = anna.get(f"/review/{first}").text
    assert "3 results wait" in page
    assert anna.get(f"/review?after={first}").location == f"/review/{second}"
    released = post(anna, f"/review/{first}/release")
    assert released.location == f"/review?after={first}"
    assert jobs.state(database, first) == JobState.DELIVERING
    assert anna.get(released.location).location == f"/review/{second}"
    post(anna, f"/review/{second}/reject", why="invented")
    assert jobs.state(database, second) == JobState.CANCELLED
    job = anna.get(f"/api/v1/jobs/{second}").get_json()
    assert (job["reason"], job["reason_code"]) == ("rejected: invented detail", "rejected")
    said = anna.get(f"/api/v1/jobs/{second}/judgements").get_json()["judgements"]
    assert [one["verdict"] for one in said] == ["invented"]
    post(anna, f"/review/{third}/reject", why="needless")
    assert "No result waits" in anna.get("/review").text
    assert anna.get(f"/api/v1/jobs/{third}/judgements").get_json()["judgements"] == []
    assert {"job.release", "job.reject"} <= set(audited(database))


def test_what_another_decided_meanwhile_is_shown_and_stays(
    anna: Person, root: Person, finish: Any, database: Database
) -> None:
    number = finish(to=(PACS,), release="review")
    assert root.post(f"/api/v1/jobs/{number}/reject", json={"why": "wrong"}).status_code == 200
    late = post(anna, f"/review/{number}/release")
    assert late.location == f"/review/{number}"
    assert "does not wait any more" in anna.get(late.location).text
    assert jobs.state(database, number) == JobState.CANCELLED
    assert post(anna, f"/review/{number}/reject", why="bad").location == f"/review/{number}"
    assert anna.post(f"/api/v1/jobs/{number}/reject", json={"why": "bad"}).status_code == 409
    assert anna.post(f"/api/v1/jobs/{number}/reject", json={"why": "mood"}).status_code == 422


def test_the_interface_tells_what_waits(anna: Person, visitor: Person, finish: Any) -> None:
    assert anna.get("/api/v1/review").get_json() == {"waiting": 0, "next": None}
    number = finish(release="review")
    assert anna.get("/api/v1/review").get_json() == {"waiting": 1, "next": number}
    assert visitor.get("/api/v1/review").status_code == 401
    assert visitor.get("/review").location.startswith("/login")


def test_chosen_jobs_come_in_one_archive(anna: Person, finish: Any) -> None:
    numbers = [finish(), finish()]
    answer = post(anna, "/chosen/results.zip", job=numbers)
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert len(archive.namelist()) == 3
    for wrong in ({}, {"job": "x"}, {"job": numbers, "kind": "exe"}):
        refused = post(anna, "/chosen/results.zip", **wrong)
        assert (refused.status_code, refused.mimetype) == (422, "text/html")


def test_all_that_match_the_filter_come_in_one_archive(
    anna: Person, finish: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = [finish(), finish()]
    waiting = anna.upload(("b.dcm", dicom("1.2.99"))).get_json()["jobs"][0]["id"]
    answer = post(anna, "/chosen/results.zip", all="1", state="done", job=waiting)
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert len(archive.namelist()) == 3
    asked = post(anna, "/chosen/send", all="1", state="done").text
    assert all(f'name="job" value="{number}"' in asked for number in finished)
    assert f'value="{waiting}"' not in asked
    assert post(anna, "/chosen/send", all="1", state="odd").status_code == 400
    monkeypatch.setattr(results, "MANY", 1)
    refused = post(anna, "/chosen/results.zip", all="1", state="done")
    assert refused.status_code == 422
    assert "At most 1 jobs at once" in refused.text


def test_chosen_jobs_are_sent_after_a_destination_was_chosen(
    anna: Person, finish: Any, database: Database
) -> None:
    numbers = [finish(), finish(to=(PACS,))]
    asked = post(anna, "/chosen/send", job=numbers).text
    assert "2 jobs are chosen" in asked
    assert asked.count('name="job"') == 2
    assert "Choose a destination" in post(anna, "/chosen/send", job=numbers, confirm="1").text
    done = post(anna, "/chosen/send", job=numbers, confirm="1", destination="pacs").text
    assert "1 result is on its way" in done
    assert "on its way to pacs already" in done
    assert jobs.state(database, numbers[0]) == JobState.DELIVERING
    assert anna.client.post("/chosen/send", data={"job": numbers}).status_code == 403
