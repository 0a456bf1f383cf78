"""The main job against a real Orthanc: what a modality sends comes back as a new series of its study."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import select

from config.settings import EnhancerSettings
from db import Database
from db.models import Job, RoleInstance, Source
from db.objects import LocalStore
from db.states import JobState
from pacs_node import receiver, sender, worker
from pacs_node.echo import echo
from tests import dicom_variants as variants
from tests import peers
from tests.derived_checks import check_derived, new_errors
from tests.interop.conftest import Dcmtk, Orthanc, Roles
from tests.pacs_node.nodes import PATIENT, eventually, make_database, make_settings
from tests.pacs_node.office import Office

pytestmark = pytest.mark.peer("orthanc", "orthanc-dicomweb", "dcmsend")


@dataclass
class Hospital:
    """A node with all its DICOM roles at work, a modality (dcmsend) before and Orthanc behind it."""

    database: Database
    port: int
    dcmtk: Dcmtk

    def push(self, *files: Path, port: int | None = None, called: str = "CXR_SR") -> None:
        """Send files as they are, in their own transfer syntaxes."""
        done = self.dcmtk("dcmsend", "-dn", "-aec", called, "127.0.0.1", port or self.port, *files)
        assert done.returncode == 0, done.stdout

    def job(self, sop_instance_uid: str) -> Job | None:
        query = select(Job).join(Source).where(Source.sop_instance_uid == sop_instance_uid)
        with self.database.read() as session:
            return session.scalar(query)

    def received_as(self, sop_instance_uid: str) -> str | None:
        """The transfer syntax in which a source came."""
        query = select(Source.transfer_syntax_uid).where(Source.sop_instance_uid == sop_instance_uid)
        with self.database.read() as session:
            return session.scalar(query)

    def finished(self, sop_instance_uid: str) -> Job:
        """The job of a source once nothing more happens to it."""
        ended = {JobState.DONE, JobState.FAILED, JobState.SKIPPED}

        def over() -> bool:
            job = self.job(sop_instance_uid)
            return job is not None and job.state in ended

        assert eventually(over, 600)  # the shipped network on 3.6 megapixels takes a minute on two cores
        job = self.job(sop_instance_uid)
        assert job is not None
        return job


@pytest.fixture
def hospital(tmp_path, orthanc, small_model, dcmtk) -> Iterator[Hospital]:
    with open_hospital(tmp_path / "node", orthanc, small_model, dcmtk) as hospital:
        yield hospital


@contextmanager
def open_hospital(data_dir: Path, orthanc: Orthanc, model: Path | str, dcmtk: Dcmtk) -> Iterator[Hospital]:
    settings = make_settings(data_dir, dicom=PATIENT, destinations=(orthanc.destination,)).model_copy(
        update={"enhancer": EnhancerSettings(model=str(model), device="cpu")}
    )
    database = make_database(settings)
    with Roles(settings, receiver.run, worker.run, sender.run):
        found: list[int] = []

        def listens() -> list[int]:
            with database.read() as session:
                rows = session.scalars(select(RoleInstance).where(RoleInstance.role == "receiver"))
                found.extend(row.info["port"] for row in rows)
            return found

        assert eventually(listens, 20)
        yield Hospital(database, found[0], dcmtk)
    database.close()


def header_of(file: Path) -> Dataset:
    return dcmread(file, stop_before_pixels=True)


def check_returned(orthanc: Orthanc, file: Path, job: Job, folder: Path) -> None:
    """What came back follows the recipe, has the names that the job planned, and no error that is new."""
    returned = folder / "returned.dcm"
    returned.write_bytes(orthanc.file(job.result_sop_uid or ""))
    derived = dcmread(returned)
    assert job.scale is not None
    check_derived(dcmread(file), derived, job.scale)
    assert (derived.SOPInstanceUID, derived.SeriesInstanceUID) == (job.result_sop_uid, job.result_series_uid)
    assert new_errors(peers.require("dciodvfy"), file, returned) == []


@pytest.mark.slow
def test_real_chests_come_back_as_a_new_series_and_other_parts_are_skipped_with_the_reason(
    tmp_path, orthanc, dcmtk, shared_data
):
    with open_hospital(tmp_path / "node", orthanc, "srgan", dcmtk) as hospital:
        push_and_check_all(hospital, orthanc, shared_data, tmp_path)


def push_and_check_all(hospital, orthanc, shared_data, tmp_path):
    files = {file.stem: file for file in sorted(shared_data("dicom").glob("*.dcm"))}
    hospital.push(*files.values(), port=orthanc.dicom_port, called="ORTHANC")
    hospital.push(*files.values())
    chests = [name for name in files if name.startswith("chest")]
    assert len(chests) == 3
    for name, file in files.items():
        source = dcmread(file)
        job = hospital.finished(source.SOPInstanceUID)
        assert hospital.received_as(source.SOPInstanceUID) == source.file_meta.TransferSyntaxUID
        if name not in chests:
            assert job.state == JobState.SKIPPED
            assert job.reason_code == "not-chest"
            assert job.reason
            continue
        assert (job.state, job.reason) == (JobState.DONE, None), name
        check_returned(orthanc, file, job, tmp_path)
        (study,) = orthanc.find("Study", StudyInstanceUID=source.StudyInstanceUID)
        series = [orthanc.get(f"/series/{s}")["MainDicomTags"] for s in study["Series"]]
        by_uid = {s["SeriesInstanceUID"]: s for s in series}
        assert source.SeriesInstanceUID in by_uid, "the original stays"
        assert "AI" in by_uid[job.result_series_uid]["SeriesDescription"]
        assert orthanc.request(
            f"/instances/{orthanc.instance(job.result_sop_uid)}/preview", accept="image/png"
        )


def test_our_own_samples_and_a_digital_radiograph_come_back_and_pass_the_validator(
    hospital, orthanc, samples_dir, tmp_path
):
    dx = variants.written(variants.dx(), tmp_path / "dx.dcm")
    raw = variants.written(variants.dx(for_processing=True), tmp_path / "raw.dcm")
    files = [*sorted(samples_dir.glob("*.dcm")), dx]
    hospital.push(*files, raw)
    for file in files:
        source = dcmread(file)
        job = hospital.finished(source.SOPInstanceUID)
        assert (job.state, job.reason) == (JobState.DONE, None), file.name
        check_returned(orthanc, file, job, tmp_path)
    job = hospital.finished(header_of(raw).SOPInstanceUID)
    assert (job.state, job.reason_code) == (JobState.SKIPPED, "for-processing")


def test_a_result_that_comes_back_from_the_archive_is_recognised(hospital, orthanc, tmp_path):
    file = variants.written(variants.cr(), tmp_path / "cr.dcm")
    hospital.push(file)
    job = hospital.finished(header_of(file).SOPInstanceUID)
    again = tmp_path / "again.dcm"
    again.write_bytes(orthanc.file(job.result_sop_uid))
    hospital.push(again)
    second = hospital.finished(job.result_sop_uid)
    assert (second.state, second.reason_code) == (JobState.SKIPPED, "own-result")


def test_the_result_can_be_read_by_dicomweb(hospital, orthanc, tmp_path):
    file = variants.written(variants.cr(), tmp_path / "cr.dcm")
    hospital.push(file)
    job = hospital.finished(header_of(file).SOPInstanceUID)
    found = orthanc.get(f"/dicom-web/instances?SOPInstanceUID={job.result_sop_uid}&includefield=all")
    assert [one["00080018"]["Value"] for one in found] == [[job.result_sop_uid]]


def test_orthanc_answers_our_echo_and_a_wrong_title_is_told(tmp_path, orthanc):
    dicom = make_settings(tmp_path).dicom
    assert echo(orthanc.destination, dicom).ok
    wrong = orthanc.destination.model_copy(update={"ae_title": "WRONG"})
    answer = echo(wrong, dicom)
    assert not answer.ok
    assert "rejected the association" in answer.message


def test_a_result_that_is_sent_twice_is_one_instance_in_the_archive(tmp_path, orthanc):
    settings = make_settings(tmp_path / "node")
    office = Office(settings, make_database(settings), LocalStore(settings.data_dir / "objects"))
    ds = variants.cr()
    office.post(ds, orthanc.destination, orthanc.destination.model_copy(update={"name": "the-same"}))
    assert office.work(office.settled)
    office.sender.drain()
    assert [(d.state, d.status_code) for d in office.deliveries()] == [("stored", 0)] * 2
    assert len(orthanc.find("Instance", SOPInstanceUID=ds.SOPInstanceUID)) == 1
    office.database.close()
