"""Upload and the pick of patient and study as plain pages, without JavaScript."""

from __future__ import annotations

import io

import pytest
from sqlalchemy import select

from config import Settings
from config.network import Archive
from db import Database, presence
from db.models import Job, Source
from tests.webui.conftest import Person, dicom, png
from tests.webui.test_batches import STUDIES, fetcher
from tests.webui.test_identity import ANSWER


@pytest.fixture
def settings(settings: Settings) -> Settings:
    old = Archive(name="old", ae_title="PACS", host="127.0.0.1", port=104)
    return settings.model_copy(update={"archives": (old,)})


def form(person: Person, path: str, **fields: str) -> str:
    answer = person.client.post(path, data={"csrf_token": person.csrf, **fields}, follow_redirects=True)
    return str(answer.text)


def test_the_sample_is_brought_in_as_an_upload_and_its_job_is_shown(anna: Person, database: Database) -> None:
    answer = anna.client.post("/upload/sample", data={"csrf_token": anna.csrf})
    assert answer.status_code == 303
    with database.read() as session:
        job = session.scalars(select(Job)).one()
        assert answer.headers["Location"] == f"/jobs/{job.id}"
        assert (job.source.media_type, job.source.origin_kind) == ("application/dicom", "upload")
    again = anna.client.post("/upload/sample", data={"csrf_token": anna.csrf})
    assert again.headers["Location"] == f"/jobs/{job.id}"


def test_the_page_offers_the_models_that_a_worker_tells(anna: Person, database: Database) -> None:
    assert 'name="model"' not in anna.get("/upload").text
    with presence.Presence(database, "worker", {"models": ["srgan", "srresnet"]}):
        page = anna.get("/upload").text
    assert "<option>srgan</option><option>srresnet</option>" in page


def test_several_files_of_the_plain_form_lead_to_their_jobs_and_to_the_upload(anna: Person) -> None:
    files = [(io.BytesIO(dicom()), "a.dcm"), (io.BytesIO(png()), "b.png"), (io.BytesIO(b"no"), "c.txt")]
    answer = anna.client.post("/upload", data={"csrf_token": anna.csrf, "file": files})
    assert answer.status_code == 202
    assert 'href="/jobs/1"' in answer.text
    assert "c.txt: This is neither DICOM" in answer.text
    assert 'href="/uploads/1"' in answer.text
    listed = anna.get("/uploads/1").text
    assert "a.dcm" in listed
    assert "2 images" in listed
    assert anna.get("/uploads/2").status_code == 404


def test_a_study_is_searched_and_picked_without_javascript(anna: Person, database: Database) -> None:
    body = anna.upload(("film.png", png()), PatientName="Typed^Name").get_json()
    job = body["jobs"][0]["id"]
    page = anna.get(f"/jobs/{job}").text
    assert f'href="/jobs/{job}/identity"' in page
    assert "Typed, Name" in anna.get(f"/jobs/{job}/identity").text
    assert "Enter a patient" in form(anna, f"/jobs/{job}/identity", archive="old")
    with fetcher(database, ANSWER | {"studies": STUDIES, "more": False}) as asked:
        found = form(anna, f"/jobs/{job}/identity", archive="old", patient="K*")
        assert found.count('name="study"') == 3
        assert "checked" not in found  # nobody's name is proposed
        assert "Kim, Nr1" in found
        assert 'name="destination" value="pacs"' in found
        assert "Choose a study." in form(anna, f"/jobs/{job}/identity/pick", archive="old")
        shown = form(anna, f"/jobs/{job}/identity/pick", archive="old", study="1.2.3.1", destination="pacs")
    assert "Picked from old" in shown
    assert asked[-1]["study"] == "1.2.3.1"
    with database.read() as session:
        assert len(session.scalars(select(Source)).all()) == 2


def test_a_dicom_image_has_nothing_to_pick(anna: Person) -> None:
    job = anna.upload(("a.dcm", dicom())).get_json()["jobs"][0]["id"]
    assert "identity" not in anna.get(f"/jobs/{job}").text
    assert anna.get(f"/jobs/{job}/identity").status_code == 404
    assert anna.get("/jobs/99/identity").status_code == 404
