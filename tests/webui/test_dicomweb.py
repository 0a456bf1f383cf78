from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from config import Settings
from config.settings import QueueSettings
from db import Database
from db.models import Job, Source
from db.objects import ObjectStore
from db.states import Purpose, Relation
from tests.webui import jobs
from tests.webui.conftest import PACS, Person, dicom, png
from webui import multipart
from webui.app import create_app

TYPE = 'multipart/related; type="application/dicom"; boundary=edge'


def _stow(
    person: Person, *contents: bytes, kind: bytes = b"application/dicom", content_type: str = TYPE
) -> Any:
    body = b"".join(
        b"--edge\r\nContent-Type: " + kind + b"\r\n\r\n" + content + b"\r\n" for content in contents
    )
    return person.post("/dicomweb/studies", data=body + b"--edge--\r\n", content_type=content_type)


def _parts(answer: Any) -> list[bytes]:
    import io

    assert answer.mimetype == "multipart/related"
    assert answer.mimetype_params["type"] == "application/dicom"
    found = multipart.parts(io.BytesIO(answer.data), answer.mimetype_params["boundary"], io.BytesIO)
    return [part.file.getvalue() for part in found]


@pytest.fixture
def examined(anna: Person, database: Database, store: ObjectStore) -> Any:
    """Return a function that brings an instance in, examined; with its result where `done`."""

    def bring(uid: str, *, done: bool = False, relation: Relation = Relation.ORIGINAL, **more: Any) -> int:
        answer = anna.upload(("a.dcm", dicom(uid, pixels=uid.encode() + more.pop("salt", b""))))
        number: int = answer.get_json()["jobs"][0]["id"]
        jobs.examine(database, store, number, **more)
        with database.write() as session:
            session.get_one(Source, session.get_one(Job, number).source_id).relation = relation
        if done:
            jobs.finish(database, store)
        return number

    return bring


def test_stored_instances_go_the_way_of_a_modality(
    anna: Person, database: Database, store: ObjectStore
) -> None:
    answer = _stow(anna, dicom("1.2.1"), dicom("1.2.2"))
    assert answer.status_code == 200
    assert answer.content_type == "application/dicom+json"
    stored = answer.get_json()["00081199"]["Value"]
    assert [item["00081155"]["Value"] for item in stored] == [["1.2.1"], ["1.2.2"]]
    with database.read() as session:
        assert {source.origin_kind for source in session.scalars(select(Source))} == {"stow"}
        assert {job.purpose for job in session.scalars(select(Job))} == {Purpose.CLINICAL}
    assert [path for path in store.spool.rglob("*") if path.is_file()] == []


def test_what_is_refused_is_told_apart_from_what_is_stored(anna: Person, store: ObjectStore) -> None:
    answer = _stow(anna, dicom("1.2.1"), b"text", png(), dicom("1.2.2")[:150])
    assert answer.status_code == 202
    body = answer.get_json()
    assert len(body["00081199"]["Value"]) == 1
    assert [item["00081197"]["Value"] for item in body["00081198"]["Value"]] == [[0xC000]] * 3
    assert _stow(anna, b"text").status_code == 409
    assert _stow(anna, dicom(), kind=b"image/png").status_code == 409
    assert [path for path in store.spool.rglob("*") if path.is_file()] == []


def test_a_body_of_another_kind_or_damaged_is_refused(anna: Person) -> None:
    assert _stow(anna, dicom(), content_type="application/dicom").status_code == 415
    assert _stow(anna, dicom(), content_type=TYPE.replace("dicom", "dicom+json")).status_code == 415
    assert _stow(anna, dicom(), content_type=TYPE.replace("edge", "other")).status_code == 400
    assert _stow(anna).status_code == 400


def test_a_full_queue_answers_that_it_is_full(settings: Settings, database: Database) -> None:
    small = settings.model_copy(update={"queue": QueueSettings(max_waiting=1)})
    anna = Person(create_app(small, database).test_client())
    anna.login()
    assert _stow(anna, dicom("1.2.1"), dicom("1.2.2")).status_code == 202
    answer = _stow(anna, dicom("1.2.3"))
    assert answer.status_code == 503
    assert answer.headers["Retry-After"]


def test_studies_are_found_by_what_identifies_them(anna: Person, examined: Any) -> None:
    first = examined("1.2.1", done=True)
    second = examined("1.2.2", name="Other^Person")

    def found(query: str) -> list[str]:
        answer = anna.get(f"/dicomweb/studies?{query}")
        assert answer.status_code in {200, 204}
        return [study["0020000D"]["Value"][0] for study in (answer.get_json() if answer.data else [])]

    assert found("") == [f"1.9.{second}", f"1.9.{first}"]
    assert found("PatientName=zzy*") == [f"1.9.{first}"]
    assert found("PatientName=Zzyzx^marker") == [f"1.9.{first}"]
    assert found("00100010=other*") == [f"1.9.{second}"]
    assert found(f"StudyInstanceUID=1.9.{first},1.9.{second}") == [f"1.9.{second}", f"1.9.{first}"]
    assert found("PatientName=%25") == []
    assert found("AccessionNumber=ACC-171717&StudyDate=20260101-20260103") == [
        f"1.9.{second}",
        f"1.9.{first}",
    ]
    assert found("StudyDate=-20251231") == []
    assert found("ModalitiesInStudy=DX") == []
    assert found("limit=1&offset=1") == [f"1.9.{first}"]
    assert anna.get("/dicomweb/studies?StudyDate=yesterday").status_code == 400
    study = anna.get(f"/dicomweb/studies?StudyInstanceUID=1.9.{first}").get_json()[0]
    assert study["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": jobs.NAME}]}
    assert (study["00201206"]["Value"], study["00201208"]["Value"]) == ([2], [2]), "source and result"
    assert study["00081190"]["Value"] == [f"http://localhost/dicomweb/studies/1.9.{first}"]


