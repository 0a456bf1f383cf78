"""Patient and study of an uploaded picture, picked from an archive by the sender's process."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import select

from config import Settings
from config.network import Archive, Destination
from db import Database, picks, presence
from db.models import AuditEvent, Job, Source
from db.objects import ObjectStore
from db.states import JobState
from tests.webui.conftest import Person, dicom, png
from tests.webui.test_batches import fetcher
from webui import errands

STUDY = {
    "PatientName": "Kim^Minsu",
    "PatientID": "K-1",
    "IssuerOfPatientID": "",
    "PatientBirthDate": "19700203",
    "PatientSex": "F",
    "StudyInstanceUID": "1.2.3.4",
    "StudyID": "",
    "StudyDate": "20240105",
    "StudyTime": "",
    "AccessionNumber": "A-1",
    "ReferringPhysicianName": "",
    "StudyDescription": "Thorax",
}
ANSWER = {"ok": True, "message": "", "identity": STUDY}
OLD = Archive(name="old", ae_title="PACS", host="127.0.0.1", port=104)
ELSEWHERE = Destination(name="elsewhere", ae_title="ELSE", host="127.0.0.1", port=105)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    destinations = (*settings.destinations, ELSEWHERE)
    return settings.model_copy(update={"archives": (OLD,), "destinations": destinations})


@pytest.fixture
def picture(anna: Person) -> int:
    """Return the number of a job that waits, of a picture."""
    body = anna.upload(("film.png", png()), PatientName="Typed^Name", scale="2", priority="stat").get_json()
    return int(body["jobs"][0]["id"])


def pick(person: Person, job: int, **more: Any) -> Any:
    return person.post(f"/api/v1/jobs/{job}/identity", json={"archive": "old", "study": "1.2.3.4"} | more)


def test_a_pick_makes_a_job_of_the_same_picture_under_what_the_archive_says(
    anna: Person, database: Database, store: ObjectStore, picture: int
) -> None:
    with fetcher(database, ANSWER) as asked:
        answer = pick(anna, picture, destination=["pacs"])
    assert answer.status_code == 202, answer.get_json()
    assert (asked[0]["archive"], asked[0]["study"]) == ("old", "1.2.3.4")
    body = answer.get_json()
    assert body["replaces"] == picture
    with database.read() as session:
        old, new = session.get_one(Job, picture), session.get_one(Job, body["job"]["id"])
        assert old.state == JobState.CANCELLED  # nothing had been made of it yet
        assert (new.state, new.priority) == (JobState.QUEUED, 0)
        assert new.requested == {"scale": 2, "destinations": ["pacs"], "replaces": picture}
        said = new.source.demographics
        assert said["PatientName"] == "Typed^Name"
        assert said["picked"]["study"] == STUDY
        assert said["picked"]["archive"] == {
            "name": "old", "kind": "dimse", "ae_title": "PACS", "host": "127.0.0.1", "port": 104,
        }  # fmt: skip
        assert new.source.sha256 == old.source.sha256
        with store.open(new.source.object_key) as stream:
            assert stream.read() == png()
        assert picks.PICKED not in (old.source.demographics or {})
        rows = {row.action: row for row in session.scalars(select(AuditEvent))}
    assert rows["job.identify"].detail == {"archive": "old", "job": body["job"]["id"]}
    assert "Kim" not in json.dumps([row.detail for row in rows.values()])
    assert not [path for path in store.spool.rglob("*") if path.is_file()]


def test_a_pick_that_is_sent_twice_makes_one_job(anna: Person, database: Database, picture: int) -> None:
    with fetcher(database, ANSWER):
        with database.write() as session:
            session.get_one(Job, picture).state = JobState.RUNNING
        first, second = pick(anna, picture), pick(anna, picture)
        assert first.get_json()["job"]["id"] == second.get_json()["job"]["id"]
        again = pick(anna, first.get_json()["job"]["id"])
    assert (again.status_code, again.get_json()["type"]) == (409, "urn:cxr-sr:problem:picked-already")
    with database.read() as session:
        assert len(session.scalars(select(Source)).all()) == 2


def test_only_pictures_that_are_kept_and_worth_it_are_picked_for(
    anna: Person, database: Database, picture: int
) -> None:
    ready = anna.upload(("a.dcm", dicom())).get_json()["jobs"][0]["id"]
    assert pick(anna, ready).get_json()["type"] == "urn:cxr-sr:problem:not-a-picture"
    with database.write() as session:
        session.get_one(Job, picture).state = JobState.SKIPPED
    assert pick(anna, picture).get_json()["type"] == "urn:cxr-sr:problem:state"
    with database.write() as session:
        job = session.get_one(Job, picture)
        job.state, job.source.deleted_at = JobState.QUEUED, job.created_at
    assert pick(anna, picture).get_json()["type"] == "urn:cxr-sr:problem:object-gone"
    assert pick(anna, 999).status_code == 404


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ({"archive": "moon"}, 404),
        ({"study": "1.2.3*"}, 422),
        ({"study": "1.2\\3"}, 422),
        ({"destination": ["elsewhere"]}, 422),
        ({"destination": ["moon"]}, 422),
        ({"PatientName": "Typed^Name"}, 422),
    ],
)
def test_a_pick_is_of_one_study_of_a_configured_archive_and_goes_nowhere_else(
    anna: Person, picture: int, wrong: dict[str, Any], status: int
) -> None:
    assert pick(anna, picture, **wrong).status_code == status


def test_what_the_archive_does_not_say_is_not_made_up(
    anna: Person, database: Database, picture: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pick(anna, picture).get_json()["type"] == "urn:cxr-sr:problem:role-missing"
    with fetcher(database, {"ok": False, "message": "the archive does not have this study"}):
        answer = pick(anna, picture)
    assert answer.status_code == 502
    assert "does not have this study" in answer.get_json()["detail"]
    monkeypatch.setattr(errands, "ARCHIVE_SECONDS", 0.2)
    with presence.Presence(database, "sender"):
        assert pick(anna, picture).status_code == 504
    with database.read() as session:
        assert len(session.scalars(select(Job)).all()) == 1


def test_a_form_cannot_say_that_something_was_picked(anna: Person, database: Database) -> None:
    anna.upload(("film.png", png()), picked='{"archive": {"name": "old"}}', PatientName="Typed^Name")
    with database.read() as session:
        assert session.scalars(select(Source)).one().demographics == {"PatientName": "Typed^Name"}
