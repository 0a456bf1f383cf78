from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from config import Settings
from config.settings import QueueSettings
from db import Database
from db.intake import Arrival, Origin, intake
from db.models import Batch, Job, Source
from db.objects import LocalStore, ObjectStore, StoreFull
from db.states import JobState, Priority, Purpose
from tests.webui.conftest import Person, archive, dicom, png
from webui import door
from webui.app import create_app
from webui.services import Services


def _sources(database: Database) -> list[Source]:
    with database.read() as session:
        return list(session.scalars(select(Source).order_by(Source.id)))


def _jobs(database: Database) -> list[Job]:
    with database.read() as session:
        return list(session.scalars(select(Job).order_by(Job.id)))


def _spool(store: ObjectStore) -> list[Path]:
    return [path for path in store.spool.rglob("*") if path.is_file()]


def test_a_dicom_file_becomes_a_source_and_a_job(
    anna: Person, database: Database, store: ObjectStore
) -> None:
    content = dicom("1.2.3.4")
    answer = anna.upload(("chest.dcm", content))
    assert answer.status_code == 202
    body = answer.get_json()
    assert body["refused"] == []
    (job,) = body["jobs"]
    assert (job["state"], job["href"]) == ("queued", f"/api/v1/jobs/{job['id']}")
    (source,) = _sources(database)
    assert source.media_type == "application/dicom"
    assert source.sop_instance_uid == "1.2.3.4"
    assert source.sop_class_uid == "1.2.840.10008.5.1.4.1.1.1"
    assert source.transfer_syntax_uid == "1.2.840.10008.1.2.1"
    assert source.origin_kind == "upload"
    with store.open(source.object_key) as stream:
        assert stream.read() == content
    (row,) = _jobs(database)
    assert row.purpose == Purpose.MANUAL
    assert row.requested == {}
    assert _spool(store) == []


def test_a_picture_takes_the_demographics_and_wishes_of_the_form(anna: Person, database: Database) -> None:
    answer = anna.upload(
        ("scan.png", png()),
        scale="2", priority="stat", model="srresnet",
        PatientName="Doe^Jane", PatientID="42", PatientBirthDate="1980-02-29", PatientSex="f",
        ViewPosition="pa", StudyDate="2024-01-31",
    )  # fmt: skip
    assert answer.status_code == 202, answer.get_json()
    (source,) = _sources(database)
    assert source.media_type == "image/png"
    assert source.demographics == {
        "PatientName": "Doe^Jane", "PatientID": "42", "PatientBirthDate": "19800229", "PatientSex": "F",
        "ViewPosition": "PA", "StudyDate": "20240131",
    }  # fmt: skip
    (job,) = _jobs(database)
    assert job.requested == {"scale": 2, "model": "srresnet"}
    assert job.priority == Priority.STAT


def test_a_picture_is_refused_where_it_was_to_go_to_an_archive_and_a_dicom_file_is_not(
    anna: Person, database: Database, store: ObjectStore
) -> None:
    alone = anna.upload(("scan.png", png()), destination="pacs", PatientName="Doe^Jane", PatientID="42")
    assert (alone.status_code, alone.get_json()["type"]) == (422, "urn:cxr-sr:problem:not-picked")
    assert "picked from that archive" in alone.get_json()["detail"]
    both = anna.upload(("both.zip", archive({"a.dcm": dicom(), "b.png": png()})), destination="pacs")
    body = both.get_json()
    assert [job["file"] for job in body["jobs"]] == ["both.zip/a.dcm"]
    assert [(item["file"], item["kind"]) for item in body["refused"]] == [("both.zip/b.png", "not-picked")]
    (job,) = _jobs(database)
    assert job.requested == {"destinations": ["pacs"]}
    assert _spool(store) == []


def test_files_of_several_requests_form_one_batch_of_the_person_who_began_it(
    anna: Person, root: Person, database: Database
) -> None:
    batch = anna.post("/api/v1/uploads").get_json()["batch"]
    first = anna.upload(("a.dcm", dicom("1.2.1")), batch=str(batch)).get_json()
    second = anna.upload(("b.dcm", dicom("1.2.2")), batch=str(batch)).get_json()
    assert first["batch"] == second["batch"] == batch
    assert {job.batch_id for job in _jobs(database)} == {batch}
    assert root.upload(("c.dcm", dicom("1.2.3")), batch=str(batch)).status_code == 422
    assert anna.upload(("c.dcm", dicom("1.2.3")), batch="999").status_code == 422


