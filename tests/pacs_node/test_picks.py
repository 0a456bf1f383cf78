"""Pictures whose patient and study were picked from an archive, and those for which nobody did that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from config import Destination
from config.network import Archive
from db import deliveries, picks, sending
from db.models import Delivery, Job
from db.states import DeliveryState, JobState
from pacs_node import records
from pacs_node.consignment import NothingToSend, consignment
from tests.pacs_node.clinic import ARCHIVE, Clinic, open_clinic

STUDY = {
    "PatientName": "Kim^Minsu=金^民洙",
    "PatientID": "K-1",
    "IssuerOfPatientID": "HOSPITAL",
    "PatientBirthDate": "19700203",
    "PatientSex": "F",
    "StudyInstanceUID": "1.2.3.4.5",
    "StudyID": "S1",
    "StudyDate": "20240105",
    "StudyTime": "101500",
    "AccessionNumber": "A-1",
    "ReferringPhysicianName": "Roe^Jane",
    "StudyDescription": "Thorax",
}
OLD = Archive(name="old", ae_title="PACS", host="127.0.0.1", port=104)
TYPED = {"PatientName": "Typed^Name", "PatientID": "T-1", "StudyDescription": "Typed", "ViewPosition": "AP"}


@pytest.fixture
def clinic(tmp_path):
    with open_clinic(tmp_path / "node") as clinic:
        yield clinic


@pytest.fixture
def picture(tmp_path) -> Path:
    rows, columns = np.mgrid[0:40, 0:48]
    Image.fromarray((rows * 3 + columns * 2).astype("uint8")).save(tmp_path / "film.png")
    return tmp_path / "film.png"


def bring(clinic: Clinic, picture: Path, demographics: Any = TYPED, **requested: Any) -> Job:
    return clinic.serve(
        picture, kind="upload", media_type="image/png", suffix=".png", demographics=demographics,
        requested=requested,
    )  # fmt: skip


def picked(archive: Archive = OLD, **changes: str) -> dict[str, Any]:
    found: dict[str, Any] = picks.pick(TYPED, archive.model_dump(mode="json"), STUDY | changes)
    return found


def send(clinic: Clinic, job: Job, destination: Destination = ARCHIVE) -> None:
    address = deliveries.Address(destination.name, destination.model_dump(mode="json"))
    with clinic.database.write() as session:
        sending.send(session, session.get_one(Job, job.id), address, actor="anna")


def test_typed_names_send_a_picture_nowhere(clinic, picture):
    job = bring(clinic, picture, destinations=["pacs"])
    assert (job.state, job.deliveries) == (JobState.DONE, [])
    assert any("picked from that archive" in event for event in clinic.events(job.id))
    with pytest.raises(picks.NotPicked):
        send(clinic, job)
    assert clinic.job(job.id).deliveries == []


def test_a_picked_study_makes_the_result_anew_on_the_same_pixels(clinic, picture):
    first = bring(clinic, picture, scale=2)
    second = bring(clinic, picture, picked(), scale=2, replaces=first.id)
    ds, before = clinic.result(second), clinic.result(first)
    assert {keyword: str(ds.get(keyword)) for keyword in STUDY} == STUDY
    assert ds.ViewPosition == "AP"
    assert ds.PixelData == before.PixelData
    assert second.result.figures["rebuilt"] is True
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        assert ds[keyword].value != before[keyword].value
    old = clinic.job(first.id)
    assert (old.state, old.reason_code) == (JobState.RETRACTED, "amended")
    assert f"job {second.id}" in old.reason


def test_what_the_archive_left_empty_is_not_filled_with_what_was_typed(clinic, picture):
    bare = dict.fromkeys(STUDY, "") | {"StudyInstanceUID": "1.2.3.4.5", "PatientID": "K-1"}
    job = bring(clinic, picture, picks.pick(TYPED, OLD.model_dump(mode="json"), bare))
    ds = clinic.result(job)
    assert (ds.PatientName, ds.PatientID, ds.StudyDate, ds.AccessionNumber) == ("", "K-1", "", "")
    assert "StudyDescription" not in ds
    assert "IssuerOfPatientID" not in ds


def test_a_picked_picture_goes_to_that_archive_alone(clinic, picture):
    job = bring(clinic, picture, picked(), destinations=["pacs"])
    assert [(d.destination_name, d.state) for d in job.deliveries] == [("pacs", DeliveryState.WAITING)]
    other = Destination(name="other", ae_title="OTHER", host="127.0.0.1", port=104)
    done = bring(clinic, picture, picked(), scale=2)
    with pytest.raises(picks.NotPicked):
        send(clinic, done, other)
    send(clinic, done)
    assert clinic.job(done.id).state is JobState.DELIVERING


def test_a_delivery_that_is_there_all_the_same_is_not_sent(clinic, picture):
    job = bring(clinic, picture)
    with clinic.database.write() as session:
        delivery = Delivery(
            job_id=job.id, destination_name="pacs", destination=ARCHIVE.model_dump(mode="json"),
            life_seconds=60.0, expires_at=job.created_at,
        )  # fmt: skip
        session.add(delivery)
        session.flush()
        with pytest.raises(NothingToSend, match="not picked"):
            consignment(session, delivery)


def test_another_study_can_be_picked_and_the_first_one_again(clinic, picture):
    first = bring(clinic, picture, picked(), destinations=["pacs"])
    other = bring(clinic, picture, picked(StudyInstanceUID="1.2.3.9"), replaces=first.id)
    assert clinic.job(first.id).state is JobState.RETRACTED
    again = bring(clinic, picture, picked(), replaces=other.id)
    assert clinic.job(other.id).state is JobState.RETRACTED
    assert again.state is JobState.DONE
    assert clinic.result(again).StudyInstanceUID == "1.2.3.4.5"
    assert again.result_sop_uid != first.result_sop_uid


def test_the_same_study_picked_from_another_archive_keeps_the_result(clinic, picture):
    first = bring(clinic, picture, picked())
    other = OLD.model_copy(update={"name": "mirror", "ae_title": "MIRROR"})
    second = bring(clinic, picture, picked(other), replaces=first.id)
    assert second.result_id == first.result_id
    assert clinic.job(first.id).state is JobState.DONE


def test_a_job_that_waits_is_cancelled_by_the_one_that_replaces_it(clinic, picture):
    waiting = clinic.receive(picture, kind="upload", media_type="image/png", suffix=".png")
    with clinic.database.write() as session:
        new = Job(source_id=waiting.source_id, requested={"replaces": waiting.job_id})
        session.add(new)
        session.flush()
        records.take_back_replaced(session, new, actor="worker")
    assert clinic.job(waiting.job_id).state is JobState.CANCELLED


@pytest.mark.parametrize(
    ("destination", "same"),
    [
        ({"name": "old", "kind": "dicomweb", "url": "https://other/dicom-web"}, True),
        ({"name": "x", "kind": "dimse", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}, True),
        ({"name": "x", "kind": "dimse", "ae_title": "PACS2", "host": "127.0.0.1", "port": 104}, False),
        ({"name": "x", "kind": "dimse", "ae_title": "PACS", "host": "127.0.0.2", "port": 104}, False),
        ({"name": "x", "kind": "dimse", "ae_title": "PACS", "host": "127.0.0.1", "port": 105}, False),
        ({"name": "x", "kind": "dicomweb", "url": ""}, False),
        ({}, False),
    ],
)
def test_which_destination_is_the_archive(destination, same):
    assert picks.same_system(OLD.model_dump(mode="json"), destination) is same


def test_two_roots_of_dicomweb_are_one_system_when_they_are_one_address():
    web = {"name": "web", "kind": "dicomweb", "url": "https://PACS.example/dicom-web/"}
    assert picks.same_system(web, {"name": "x", "kind": "dicomweb", "url": "https://pacs.example/dicom-web"})
    assert not picks.same_system(web, {"name": "x", "kind": "dicomweb", "url": "https://pacs.example/other"})
