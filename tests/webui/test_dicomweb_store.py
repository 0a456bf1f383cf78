from __future__ import annotations

from typing import Any

import psycopg
import pytest
from pydicom.dataset import Dataset
from sqlalchemy.exc import OperationalError

from db import Database
from db.models import Source
from db.objects import ObjectStore, StoreFull
from tests import dicom_variants as variants
from tests.webui.conftest import Person, dicom
from webui import door

TYPE = 'multipart/related; type="application/dicom"; boundary=edge'


@pytest.fixture
def objects(store: ObjectStore) -> tuple[tuple[Dataset, bytes], tuple[Dataset, bytes]]:
    """Return two objects of different studies, with their bytes."""
    made = [variants.cr(variants.chest_values(12, 8, 8)) for _ in range(2)]
    first, second = ((ds, variants.written(ds, store.spool / "sent").read_bytes()) for ds in made)
    (store.spool / "sent").unlink()
    return first, second


def stow(
    person: Person, *contents: bytes, study: str = "", kind: str = TYPE, body: bytes | None = None
) -> Any:
    made = b"".join(
        b"--edge\r\nContent-Type: application/dicom; transfer-syntax=1.2.840.10008.1.2.1\r\n\r\n"
        + content
        + b"\r\n"
        for content in contents
    )
    path = f"/dicomweb/studies/{study}" if study else "/dicomweb/studies"
    return person.post(path, data=(made + b"--edge--\r\n") if body is None else body, content_type=kind)


def test_an_answer_says_where_each_instance_will_be(anna: Person, objects: Any) -> None:
    (ds, content), _other = objects
    answer = stow(anna, content)
    assert (answer.status_code, answer.mimetype) == (200, "application/dicom+json")
    body = answer.get_json()
    study = f"http://localhost/dicomweb/studies/{ds.StudyInstanceUID}"
    assert body["00081190"] == {"vr": "UR", "Value": [study]}
    (item,) = body["00081199"]["Value"]
    address = f"{study}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    assert item["00081190"]["Value"] == [address]
    assert item["00081150"]["Value"] == [ds.SOPClassUID]
    assert anna.get(address).status_code == 409, "not examined yet"


def test_instances_of_several_studies_have_no_address_in_common(anna: Person, objects: Any) -> None:
    body = stow(anna, *(content for _ds, content in objects)).get_json()
    assert body["00081190"] == {"vr": "UR"}
    assert len({item["00081190"]["Value"][0] for item in body["00081199"]["Value"]}) == 2


def test_a_named_study_takes_its_own_instances_and_no_others(
    anna: Person, objects: Any, database: Database, store: ObjectStore
) -> None:
    (ds, content), (other, foreign) = objects
    answer = stow(anna, content, foreign, study=ds.StudyInstanceUID)
    assert answer.status_code == 202
    (failed,) = answer.get_json()["00081198"]["Value"]
    assert failed["00081155"]["Value"] == [other.SOPInstanceUID]
    assert failed["00081197"]["Value"] == [0xC000]
    with database.read() as session:
        assert [row.sop_instance_uid for row in session.query(Source)] == [ds.SOPInstanceUID]
    assert stow(anna, foreign, study=ds.StudyInstanceUID).status_code == 409
    assert stow(anna, dicom("1.2.3"), study=ds.StudyInstanceUID).status_code == 409, "it names no study"
    assert [path for path in store.spool.rglob("*") if path.is_file()] == []


def test_an_object_whose_study_cannot_be_read_is_taken_without_an_address(anna: Person) -> None:
    answer = stow(anna, dicom("1.2.3"))
    assert answer.status_code == 200
    assert answer.get_json()["00081199"]["Value"][0]["00081190"] == {"vr": "UR"}


def test_damaged_and_foreign_bodies_are_problems(anna: Person, objects: Any) -> None:
    (ds, content), _other = objects
    for status, answer in (
        (400, stow(anna, body=b"--edge\r\nContent-Type: application/dicom\r\n\r\nDICM")),
        (400, stow(anna, body=b"no boundary at all")),
        (400, stow(anna, content, kind=TYPE.replace("; boundary=edge", ""))),
        (400, stow(anna, body=b"--edge--\r\n")),
        (415, stow(anna, content, kind='multipart/related; type="application/dicom+xml"; boundary=edge')),
        (415, stow(anna, content, kind="application/dicom")),
        (413, stow(anna, bytes(9 << 20), study=ds.StudyInstanceUID)),
    ):
        assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")


def test_who_stores_needs_a_login(visitor: Person, objects: Any) -> None:
    (_ds, content), _other = objects
    answer = stow(visitor, content)
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")


def test_capabilities_tell_the_resources_and_keys(anna: Person, visitor: Person) -> None:
    answer = anna.client.options("/dicomweb/")
    assert answer.status_code == 200
    told = answer.get_json()
    assert {"GET", "POST"} <= set(told["resources"]["/studies"])
    metadata = told["resources"]["/studies/<study>/metadata"]["GET"]
    assert metadata["media_types"] == ["application/dicom+json"]
    (key,) = (key for key in told["search_keys"] if key["keyword"] == "PatientID")
    assert (key["tag"], key["level"]) == ("00100020", "study")
    assert visitor.client.options("/dicomweb/").status_code == 401
    allowed = anna.client.options("/dicomweb/studies").headers["Allow"]
    assert {"GET", "HEAD", "OPTIONS"} <= set(allowed.split(", "))


@pytest.mark.parametrize(
    "trouble", [StoreFull("no room"), OperationalError("INSERT", {}, psycopg.errors.DiskFull())]
)
def test_a_full_disk_is_answered_with_507_and_the_next_one_is_taken(
    anna: Person, objects: Any, monkeypatch: pytest.MonkeyPatch, database: Database, trouble: Exception
) -> None:
    def full(*_args: Any, **_more: Any) -> Any:
        raise trouble

    monkeypatch.setattr(door, "intake", full)
    answer = stow(anna, objects[0][1])
    assert (answer.status_code, answer.mimetype) == (507, "application/problem+json")
    monkeypatch.undo()
    assert stow(anna, objects[0][1]).status_code == 200