def test_demographics_never_replace_those_of_a_dicom_file(anna: Person, database: Database) -> None:
    assert anna.upload(("chest.dcm", dicom()), PatientName="Other^Name").status_code == 202
    assert _sources(database)[0].demographics is None


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"\xff\xd8\xff\xe0" + b"\0" * 20, "image/jpeg"),
        (b"II*\0" + b"\0" * 20, "image/tiff"),
        (b"MM\0*" + b"\0" * 20, "image/tiff"),
    ],
)
def test_the_content_counts_and_not_the_name(
    anna: Person, database: Database, content: bytes, media_type: str
) -> None:
    assert anna.upload(("lie.dcm", content)).status_code == 202
    assert _sources(database)[0].media_type == media_type


def test_several_files_make_a_batch_and_a_bad_one_stops_no_good_one(anna: Person, database: Database) -> None:
    answer = anna.upload(("a.dcm", dicom("1.2.1")), ("notes.txt", b"not an image"), ("b.png", png()))
    body = answer.get_json()
    assert answer.status_code == 202
    assert [job["file"] for job in body["jobs"]] == ["a.dcm", "b.png"]
    assert [(item["file"], item["kind"]) for item in body["refused"]] == [
        ("notes.txt", "unsupported-content")
    ]
    assert len({job.batch_id for job in _jobs(database)} - {None}) == 1
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Batch)) == 1


@pytest.mark.parametrize(
    ("name", "content", "status", "kind"),
    [
        ("notes.txt", b"This is a text file.", 415, "unsupported-content"),
        ("empty.dcm", b"", 415, "unsupported-content"),
        ("page.png", b"<html><script>alert(1)</script>", 415, "unsupported-content"),
        ("cut.dcm", dicom()[:150], 422, "damaged"),
        ("cut.dcm", dicom()[:132], 422, "damaged"),
        ("headless.dcm", b"\0" * 128 + b"DICM" + b"\x08\0\x16\0UI\x04\0" + b"1.2\0", 422, "damaged"),
        ("paths.dcm", dicom("../../etc/passwd"), 422, "damaged"),
        ("cut.zip", archive({"a.dcm": dicom()})[:-30], 422, "damaged"),
        ("empty.zip", archive({}), 422, "empty"),
        ("nested.zip", archive({"inner.zip": archive({"a.dcm": dicom()})}), 415, "unsupported-content"),
    ],
)  # fmt: skip
def test_bad_input_gets_its_clear_answer_and_the_next_good_image_works(
    anna: Person, database: Database, store: ObjectStore, name: str, content: bytes, status: int, kind: str
) -> None:
    answer = anna.upload((name, content))
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    problem = answer.get_json()
    assert problem["type"] == f"urn:cxr-sr:problem:{kind}"
    assert problem["status"] == status
    assert problem["detail"].endswith(".")
    assert _sources(database) == []
    assert _spool(store) == []
    assert anna.upload(("good.dcm", dicom())).status_code == 202


def test_a_form_without_a_file_or_of_another_kind_is_refused(anna: Person) -> None:
    assert (
        anna.post("/api/v1/jobs", data={"scale": "2"}, content_type="multipart/form-data").status_code == 422
    )
    assert anna.post("/api/v1/jobs", data=b"x", content_type="application/dicom").status_code == 415


@pytest.mark.parametrize(
    "fields",
    [
        {"scale": "3"},
        {"priority": "at once"},
        {"destination": "nowhere"},
        {"model": "../../weights"},
        {"PatientSex": "X"},
        {"PatientBirthDate": "1980-02-31"},
        {"PatientName": "Back\\slash"},
        {"PatientID": "7" * 65},
        {"PatientName": "Line\nbreak"},
    ],
)
def test_a_wrong_field_is_named_without_repeating_its_value(
    anna: Person, database: Database, fields: dict[str, str]
) -> None:
    answer = anna.upload(("a.png", png()), **fields)
    assert answer.status_code == 422
    problem = answer.get_json()
    assert problem["errors"][0]["field"] == next(iter(fields))
    assert next(iter(fields.values())) not in json.dumps(problem)
    assert _sources(database) == []