def test_series_and_instances_are_those_of_source_and_result(anna: Person, examined: Any) -> None:
    number = examined("1.2.1", done=True)
    series = anna.get(f"/dicomweb/studies/1.9.{number}/series").get_json()
    assert {item["0020000E"]["Value"][0] for item in series} == {f"1.9.{number}.1", f"1.8.{number}"}
    instances = anna.get(f"/dicomweb/studies/1.9.{number}/instances").get_json()
    assert {item["00080018"]["Value"][0] for item in instances} == {"1.2.1", f"1.8.{number}.1"}
    (one,) = anna.get(f"/dicomweb/studies/1.9.{number}/series/1.8.{number}/instances").get_json()
    assert (one["00280010"]["Value"], one["00280011"]["Value"]) == ([16], [16])
    assert len(anna.get("/dicomweb/instances?SOPInstanceUID=1.2.1").get_json()) == 1
    assert len(anna.get("/dicomweb/series?Modality=CR").get_json()) == 2


def test_objects_are_handed_out_as_they_are_stored(anna: Person, examined: Any) -> None:
    number = examined("1.2.1", done=True)
    source, result = dicom("1.2.1", pixels=b"1.2.1"), dicom(f"1.8.{number}.1")
    base = f"/dicomweb/studies/1.9.{number}"
    assert sorted(_parts(anna.get(base))) == sorted([source, result])
    assert _parts(anna.get(f"{base}/series/1.9.{number}.1")) == [source]
    path = f"{base}/series/1.8.{number}/instances/1.8.{number}.1"
    assert _parts(anna.get(path)) == [result]
    wanted = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    assert _parts(anna.get(path, headers={"Accept": wanted})) == [result]
    alone = anna.get(path, headers={"Accept": "application/dicom"})
    assert (alone.mimetype, alone.data) == ("application/dicom", result)


def test_what_we_do_not_make_is_not_acceptable(anna: Person, examined: Any) -> None:
    number = examined("1.2.1")
    path = f"/dicomweb/studies/1.9.{number}/series/1.9.{number}.1/instances/1.2.1"
    for accept in ("image/jpeg", 'multipart/related; type="image/jpeg"'):
        assert anna.get(path, headers={"Accept": accept}).status_code == 406
    other = 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.90'
    assert anna.get(path, headers={"Accept": other}).status_code == 406


@pytest.mark.parametrize("path", ["/9.9", "/*", "/9.9,1.9.1", "/9.9/series/1", "/9.9/series/1/instances/*"])
def test_what_is_not_there_is_404(anna: Person, examined: Any, path: str) -> None:
    examined("1.2.1")
    assert anna.get(f"/dicomweb/studies{path}").status_code == 404


def test_results_that_wait_or_were_taken_back_are_not_shown(
    anna: Person, root: Person, examined: Any, database: Database, store: ObjectStore
) -> None:
    held = examined("1.2.1")
    jobs.finish(database, store, to=(PACS,), release="review")
    taken = examined("1.2.2", done=True)
    root.post(f"/api/v1/jobs/{taken}/retract", json={"reason": "wrong side"})
    for number in (held, taken):
        found = anna.get(f"/dicomweb/studies/1.9.{number}/series").get_json()
        assert [item["0020000E"]["Value"] for item in found] == [[f"1.9.{number}.1"]]
        assert anna.get(f"/dicomweb/studies/1.9.{number}/series/1.8.{number}").status_code == 404
        for what in ("", "/metadata", "/frames/1", "/rendered"):
            path = f"/dicomweb/studies/1.9.{number}/series/1.8.{number}/instances/1.8.{number}.1{what}"
            assert anna.get(path).status_code == (404 if number == held else 410)
    anna.post(f"/api/v1/jobs/{held}/release")
    assert anna.get(f"/dicomweb/studies/1.9.{held}/series/1.8.{held}").status_code == 200


def test_an_amendment_takes_the_place_of_what_it_amends_and_a_conflict_does_not(
    anna: Person, examined: Any
) -> None:
    examined("1.2.1")
    amended = examined("1.2.1", relation=Relation.AMENDMENT, salt=b"2", name="Right^Name")
    examined("1.2.1", relation=Relation.CONFLICT, salt=b"3")
    (one,) = anna.get("/dicomweb/instances?SOPInstanceUID=1.2.1").get_json()
    assert one["0020000D"]["Value"] == [f"1.9.{amended}"]


def test_pictures_are_no_instances(anna: Person, database: Database, store: ObjectStore) -> None:
    number = anna.upload(("a.png", png())).get_json()["jobs"][0]["id"]
    jobs.examine(database, store, number)
    with database.write() as session:
        session.get_one(Source, session.get_one(Job, number).source_id).relation = Relation.ORIGINAL
    assert anna.get("/dicomweb/instances").status_code == 204
