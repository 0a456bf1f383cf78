"""A result for research names nobody, and still says that it was made by AI and how."""

from __future__ import annotations

import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from pacs_node import derive, provenance
from pacs_node.deidentify import Deidentifier, NotDeidentified
from tests import dicom_variants as variants
from tests.derived_checks import new_errors
from tests.pacs_node.test_derive import INSTALLATION, derived_from
from tests.peers import require as require_peer

MARK = "Qzx"


def planted(make) -> Dataset:
    """An image in which everything that may be anybody's is marked, at every depth."""
    ds = variants.with_private_block(variants.with_overlay(make()))
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = f"{MARK}name^Eva", f"{MARK}id", "18870413"
    ds.OtherPatientIDs, ds.PatientAddress, ds.PatientComments = f"{MARK}other", f"{MARK}street", f"{MARK}said"
    ds.AccessionNumber, ds.StudyID, ds.StudyDescription = f"{MARK}acc", f"{MARK}sid", f"{MARK}study"
    ds.SeriesDescription, ds.ImageComments = f"{MARK}series", f"{MARK}image"
    ds.InstitutionName, ds.InstitutionAddress, ds.StationName = (
        f"{MARK}house",
        f"{MARK}road",
        f"{MARK}station",
    )
    ds.ReferringPhysicianName, ds.OperatorsName = f"{MARK}doctor", f"{MARK}operator"
    ds.DeviceSerialNumber, ds.ProtocolName = f"{MARK}serial", f"{MARK}protocol"
    ds.DerivationDescription, ds.AdditionalPatientHistory = f"{MARK}derived", f"{MARK}history"
    ds.StudyDate, ds.StudyTime, ds.AcquisitionDateTime = "18870414", "101112", "18870414101112"
    asked = Dataset()
    asked.RequestedProcedureDescription, asked.ScheduledProcedureStepID = f"{MARK}asked", f"{MARK}step"
    ds.RequestAttributesSequence = Sequence([asked])
    made = Dataset()
    made.Manufacturer, made.InstitutionName = "Maker", f"{MARK}elsewhere"
    made.OperatorsName, made.PurposeOfReferenceCodeSequence = (
        f"{MARK}hand",
        Sequence([provenance.code(*provenance.ACQUISITION_EQUIPMENT)]),
    )
    ds.ContributingEquipmentSequence = Sequence([made])
    block = ds.private_block(0x0029, f"{MARK} PRIVATE", create=True)
    block.add_new(0x01, "LO", f"{MARK}private")
    ds.add_new(0x00431099, "UN", f"{MARK}unknown ".encode())
    ds.preamble = f"{MARK}preamble".encode().ljust(128, b"\0")
    return ds


@pytest.fixture(params=[variants.cr, variants.dx, variants.secondary_capture], ids=lambda make: make.__name__)
def result(request) -> Dataset:
    return derived_from(planted(request.param))


def written(ds: Dataset, path) -> bytes:
    derive.write_file(ds, path)
    return path.read_bytes()


def test_nothing_that_was_planted_remains_anywhere_in_the_file(result, tmp_path):
    before = written(result, tmp_path / "before.dcm")
    assert before.count(MARK.encode()) > 10
    uids = {str(result[name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")}
    source = str(result.SourceImageSequence[0].ReferencedSOPInstanceUID)
    Deidentifier().apply(result)
    after = written(result, tmp_path / "after.dcm")
    for mark in (MARK, MARK.upper(), "1887", str(INSTALLATION), source, *uids):
        assert mark.encode() not in after, mark
    assert not [element for element in result.iterall() if element.tag.is_private]


def test_it_says_that_it_was_made_by_ai_and_that_it_names_nobody(result, tmp_path):
    Deidentifier().apply(result)
    written(result, tmp_path / "after.dcm")
    ds = dcmread(tmp_path / "after.dcm")
    assert ds.PatientIdentityRemoved == "YES"
    assert [item.CodeValue for item in ds.DeidentificationMethodCodeSequence] == ["113100"]
    assert ds.SeriesDescription == "AI super-resolution x2, research only"
    assert provenance.RESEARCH_WARNING in ds.DerivationDescription
    assert "weights sha256" in ds.DerivationDescription
    assert ds.ImageComments.startswith("AI-enhanced image")
    assert provenance.is_own_result(ds)
    assert "AI_SR" in ds.ImageType
    assert len(ds.ContributingEquipmentSequence) == 1
    assert ds.SourceImageSequence[0].ReferencedSOPInstanceUID
    assert ds.SOPInstanceUID == ds.file_meta.MediaStorageSOPInstanceUID


def test_a_validator_finds_nothing_new_in_it(result, tmp_path):
    written(result, tmp_path / "before.dcm")
    Deidentifier().apply(result)
    written(result, tmp_path / "after.dcm")
    assert new_errors(require_peer("dciodvfy"), tmp_path / "before.dcm", tmp_path / "after.dcm") == []


def test_the_pixels_are_as_they_were(result):
    before = bytes(result.PixelData)
    Deidentifier().apply(result)
    assert bytes(result.PixelData) == before


def test_what_belongs_together_does_so_in_one_export_and_not_in_two():
    source = planted(variants.cr)

    def study_of(export: Deidentifier) -> str:
        ds = derived_from(source)
        export.apply(ds)
        return str(ds.StudyInstanceUID)

    first = Deidentifier()
    one, other = study_of(first), study_of(first)
    assert one == other
    assert study_of(Deidentifier()) != one


def test_letters_in_the_pixels_are_refused_and_silence_about_them_is_told():
    ds = derived_from(planted(variants.cr))
    ds.BurnedInAnnotation = "NO"
    assert Deidentifier().apply(ds) == []
    ds = derived_from(planted(variants.cr))
    ds.BurnedInAnnotation = "YES"
    with pytest.raises(NotDeidentified, match="letters"):
        Deidentifier().apply(ds)
    ds = derived_from(planted(variants.cr))
    ds.pop("BurnedInAnnotation", None)
    assert "letters" in Deidentifier().apply(ds)[0]


def test_a_name_in_a_place_that_the_profile_does_not_know_stops_the_export():
    ds = derived_from(planted(variants.cr))
    ds.ManufacturerModelName = f"Room of {MARK}name"
    with pytest.raises(NotDeidentified, match="remained") as refused:
        Deidentifier().apply(ds)
    assert MARK not in str(refused.value)
