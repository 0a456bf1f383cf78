"""The main job against a real Orthanc: what a modality sends comes back as a new series of its study."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
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
from pacs_node import identity, receiver, sender, worker
from pacs_node.echo import echo
from tests import dicom_variants as variants
from tests.interop.conftest import Dcmtk, Orthanc, Roles, validator_errors
from tests.pacs_node.nodes import eventually, make_database, make_settings
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

    def finished(self, sop_instance_uid: str) -> Job:
        """The job of a source once nothing more happens to it."""
        ended = {JobState.DONE, JobState.FAILED, JobState.SKIPPED}

        def over() -> bool:
            job = self.job(sop_instance_uid)
            return job is not None and job.state in ended

        assert eventually(over, 120)
        job = self.job(sop_instance_uid)
        assert job is not None
        return job


@pytest.fixture
def hospital(tmp_path, orthanc, small_model, dcmtk) -> Iterator[Hospital]:
    with open_hospital(tmp_path / "node", orthanc, small_model, dcmtk) as hospital:
        yield hospital


@contextmanager
def open_hospital(data_dir: Path, orthanc: Orthanc, model: Path, dcmtk: Dcmtk) -> Iterator[Hospital]:
    settings = make_settings(data_dir, destinations=(orthanc.destination,)).model_copy(
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


def check_derived(source: Dataset, derived: Dataset, job: Job) -> None:
    """Every attribute that the recipe for derived objects names, against the source."""
    scale = derived.Rows / source.Rows
    assert (derived.Rows, derived.Columns) == (source.Rows * job.scale, source.Columns * job.scale)
    assert scale == job.scale
    # its own names, in the study of the source
    assert derived.SOPClassUID == source.SOPClassUID == derived.file_meta.MediaStorageSOPClassUID
    assert derived.SOPInstanceUID == job.result_sop_uid != source.SOPInstanceUID
    assert derived.SeriesInstanceUID == job.result_series_uid != source.SeriesInstanceUID
    assert int(derived.SeriesNumber) > int(source.get("SeriesNumber") or 0)
    for keyword in (
        *(
            "StudyInstanceUID",
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "PatientSex",
            "AccessionNumber",
        ),
        *("StudyDate", "StudyTime", "StudyID", "ReferringPhysicianName", "Modality", "BodyPartExamined"),
        *("ViewPosition", "PatientOrientation", "InstanceNumber", "AcquisitionDate", "AcquisitionTime"),
        *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation"),
        *("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "PresentationLUTShape", "KVP"),
    ):
        assert derived.get(keyword) == source.get(keyword), keyword
    # it says what it is
    assert list(derived.ImageType)[:2] == ["DERIVED", "SECONDARY"]
    assert "AI" in derived.SeriesDescription
    assert str(job.scale) in derived.SeriesDescription
    assert len(derived.SeriesDescription) <= 64
    assert derived.ContentQualification == "RESEARCH"
    assert derived.ImageComments
    assert 0 < len(derived.DerivationDescription) <= 1024
    assert "small" in derived.DerivationDescription
    code = derived.DerivationCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("113085", "DCM")
    assert derived.get("SyntheticData") == source.get("SyntheticData")
    # where it comes from
    (reference,) = derived.SourceImageSequence
    assert (reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID) == (
        source.SOPClassUID,
        source.SOPInstanceUID,
    )
    assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
    assert reference.SpatialLocationsPreserved == "NO"
    (series,) = derived.RelatedSeriesSequence
    assert (series.StudyInstanceUID, series.SeriesInstanceUID) == (
        source.StudyInstanceUID,
        source.SeriesInstanceUID,
    )
    # who made it
    ours = derived.ContributingEquipmentSequence[-1]
    assert ours.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert identity.is_ours(ours.DeviceUID)
    assert identity.is_ours(derived.InstanceCreatorUID)
    assert derived.Manufacturer == identity.MANUFACTURER
    purposes = [i.PurposeOfReferenceCodeSequence[0].CodeValue for i in derived.ContributingEquipmentSequence]
    if source.get("Manufacturer"):
        assert "109101" in purposes, "the equipment that acquired it is still named"
    # nothing that holds no longer
    for keyword in (
        "FrameOfReferenceUID",
        "IconImageSequence",
        "DigitalSignaturesSequence",
        "HistogramSequence",
    ):
        assert keyword not in derived, keyword
    if "SmallestImagePixelValue" in derived:
        assert derived.SmallestImagePixelValue == derived.pixel_array.min()
        assert derived.LargestImagePixelValue == derived.pixel_array.max()
    for keyword in ("PixelSpacing", "ImagerPixelSpacing"):
        usable = source.get(keyword) and all(float(value) > 0 for value in source[keyword].value)
        if usable:
            assert [float(v) * scale for v in derived[keyword].value] == pytest.approx(
                [float(v) for v in source[keyword].value], rel=1e-6
            )
            assert all(len(str(v)) <= 16 for v in derived[keyword].value)
        else:
            assert keyword not in derived
    top = (1 << (derived.BitsStored - derived.PixelRepresentation)) - 1
    assert derived.pixel_array.shape == (derived.Rows, derived.Columns)
    assert derived.pixel_array.max() <= top


@pytest.mark.slow
def test_real_chests_come_back_as_a_new_series_and_other_parts_are_skipped_with_the_reason(
    hospital, orthanc, shared_data, tmp_path
):
    files = {file.stem: file for file in sorted(shared_data("dicom").glob("*.dcm"))}
    hospital.push(*files.values(), port=orthanc.dicom_port, called="ORTHANC")
    hospital.push(*files.values())
    chests = [name for name in files if name.startswith("chest")]
    assert len(chests) == 3
    for name, file in files.items():
        source = dcmread(file)
        job = hospital.finished(source.SOPInstanceUID)
        if name not in chests:
            assert job.state == JobState.SKIPPED
            assert job.reason_code == "not-chest"
            assert job.reason
            continue
        assert (job.state, job.reason) == (JobState.DONE, None), name
        returned = orthanc.file(job.result_sop_uid)
        check_derived(source, dcmread(BytesIO(returned)), job)
        (study,) = orthanc.find("Study", StudyInstanceUID=source.StudyInstanceUID)
        series = [orthanc.get(f"/series/{s}")["MainDicomTags"] for s in study["Series"]]
        by_uid = {s["SeriesInstanceUID"]: s for s in series}
        assert source.SeriesInstanceUID in by_uid, "the original stays"
        assert "AI" in by_uid[job.result_series_uid]["SeriesDescription"]
        known = validator_errors(file.read_bytes(), tmp_path)
        assert validator_errors(returned, tmp_path) - known == set()
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
        returned = orthanc.file(job.result_sop_uid)
        check_derived(source, dcmread(BytesIO(returned)), job)
        assert validator_errors(returned, tmp_path) - validator_errors(file.read_bytes(), tmp_path) == set()
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
