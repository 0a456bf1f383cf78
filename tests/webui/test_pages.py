"""The pages as the server renders them, before any script."""

from __future__ import annotations

import io
import os
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from db import Database
from db.models import Result, WebSession
from db.objects import ObjectStore
from db.types import utcnow
from tests.webui.conftest import PACS, Person, dicom
from tests.webui.jobs import ACCESSION, NAME, PATIENT_ID, examine, fail, finish
from webui import assets
from webui.pages import queue as queue_page

NOTICE = "AI-processed, research use; not for diagnosis; compare with the original."
PAGES = ("/queue", "/upload", "/system", "/account")


def bring(person: Person, instance: str = "1.2.3.4") -> int:
    answer = person.upload(("x.dcm", dicom(instance)))
    assert answer.status_code == 202
    return int(answer.get_json()["jobs"][0]["id"])


def title(html: str) -> str:
    found = re.search("<title>(.*?)</title>", html)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("path", [*PAGES, "/login", "/jobs/1", "/nowhere"])
def test_every_page_says_that_it_is_not_for_diagnosis(anna: Person, visitor: Person, path: str) -> None:
    person = visitor if path == "/login" else anna
    assert NOTICE in person.get(path).text


@pytest.mark.parametrize("path", [*PAGES, "/login"])
def test_no_page_has_a_script_or_a_style_of_its_own(anna: Person, visitor: Person, path: str) -> None:
    html = (visitor if path == "/login" else anna).get(path).text
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script>|javascript:|https?://(?!www\.w3\.org)", html)


def test_patient_data_stand_on_pages_but_in_no_title_and_no_link(
    anna: Person, database: Database, store: ObjectStore
) -> None:
    job_id = bring(anna)
    examine(database, store, job_id)
    finish(database, store)
    for path in ("/queue", f"/jobs/{job_id}"):
        html = anna.get(path).text
        assert "Zzyzx, Marker" in html
        assert PATIENT_ID in html
        marks = (NAME, "Zzyzx", PATIENT_ID, ACCESSION)
        held = [title(html), *re.findall(r'(?:href|src|action|data-api)="([^"]*)"', html)]
        assert not [text for text in held for mark in marks if mark in text]


def test_a_result_beyond_its_model_says_so_on_its_page_and_in_the_interface(
    anna: Person, database: Database, store: ObjectStore
) -> None:
    job_id = bring(anna)
    examine(database, store, job_id)
    finish(database, store)
    assert "more care than others" not in anna.get(f"/jobs/{job_id}").text
    caveat = {"code": "fine", "sentence": "Its pixels are 0.14 mm wide & finer."}
    with database.write() as session:
        (result,) = session.scalars(select(Result))
        result.figures = {"caveats": [caveat], "bound": {"median": 0.021, "p99": 0.13}}
    html = anna.get(f"/jobs/{job_id}").text
    assert "more care than others" in html
    assert "Its pixels are 0.14 mm wide &amp; finer." in html
    assert "2.1 %" in html
    assert anna.get(f"/api/v1/jobs/{job_id}").get_json()["result"]["caveats"] == [caveat]


@pytest.mark.parametrize("wanted", ["zzyzx, marker", "marker", PATIENT_ID, ACCESSION, "1.9.1"])
def test_a_search_finds_by_name_id_accession_number_and_uid(
    anna: Person, database: Database, store: ObjectStore, wanted: str
) -> None:
    job_id, other = bring(anna), bring(anna, "1.2.3.5")
    examine(database, store, job_id)
    html = anna.post("/queue", data={"q": wanted}).text
    assert f"/jobs/{job_id}" in html
    assert f"/jobs/{other}" not in html


def test_a_search_can_be_narrowed_to_a_state_and_widened_again(
    anna: Person, database: Database, store: ObjectStore
) -> None:
    job_id = bring(anna)
    examine(database, store, job_id)
    asked = {"q": "marker", "state": "", "after": "7"}
    assert f"/jobs/{job_id}" not in anna.post("/queue", data=asked | {"only": "failed"}).text
    assert f"/jobs/{job_id}" in anna.post("/queue", data=asked | {"only": "queued"}).text
    assert f"/jobs/{job_id}" in anna.post("/queue", data=asked | {"state": "failed", "only": ""}).text


def test_a_search_by_days_leaves_out_what_came_on_others(anna: Person) -> None:
    job_id = bring(anna)
    for days, there in (({"until": "2001-01-01"}, False), ({"since": "2001-01-01"}, True)):
        answer = anna.post("/queue", data=days, follow_redirects=True)
        assert (f"/jobs/{job_id}" in answer.text) is there


@pytest.mark.parametrize(
    ("path", "data"),
    [("/queue?state=lost", None), ("/queue?after=x", None), ("/queue", {"since": "yesterday"})],
)
def test_what_no_page_of_ours_asks_for_is_a_bad_request(
    anna: Person, path: str, data: dict[str, str] | None
) -> None:
    answer = anna.get(path) if data is None else anna.post(path, data=data)
    assert answer.status_code == 400


def test_older_jobs_follow_page_by_page_and_none_twice(anna: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_page, "PAGE", 2)
    made = [bring(anna, f"1.2.3.{n}") for n in range(5)]
    path, seen = "/queue", []
    while path:
        html = anna.get(path).text
        seen += [int(number) for number in re.findall(r'data-key="(\d+)"', html)]
        older = re.search(r'rel="next" href="([^"]+)"', html)
        path = older[1].replace("&amp;", "&") if older else ""
    assert seen == made[::-1]


