"""The dashboard and its routes: how the node stands, and in one sentence why an object is not in the PACS."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from flask import Flask
from sqlalchemy import select, update

from db import Database, deliveries, pauses, people, queue
from db.desk import Alert
from db.models import AuditEvent, Delivery, Job, PeerStatus, Source
from db.objects import ObjectStore
from db.presence import Presence
from db.states import JobState
from db.types import utcnow
from tests.webui import jobs
from tests.webui.conftest import PACS, Person, dicom
from webui.memo import Memo
from webui.services import Services


@pytest.fixture
def ask(anna: Person, here: Services):
    """Return a function that asks the page about a text and gives its sentences."""

    def ask(text: str = jobs.ACCESSION) -> list[str]:
        here.memo.forget()
        page = anna.post("/dashboard", data={"q": text, "csrf_token": anna.csrf})
        assert page.status_code == 200
        found = re.search(r'data-live="answer".*?</section>', page.text, re.DOTALL)
        assert found is not None
        said = re.findall(r"<p(?: [^>]*)?>(.*?)</p>", found[0], re.DOTALL)
        return [unescape(re.sub(r"<[^>]+>", "", one)).strip() for one in said]

    return ask


@pytest.fixture
def image(anna: Person, database: Database, store: ObjectStore) -> int:
    """The number of a job whose image was examined."""
    number = int(anna.upload(("a.dcm", dicom())).get_json()["jobs"][0]["id"])
    jobs.examine(database, store, number)
    return number


def send(database: Database, how) -> None:
    """Let the sender take the delivery and end it."""
    with database.write() as session:
        lease = deliveries.claim(session, "sender", "pacs", 60)
        assert lease is not None
        how(session, lease)


def test_an_image_that_nobody_sent_was_not_received(ask, image) -> None:
    (said, *_more) = ask("ACC-0")
    assert said.startswith("Not received. No object of that patient, accession number or UID has come here")


def test_received_images_that_nobody_examined_are_spoken_of(ask, anna: Person) -> None:
    anna.upload(("a.dcm", dicom()))
    assert "One received object has not been examined yet: whose it is, is not known." in ask()


def test_a_waiting_image_says_what_it_waits_for(ask, image, database: Database) -> None:
    assert ask() == ["It waits for a worker, and none is running."]
    with Presence(database, "worker"):
        assert ask() == ["It waits for a worker and is the next."]
        with database.write() as session:
            source = session.scalars(select(Source)).one()
            queue.enqueue(session, source).priority = 0
        assert "It waits for a worker; one other is before it." in ask()
        with database.write() as session:
            pauses.pause(session, pauses.PROCESSING, actor="root")
        assert ask()[0].startswith("It waits: processing has been paused since ")


def test_a_retry_says_when_and_why(ask, image, database: Database) -> None:
    with database.write() as session:
        lease = queue.claim(session, "worker", 60)
        assert lease is not None
        queue.retry_later(session, lease, "model", "NaN found", max_attempts=3, base=600, longest=900)
    (said,) = ask()
    assert re.fullmatch(r"It is tried again at .+ UTC, after attempt 1: NaN found\.", said)


def test_a_running_and_a_held_image_say_so(ask, image, database: Database, store: ObjectStore) -> None:
    jobs.finish(database, store, to=(PACS,), release="review")
    (said,) = ask()
    assert re.fullmatch(r"Enhanced at .+; it waits for a person to release it\.", said)
    with database.write() as session:
        session.execute(update(Job).values(state=JobState.RUNNING, started_at=utcnow()))
    assert ask()[0].startswith("A worker has been at it since ")


def test_an_image_left_out_says_by_which_rule(ask, image, database: Database) -> None:
    with database.write() as session:
        lease = queue.claim(session, "worker", 60)
        assert lease is not None
        queue.skip(session, lease, "rule", "lateral views are not enhanced")
        session.execute(update(Job).values(rule="only frontal"))
    assert ask() == ["Not enhanced, by the rule “only frontal”: lateral views are not enhanced."]


def test_programs_are_told_the_same(image, anna: Person, database: Database) -> None:
    jobs.fail(database, "no <pixels>")
    found = anna.post("/api/v1/dashboard/why", json={"text": jobs.ACCESSION}).get_json()
    (one,) = found["objects"]
    assert (one["job"], one["state"], found["more"]) == (image, "failed", False)
    assert one["sentence"] == "Failed after one attempt: no <pixels>."
    assert anna.post("/api/v1/dashboard/why", json={"text": "ACC-0"}).get_json()["objects"] == []
    assert anna.post("/api/v1/dashboard/why", json={"text": ""}).status_code == 422


def test_a_failed_image_says_why_without_markup_of_others(ask, image, database: Database) -> None:
    jobs.fail(database, "<b>no pixels</b>")
    assert ask() == ["Failed after one attempt: <b>no pixels</b>."]


def test_a_cancelled_one_says_who_did_it(ask, image, anna: Person) -> None:
    anna.post(f"/api/v1/jobs/{image}/cancel")
    assert ask() == ["Cancelled by anna."]


def test_a_result_with_nowhere_to_go_says_so(ask, image, database: Database, store: ObjectStore) -> None:
    jobs.finish(database, store)
    assert ask() == ["Done; no rule and no person sends it anywhere."]


def test_a_delivery_says_where_it_stands(ask, image, database: Database, store: ObjectStore) -> None:
    jobs.finish(database, store, to=(PACS,))
    assert ask() == ["Result waits to go to pacs, and no sender is running."]
    with Presence(database, "sender"):
        assert ask() == ["Result waits to go to pacs."]
        with database.write() as session:
            session.add(PeerStatus(name="pacs", reachable=False, changed_at=utcnow(), message="refused."))
        (said,) = ask()
        assert re.fullmatch(r"Result waits: pacs has been unreachable since .+ UTC \(refused\)\.", said)
        with database.write() as session:
            pauses.pause(session, pauses.of_destination("pacs"), actor="root")
        assert ask()[0].startswith("Result waits: delivery to pacs has been paused since ")
        with database.write() as session:
            pauses.resume(session, pauses.of_destination("pacs"))
            session.execute(update(PeerStatus).values(reachable=True))
        send(database, lambda session, lease: None)
        assert ask() == ["Result on its way to pacs now."]


def test_an_arrival_says_when_and_whether_it_is_promised(
    ask, image, database: Database, store: ObjectStore
) -> None:
    jobs.finish(database, store, to=(PACS,))
    send(database, lambda session, lease: deliveries.stored(session, lease, 0, actor="sender"))
    assert re.fullmatch(r"Result in pacs since .+ UTC\.", ask()[0])
    with database.write() as session:
        session.execute(update(Delivery).values(commitment=True))
    assert ask()[0].endswith("its promise to keep it is awaited.")
    with database.write() as session:
        session.execute(update(Delivery).values(state="committed", committed_at=utcnow()))
    assert re.fullmatch(r"Result in pacs, which has promised to keep it since .+ UTC\.", ask()[0])


def test_a_refused_delivery_says_what_the_archive_said(
    ask, image, database: Database, store: ObjectStore
) -> None:
    jobs.finish(database, store, to=(PACS,))
    send(
        database,
        lambda session, lease: deliveries.fail(session, lease, "0xA700: out of room.", actor="sender"),
    )
    assert ask() == ["Result refused by pacs: 0xA700: out of room."]


def test_nothing_that_was_asked_stands_in_an_address_or_the_trail(
    ask, image, database: Database, anna: Person
) -> None:
    ask()
    with database.read() as session:
        found = session.scalars(select(AuditEvent).where(AuditEvent.action == "jobs.search")).one()
    assert jobs.ACCESSION not in str(found.detail)
    page = anna.post("/dashboard", data={"q": jobs.ACCESSION, "csrf_token": anna.csrf}).text
    assert not re.search(rf'(href|action)="[^"]*{jobs.ACCESSION}', page)


def test_the_dashboard_tells_how_the_node_stands(
    root: Person, image, database: Database, store: ObjectStore, here: Services
) -> None:
    jobs.finish(database, store, to=(PACS,))
    root.upload(("b.dcm", dicom("1.2.9")), ("c.dcm", dicom("1.2.10")))
    failed = jobs.fail(database)
    load = {"memory": 2e9, "processor": 0.5, "busy": 0.25, "device-memory": 0.5}
    with database.write() as session:
        session.add(PeerStatus(name="pacs", reachable=False, changed_at=utcnow(), message="refused"))
        session.add(Alert(kind="unreachable", subject="pacs", message="pacs is silent", trouble="no mail"))
        pauses.pause(session, pauses.INTAKE, actor="root", reason="moving")
    here.memo.forget()
    with Presence(database, "worker", {"device": "cuda:0", "load": load}):
        found = root.get("/api/v1/dashboard").get_json()
        page = root.get("/dashboard").text
    assert (found["jobs"]["queued"], found["jobs"]["delivering"]) == (1, 1)
    assert found["oldest_waiting"]["job"] > failed
    (group,) = found["failures"]
    assert (group["code"], group["count"], group["newest_job"]) == ("decode", 1, failed)
    (pacs,) = found["deliveries"]
    assert (pacs["waiting"], pacs["reachable"], pacs["message"]) == (1, False, "refused")
    worker = next(role for role in found["roles"] if role["role"] == "worker")
    (process,) = worker["processes"]
    assert (process["memory_bytes"], process["busy"], process["device_memory"]) == (2e9, 0.25, 0.5)
    assert found["disk"]["accepts"]
    assert not found["forecast"]["enough"]
    assert [pause["what"] for pause in found["pauses"]] == ["intake"]
    for words in ("pacs is silent", "no mail", "the decoder died", "25 % of the time at work", "moving",
                  "unreachable since", "figures of six hours are needed"):  # fmt: skip
        assert words in page, words


def test_the_dashboard_is_where_administrators_land(root: Person, anna: Person) -> None:
    assert root.get("/").headers["Location"] == "/dashboard"
    assert anna.get("/").headers["Location"] == "/queue"
    assert anna.get("/dashboard").status_code == 200


def test_tokens_that_end_are_shown_to_administrators(root: Person, anna: Person, database: Database) -> None:
    with database.write() as session:
        person = people.named(session, "anna")
        assert person is not None
        people.create_token(session, person, "night-upload", days=3)
    assert "Token night-upload" in root.get("/dashboard").text
    assert "Token night-upload" not in anna.get("/dashboard").text


@pytest.mark.parametrize(("span", "parts"), [("hour", 60), ("day", 48), ("week", 56)])
def test_the_time_that_has_passed_is_told_in_parts(
    anna: Person, image, database: Database, span: str, parts: int
) -> None:
    jobs.fail(database)
    found = anna.get(f"/api/v1/dashboard/history?span={span}").get_json()
    assert (found["span"], len(found["parts"])) == (span, parts)
    assert sum(part["received"] for part in found["parts"]) == 1
    assert sum(part["failed"] for part in found["parts"]) == 1
    page = anna.get(f"/dashboard?span={span}").text
    assert page.count("<svg viewBox") >= 3
    assert "0 jobs done, 0 skipped, 1 failed in the last" in page
    assert page.count("<rect") >= 2


def test_an_odd_span_is_refused(anna: Person) -> None:
    assert anna.get("/dashboard?span=year").status_code == 400
    assert anna.get("/api/v1/dashboard/history?span=year").status_code == 422


def failures(person: Person, database: Database, number: int) -> None:
    for index in range(number):
        person.upload((f"{index}.dcm", dicom(f"1.2.77.{index}")))
        jobs.fail(database)


def test_failures_of_one_reason_are_retried_together(root: Person, database: Database) -> None:
    failures(root, database, 3)
    with database.write() as session:
        gone = session.scalars(select(Source).order_by(Source.id)).first()
        assert gone is not None
        gone.deleted_at = utcnow()
    found = root.post("/api/v1/dashboard/failures/retry", json={"code": "decode"}).get_json()
    assert (found["retried"], found["refused"], found["left"]) == (2, 1, 0)
    assert found["message"] == "2 jobs are tried again, 1 cannot be."
    with database.read() as session:
        states = session.scalars(select(Job.state).order_by(Job.id)).all()
        entry = session.scalars(select(AuditEvent).where(AuditEvent.action == "jobs.retry")).one()
    assert states == [JobState.FAILED, JobState.QUEUED, JobState.QUEUED]
    assert (entry.object_id, entry.detail["jobs"], entry.detail["refused"]) == ("decode", 2, 1)


def test_other_reasons_are_left_alone(root: Person, database: Database) -> None:
    failures(root, database, 1)
    assert root.post("/api/v1/dashboard/failures/retry", json={"code": "model"}).get_json()["retried"] == 0


def test_a_plain_form_retries_too_and_says_what_it_did(root: Person, database: Database) -> None:
    failures(root, database, 2)
    page = root.post("/dashboard/retry", data={"code": "decode", "csrf_token": root.csrf})
    assert "2 jobs are tried again." in page.text
    assert "No job has failed." in page.text


def test_a_radiologist_sees_failures_and_retries_none_together(anna: Person, database: Database) -> None:
    failures(anna, database, 1)
    assert "decode" in anna.get("/dashboard").text
    assert "/dashboard/retry" not in anna.get("/dashboard").text
    assert anna.post("/api/v1/dashboard/failures/retry", json={"code": "decode"}).status_code == 403
    assert anna.post("/dashboard/retry", data={"code": "decode", "csrf_token": anna.csrf}).status_code == 403


def test_alerts_of_the_past_are_listed_by_pages(anna: Person, database: Database) -> None:
    with database.write() as session:
        for number in range(60):
            over = utcnow() if number % 2 else None
            session.add(Alert(kind="disk", subject=str(number), message=f"alert {number}.", cleared_at=over))
    page = anna.get("/dashboard/alerts").text
    assert "alert 59." in page
    assert "alert 9." not in page
    older = re.search(r'href="(/dashboard/alerts\?before=\d+)"', page)
    assert older is not None
    assert "alert 9." in anna.get(older[1]).text
    first = anna.get("/api/v1/alerts?limit=50").get_json()
    rest = anna.get(f"/api/v1/alerts?limit=50&cursor={first['next']}").get_json()
    assert (len(first["alerts"]), len(rest["alerts"]), rest["next"]) == (50, 10, None)
    assert anna.get("/dashboard/alerts?before=x").status_code == 400


def test_a_store_that_does_not_answer_leaves_the_page_standing(
    app: Flask, anna: Person, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: ObjectStore) -> None:
        raise OSError("no route")

    monkeypatch.setattr(type(store), "room", broken)
    assert "The object store does not answer." in anna.get("/dashboard").text


class TestMemo:
    def test_an_answer_is_kept_for_its_time_and_then_made_anew(self) -> None:
        now = [0.0]
        memo, made = Memo(lambda: now[0]), []
        for moment in (0.0, 0.9, 1.1):
            now[0] = moment
            memo.get("a", 1.0, lambda: made.append(1))
        assert len(made) == 2

    def test_one_that_took_long_is_kept_longer(self) -> None:
        now = [0.0]
        memo, made = Memo(lambda: now[0]), []

        def slow() -> None:
            now[0] += 2.0
            made.append(1)

        memo.get("a", 1.0, slow)
        now[0] = 21.0
        memo.get("a", 1.0, slow)
        assert len(made) == 1

    def test_no_error_is_kept(self) -> None:
        memo = Memo()
        with pytest.raises(ZeroDivisionError):
            memo.get("a", 60, lambda: 1 / 0)
        assert memo.get("a", 60, lambda: 5) == 5


def test_a_retry_that_waits_is_not_called_unreachable(
    ask, image, database: Database, store: ObjectStore
) -> None:
    jobs.finish(database, store, to=(PACS,))
    send(
        database,
        lambda session, lease: deliveries.retry_later(
            session, lease, "busy", base=600, longest=900, actor="sender"
        ),
    )
    with Presence(database, "sender"):
        (said,) = ask()
    assert re.fullmatch(r"Result is sent to pacs again at .+ UTC, after attempt 1: busy\.", said)
    with database.write() as session:
        session.execute(update(Delivery).values(expires_at=utcnow() - timedelta(hours=1)))
        deliveries.expire(session)
    assert ask() == ["Result given up for pacs after one attempt: busy."]
