"""A picture on its way into an Orthanc: refused under typed names, taken where its study was picked there."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

from config.network import Archive
from config.settings import EnhancerSettings
from db import Database, people, presence
from db.objects import LocalStore
from db.states import JobState
from pacs_node import sender, worker
from tests import dicom_variants as variants
from tests.interop.conftest import Orthanc, Roles
from tests.interop.test_fetch import deposit
from tests.pacs_node.nodes import PATIENT, eventually, make_database, make_settings
from tests.webui.conftest import Person
from webui.app import create_app
from webui.services import KEY

pytestmark = pytest.mark.peer("orthanc", "orthanc-dicomweb")

LONG = 180.0
PASSWORD = "a quiet dark room"


@dataclass
class Ward:
    """Someone at a node that has the Orthanc before it and behind it."""

    anna: Person
    database: Database

    def job(self, number: int) -> dict[str, Any]:
        found: dict[str, Any] = self.anna.get(f"/api/v1/jobs/{number}").get_json()
        return found

    def becomes(self, number: int, *states: JobState) -> dict[str, Any]:
        assert eventually(lambda: self.job(number)["state"] in states, LONG), self.job(number)
        return self.job(number)


@pytest.fixture(params=["dimse", "dicomweb"])
def ward(request, tmp_path: Path, orthanc: Orthanc, small_model: Path) -> Iterator[Ward]:
    """Return a node whose archive is asked by either protocol; its destination is sent to by C-STORE."""
    how: dict[str, Any] = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.dicom_port}
    if request.param == "dicomweb":
        how = {"kind": "dicomweb", "url": f"http://127.0.0.1:{orthanc.http_port}/dicom-web"}
    settings = make_settings(
        tmp_path / "node", dicom=PATIENT, destinations=(orthanc.destination,)
    ).model_copy(
        update={
            "archives": (Archive(name="orthanc", **how),),
            "enhancer": EnhancerSettings(model=str(small_model), device="cpu"),
        }
    )
    database = make_database(settings)
    LocalStore(settings.data_dir / "objects")
    with database.write() as session:
        people.add_user(session, "anna", "radiologist", PASSWORD)
    app = create_app(settings, database)
    anna = Person(app.test_client())
    assert anna.login(password=PASSWORD).status_code == 303
    with Roles(settings, worker.run, sender.run):
        assert eventually(lambda: {"worker", "sender"} <= _alive(database), LONG)
        yield Ward(anna, database)
    app.extensions[KEY].broadcaster.close()
    database.close()


def _alive(database: Database) -> set[str]:
    with database.read() as session:
        return {row.role for row in presence.alive(session)}


def picture() -> bytes:
    rows, columns = np.mgrid[0:64, 0:48]
    made = io.BytesIO()
    Image.fromarray((rows * 2 + columns).astype("uint8")).save(made, "PNG")
    return made.getvalue()


def test_a_picture_lies_in_the_picked_study_under_the_archives_patient_and_nowhere_before(
    ward: Ward, orthanc: Orthanc, tmp_path: Path
) -> None:
    study = variants.cr(
        SpecificCharacterSet="ISO_IR 192", PatientName="Müller^Jörg", PatientID="K-1",
        PatientBirthDate="19700203", PatientSex="F", IssuerOfPatientID="HOSPITAL", AccessionNumber="A-7",
        StudyDate="20240105", StudyDescription="Thorax pa", ReferringPhysicianName="Roe^Jane",
    )  # fmt: skip
    deposit(orthanc, variants.written(study, tmp_path / "study.dcm"))
    anna, typed = ward.anna, {"PatientName": "Mueller^Joerg", "PatientID": "K-1"}

    refused = anna.upload(("film.png", picture()), destination="orthanc", **typed)
    assert (refused.status_code, refused.get_json()["type"]) == (422, "urn:cxr-sr:problem:not-picked")
    first = anna.upload(("film.png", picture()), scale="2", **typed).get_json()["jobs"][0]["id"]
    ward.becomes(first, JobState.DONE)
    sent = anna.post(f"/api/v1/jobs/{first}/send", json={"destination": ["orthanc"]})
    assert (sent.status_code, sent.get_json()["type"]) == (409, "urn:cxr-sr:problem:not-picked")
    assert len(orthanc.get("/instances")) == 1

    search = anna.post("/api/v1/archives/orthanc/search", json={"patient": "K-1"})
    assert search.status_code == 200, search.get_json()
    found = search.get_json()["studies"]
    assert [one["study"] for one in found] == [str(study.StudyInstanceUID)]
    wrong = anna.post(f"/api/v1/jobs/{first}/identity", json={"archive": "orthanc", "study": "1.2.3"})
    assert (wrong.status_code, wrong.get_json()["type"]) == (502, "urn:cxr-sr:problem:archive")
    picked = anna.post(
        f"/api/v1/jobs/{first}/identity",
        json={"archive": "orthanc", "study": found[0]["study"], "destination": ["orthanc"]},
    )
    assert picked.status_code == 202, picked.get_json()
    second = ward.becomes(picked.get_json()["job"]["id"], JobState.DONE)

    old = ward.job(first)
    assert (old["state"], old["reason_code"]) == ("retracted", "amended")
    uid = second["result"]["sop_instance_uid"]
    assert uid != old["result"]["sop_instance_uid"]
    there = pydicom.dcmread(io.BytesIO(orthanc.file(uid)))
    for keyword in (
        "StudyInstanceUID", "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID",
        "AccessionNumber", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "ReferringPhysicianName",
    ):  # fmt: skip
        assert str(there.get(keyword, "")) == str(study.get(keyword, "")), keyword
    assert there.SeriesInstanceUID != study.SeriesInstanceUID
    assert (there.Rows, there.Columns) == (128, 96)
    assert len(orthanc.get("/studies")) == len(orthanc.get("/patients")) == 1
    assert len(orthanc.find("Instance", StudyInstanceUID=str(study.StudyInstanceUID))) == 2