def test_older_jobs_of_a_search_follow_in_a_body(
    anna: Person, database: Database, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_page, "PAGE", 1)
    made = [bring(anna, f"1.2.3.{n}") for n in range(3)]
    for job_id in made:
        examine(database, store, job_id)
    first = anna.post("/queue", data={"q": "marker"}).text
    older = re.search(r'<button form="here" name="next" value="(\d+)">Older', first)
    assert older is not None
    second = anna.post("/queue", data={"q": "marker", "next": older[1]}).text
    assert re.findall(r'data-key="(\d+)"', second) == [str(made[1])]


def test_a_failed_job_says_why_in_the_queue_and_can_be_tried_again(anna: Person, database: Database) -> None:
    job_id = bring(anna)
    fail(database, "The pixels end early.")
    assert "The pixels end early." in anna.get("/queue?state=failed").text
    assert "Try again" in anna.get(f"/jobs/{job_id}").text
    answer = anna.post(f"/jobs/{job_id}/retry", data={"csrf_token": anna.csrf})
    assert answer.status_code == 303
    assert 'class="state tone-queued"' in anna.get(f"/jobs/{job_id}").text


def test_only_an_administrator_sees_how_to_retract(
    anna: Person, root: Person, database: Database, store: ObjectStore
) -> None:
    job_id = bring(anna)
    finish(database, store)
    assert "Retract" not in anna.get(f"/jobs/{job_id}").text
    assert "Retract" in root.get(f"/jobs/{job_id}").text


def test_a_retracted_result_is_not_shown(
    anna: Person, root: Person, database: Database, store: ObjectStore
) -> None:
    job_id = bring(anna)
    finish(database, store)
    assert "result.dcm" in anna.get(f"/jobs/{job_id}").text
    root.post(f"/api/v1/jobs/{job_id}/retract", json={"reason": "wrong side"})
    html = anna.get(f"/jobs/{job_id}").text
    assert "result.dcm" not in html
    assert "result.png" not in html
    assert "wrong side" in html


def test_a_held_result_can_be_released(anna: Person, database: Database, store: ObjectStore) -> None:
    job_id = bring(anna)
    finish(database, store, to=(PACS,), release="review")
    assert "Release" in anna.get(f"/jobs/{job_id}").text
    anna.post(f"/jobs/{job_id}/release", data={"csrf_token": anna.csrf})
    assert 'class="state tone-delivering"' in anna.get(f"/jobs/{job_id}").text


def test_an_action_that_the_state_forbids_is_a_plain_page_with_the_reason(
    anna: Person, database: Database, store: ObjectStore
) -> None:
    job_id = bring(anna)
    finish(database, store)
    answer = anna.post(f"/jobs/{job_id}/cancel", data={"csrf_token": anna.csrf})
    assert answer.status_code == 409
    assert answer.mimetype == "text/html"


def test_upload_by_a_plain_form_shows_what_became_of_each_file(anna: Person) -> None:
    def send(name: str, content: bytes) -> tuple[int, str]:
        answer = anna.client.post(
            "/upload",
            data={"csrf_token": anna.csrf, "scale": "auto", "file": [(io.BytesIO(content), name)]},
        )
        return answer.status_code, answer.text

    status, html = send("chest.dcm", dicom())
    assert status == 202
    assert "chest.dcm: <a" in html
    status, html = send("letter.txt", b"Dear colleague")
    assert status == 415
    assert 'role="alert">letter.txt: ' in html


def test_the_system_page_names_silent_roles_and_configured_destinations(anna: Person) -> None:
    html = anna.get("/system").text
    assert "silent" in html
    assert PACS.name in html
    assert "not asked yet" in html


def test_a_job_that_is_not_there_is_not_found(anna: Person) -> None:
    assert anna.get("/jobs/999").status_code == 404
    assert anna.get(f"/jobs/{1 << 70}").status_code == 404


def test_pages_work_plainly_while_the_front_end_is_not_built(
    anna: Person, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(assets, "MANIFEST", tmp_path / "manifest.json")
    html = anna.get("/queue").text
    assert "make build-web" in html
    assert "<script" not in html


def test_a_front_end_that_was_built_again_is_read_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    manifest = tmp_path / "manifest.json"
    monkeypatch.setattr(assets, "MANIFEST", manifest)
    for number, stamp in (("1", 1_000_000_000), ("2", 2_000_000_000)):
        manifest.write_text(
            f'{{"src/main.ts": {{"file": "assets/main-{number}.js", "css": ["assets/main-{number}.css"]}},'
            '"src/theme.ts": {"file": "assets/theme.js"}, "src/mark.svg": {"file": "assets/mark.svg"},'
            f'"{assets.FONT}": {{"file": "assets/text.woff2"}}}}'
        )
        os.utime(manifest, ns=(stamp, stamp))
        assert assets.files()["main.css"] == f"assets/main-{number}.css"


def test_what_a_page_asks_by_itself_does_not_show_that_someone_is_there(
    anna: Person, database: Database
) -> None:
    long_ago = utcnow() - timedelta(minutes=10)

    def seen() -> datetime:
        with database.read() as session:
            return session.scalars(select(WebSession.last_seen_at)).one()

    with database.write() as session:
        session.scalars(select(WebSession)).one().last_seen_at = long_ago
    anna.get("/queue", headers={"X-Background": "1"})
    assert seen() == long_ago
    anna.get("/queue")
    assert seen() > long_ago


def test_logged_in_visitors_do_not_see_the_login_again(anna: Person) -> None:
    assert anna.get("/login").headers["Location"] == "/"
    assert anna.get("/login?next=//elsewhere").headers["Location"] == "/"