def test_a_zip_is_opened_and_its_paths_are_never_used(
    anna: Person, database: Database, store: ObjectStore, settings: Settings
) -> None:
    content = archive(
        {
            "../../evil.dcm": dicom("1.2.1"),
            "/etc/b.dcm": dicom("1.2.2"),
            "folder/c.png": png(),
            "C:\\windows\\d.dcm": dicom("1.2.3"),
            "__MACOSX/._c.png": b"x",
            "folder/.DS_Store": b"x",
            "DICOMDIR": dicom("1.2.9"),
            "readme.txt": b"hello",
        }
    )
    body = anna.upload(("study.zip", content)).get_json()
    assert [job["file"] for job in body["jobs"]] == [
        "study.zip/evil.dcm", "study.zip/b.dcm", "study.zip/c.png", "study.zip/d.dcm",
    ]  # fmt: skip
    assert [item["file"] for item in body["refused"]] == ["study.zip/readme.txt"]
    found = {path for path in settings.data_dir.parent.rglob("*") if path.is_file()}
    assert all(settings.data_dir in path.parents for path in found)
    assert not any("evil" in path.name for path in found)
    assert _spool(store) == []


def test_a_zip_bomb_is_refused_before_it_fills_the_disk(
    anna: Person, database: Database, store: ObjectStore, settings: Settings
) -> None:
    bomb = archive({"zeros.dcm": b"\0" * (settings.web.max_upload_bytes + 1)})
    assert len(bomb) < 100_000
    answer = anna.upload(("bomb.zip", bomb))
    assert answer.status_code == 413
    assert answer.get_json()["type"] == "urn:cxr-sr:problem:archive-too-large"
    assert _spool(store) == []


def test_a_zip_that_lies_about_its_sizes_is_stopped_while_it_unpacks(
    anna: Person, store: ObjectStore, settings: Settings
) -> None:
    bomb = bytearray(archive({"zeros.dcm": dicom() + b"\0" * (settings.web.max_upload_bytes + 1)}))
    at = bomb.rindex(b"PK\x01\x02")
    struct.pack_into("<L", bomb, at + 24, 100)
    answer = anna.upload(("bomb.zip", bytes(bomb)))
    assert answer.status_code in {413, 422}
    assert _spool(store) == []


def test_a_zip_with_too_many_members_is_refused_by_its_end_record(anna: Person) -> None:
    many = archive({f"{number}.dcm": b"" for number in range(1100)})
    assert anna.upload(("many.zip", many)).status_code == 413
    huge = bytearray(archive({"a.dcm": dicom()}))
    at = huge.rindex(b"PK\x05\x06")
    struct.pack_into("<HH", huge, at + 8, 65000, 65000)
    assert anna.upload(("huge.zip", bytes(huge))).status_code == 413


def test_encrypted_and_strangely_packed_members_are_refused_one_by_one(anna: Person) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("good.dcm", dicom())
        made.writestr("odd.dcm", dicom("1.2.9"), zipfile.ZIP_LZMA)
        made.writestr("locked.dcm", dicom("1.2.8"))
    content = bytearray(buffer.getvalue())
    at = content.rindex(b"PK\x01\x02")
    content[at + 8] |= 1
    body = anna.upload(("mixed.zip", bytes(content))).get_json()
    assert [job["file"] for job in body["jobs"]] == ["mixed.zip/good.dcm"]
    assert {item["kind"] for item in body["refused"]} == {"unsupported-content", "encrypted"}


def test_an_upload_beyond_the_limit_is_refused_and_leaves_nothing(
    anna: Person, store: ObjectStore, settings: Settings
) -> None:
    answer = anna.upload(("big.dcm", dicom() + b"\0" * settings.web.max_upload_bytes))
    assert answer.status_code == 413
    assert _spool(store) == []


def test_a_full_queue_says_so_and_takes_work_again_when_there_is_room(
    settings: Settings, database: Database
) -> None:
    small = settings.model_copy(update={"queue": QueueSettings(max_waiting=2)})
    anna = Person(create_app(small, database).test_client())
    anna.login()
    body = anna.upload(*((f"{n}.dcm", dicom(f"1.2.{n}")) for n in range(1, 4))).get_json()
    assert len(body["jobs"]) == 2
    assert [item["kind"] for item in body["refused"]] == ["queue-full"]
    answer = anna.upload(("late.dcm", dicom("1.2.9")))
    assert answer.status_code == 503
    assert answer.get_json()["type"] == "urn:cxr-sr:problem:queue-full"
    assert int(answer.headers["Retry-After"]) > 0
    anna.post(f"/api/v1/jobs/{body['jobs'][0]['id']}/cancel")
    assert anna.upload(("late.dcm", dicom("1.2.9"))).status_code == 202


