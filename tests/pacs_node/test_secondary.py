"""An upload becomes a Secondary Capture object that says what a person said, and no more."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import numpy as np
import pytest

from pacs_node import derive
from pacs_node.secondary import PictureContext, clean_demographics, secondary_capture
from tests import dicom_variants as variants
from tests.derived_checks import errors
from tests.pacs_node.test_derive import derivation

WHEN = datetime(2026, 5, 1, 9, 8, 7, tzinfo=UTC)


def context(**said):
    return PictureContext(uuid.UUID(int=3), "cd" * 32, WHEN, said)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("ratio", [None, 8.5])
def test_the_validator_finds_no_error(require_peer, tmp_path, bits, ratio):
    said = {"PatientName": "Doe, Jane", "PatientID": "1", "PatientBirthDate": "1960-02-03", "StudyID": "7"}
    ds, fmt = secondary_capture(variants.chest_values(bits), context(**said), lossy_ratio=ratio)
    derive.write_file(ds, tmp_path / "a.dcm")

    assert errors(require_peer("dciodvfy"), tmp_path / "a.dcm") == set()
    assert fmt.bits_stored == bits


@pytest.mark.parametrize("bits", [8, 16])
def test_the_validator_finds_no_error_in_what_is_derived_from_it(require_peer, tmp_path, bits):
    ds, fmt = secondary_capture(variants.chest_values(bits), context(StudyID="7"), lossy_ratio=3.0)
    values = np.repeat(np.repeat(variants.chest_values(bits), 2, 0), 2, 1)

    derived = derive.derive(ds, values, fmt, derivation(ds, 2), source_is_ours=True)
    derive.write_file(derived, tmp_path / "b.dcm")

    assert errors(require_peer("dciodvfy"), tmp_path / "b.dcm") == set()
    purposes = [i.PurposeOfReferenceCodeSequence[0].CodeValue for i in derived.ContributingEquipmentSequence]
    assert purposes == ["109102"]
    assert (derived.LossyImageCompression, derived.ConversionType) == ("01", "WSD")


def test_a_lossy_picture_says_so_for_ever():
    ds, _ = secondary_capture(variants.chest_values(8), context(), lossy_ratio=8.5)

    assert (ds.LossyImageCompression, ds.LossyImageCompressionMethod) == ("01", "ISO_10918_1")
    assert ds.LossyImageCompressionRatio == 8.5
    assert ds.ConversionType == "WSD"


def test_the_same_upload_is_the_same_object_and_other_demographics_another():
    values = variants.chest_values(8)
    one, _ = secondary_capture(values, context(PatientID="1"))
    again, _ = secondary_capture(values, context(PatientID="1"))
    other, _ = secondary_capture(values, context(PatientID="2"))

    assert one.SOPInstanceUID == again.SOPInstanceUID
    assert one.StudyInstanceUID != other.StudyInstanceUID


def test_it_joins_a_study_that_was_named():
    ds, _ = secondary_capture(variants.chest_values(8), context(StudyInstanceUID="1.2.3"))

    assert ds.StudyInstanceUID == "1.2.3"


@pytest.mark.parametrize(
    ("keyword", "said", "expected"),
    [
        ("PatientName", "Doe, Jane", "Doe^Jane"),
        ("PatientName", "Doe^Jane", "Doe^Jane"),
        ("PatientName", "홍^길동", "홍^길동"),
        ("PatientID", "a\\b\n", "a/b"),
        ("PatientID", "x" * 80, "x" * 64),
        ("PatientBirthDate", "1960-02-03", "19600203"),
        ("PatientBirthDate", "3 Feb 1960", None),
        ("PatientBirthDate", "19601340", None),
        ("PatientSex", "f", "F"),
        ("PatientSex", "unknown", None),
        ("StudyTime", "10:11", "1011"),
        ("StudyInstanceUID", "1.02.3", None),
        ("Modality", "dx", "DX"),
        ("Modality", "<b>", None),
        ("Unheard", "x", None),
    ],
)
def test_what_a_person_says_is_made_fit_or_left_out(keyword, said, expected):
    assert clean_demographics({keyword: said}).get(keyword) == expected


def test_other_numbers_than_bytes_and_words_are_refused():
    with pytest.raises(ValueError, match="uint8"):
        secondary_capture(np.zeros((4, 4), np.float32), context())