def test_a_full_disk_is_said_and_the_next_upload_works_when_there_is_room(
    anna: Person, here: Services, monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    assert isinstance(here.store, LocalStore)

    def full(*_args: Any, **_more: Any) -> Any:
        raise StoreFull("no room")

    monkeypatch.setattr(here.store, "put", full)
    answer = anna.upload(("a.dcm", dicom()))
    assert answer.status_code == 507
    assert answer.get_json()["type"] == "urn:cxr-sr:problem:no-room"
    monkeypatch.undo()
    assert anna.upload(("a.dcm", dicom())).status_code == 202
    assert len(_sources(database)) == 1


def test_the_reserve_is_kept_before_a_byte_is_written(settings: Settings, database: Database) -> None:
    storage = settings.storage.model_copy(update={"reserve_bytes": 1 << 60})
    anna = Person(create_app(settings.model_copy(update={"storage": storage}), database).test_client())
    anna.login()
    assert anna.upload(("a.dcm", dicom())).status_code == 507


def test_a_database_that_fails_is_no_traceback(
    anna: Person, database: Database, monkeypatch: pytest.MonkeyPatch, store: ObjectStore
) -> None:
    def broken(*_args: Any, **_more: Any) -> Any:
        raise OperationalError("INSERT 'Doe^Jane'", {}, Exception("disk I/O error"))

    monkeypatch.setattr(door, "intake", broken)
    answer = anna.upload(("a.dcm", dicom()))
    assert answer.status_code == 503
    assert "Doe" not in answer.text
    assert _spool(store) == []


def test_an_upload_without_the_sessions_token_leaves_nothing(
    anna: Person, store: ObjectStore, database: Database
) -> None:
    data = {"file": (io.BytesIO(dicom()), "a.dcm")}
    answer = anna.client.post("/api/v1/jobs", data=data, content_type="multipart/form-data")
    assert answer.status_code == 403
    assert _spool(store) == []
    assert _sources(database) == []


def test_the_same_bytes_again_are_the_same_job_unless_something_else_is_asked(
    anna: Person, database: Database
) -> None:
    first = anna.upload(("a.dcm", dicom())).get_json()["jobs"][0]
    again = anna.upload(("b.dcm", dicom())).get_json()["jobs"][0]
    assert (again["id"], again["resend"]) == (first["id"], True)
    other = anna.upload(("c.dcm", dicom()), scale="2").get_json()["jobs"][0]
    assert other["id"] != first["id"]
    assert len(_sources(database)) == 1


def test_both_doors_lead_to_one_intake(anna: Person, database: Database, store: ObjectStore) -> None:
    content = dicom()
    spooled = store.spool / "from-the-network"
    spooled.write_bytes(content)
    arrival = Arrival(file=spooled, media_type="application/dicom", sop_instance_uid="1.2.3.4")
    by_network = intake(database, store, arrival, Origin("dimse", ae_title="CT1"), max_waiting=10)
    by_web = anna.upload(("a.dcm", content)).get_json()["jobs"][0]
    assert by_web["resend"]
    (source,) = _sources(database)
    assert source.id == by_network.source_id
    assert source.sha256 == hashlib.sha256(content).hexdigest()
    assert source.times_received == 2
    assert all(job.state == JobState.QUEUED for job in _jobs(database))


def test_a_large_file_goes_to_the_spool_and_not_into_memory(
    app: Flask, anna: Person, store: ObjectStore, database: Database
) -> None:
    noise = zlib.compress(b"x") * 20_000
    assert anna.upload(("a.dcm", dicom(pixels=noise))).status_code == 202
    assert _sources(database)[0].size_bytes > len(noise)


def test_file_names_are_for_people_alone() -> None:
    assert door.display_name("../../etc/passwd") == "passwd"
    assert door.display_name("C:\\images\\chest.dcm") == "chest.dcm"
    assert door.display_name("a\x00b\u202egnp.exe") == "abgnp.exe"
    assert door.display_name("") == "unnamed"
    assert len(door.display_name("x" * 999)) == 200


def test_a_picture_that_is_here_already_never_gets_another_patients_name(
    anna: Person, database: Database
) -> None:
    first = anna.upload(("a.png", png()), PatientName="Doe^Jane")
    again = anna.upload(("a.png", png()), PatientName="Doe^Jane")
    assert again.get_json()["jobs"][0]["id"] == first.get_json()["jobs"][0]["id"]
    other = anna.upload(("b.png", png()), PatientName="Roe^Richard")
    nobody = anna.upload(("b.png", png()))
    said = sorted((source.demographics or {}).get("PatientName", "") for source in _sources(database))
    assert said == ["", "Doe^Jane", "Roe^Richard"]
    jobs = {answer.get_json()["jobs"][0]["id"] for answer in (first, other, nobody)}
    assert len(jobs) == len(_jobs(database)) == 3
