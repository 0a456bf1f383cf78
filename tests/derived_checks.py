"""A derived object against its source, attribute by attribute: the recipe as assertions, for unit and
interop tests."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset

from pacs_node import identity

UNCHANGED = (
    "SOPClassUID", "StudyInstanceUID", "AccessionNumber", "PatientName", "PatientID", "PatientBirthDate",
    "PatientSex", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "ReferringPhysicianName",
    "Modality", "InstanceNumber", "AcquisitionDate", "AcquisitionTime", "BodyPartExamined", "ViewPosition",
    "Laterality", "ImageLaterality", "PatientOrientation", "KVP", "Exposure", "ExposureTime", "ExposureIndex",
    "IrradiationEventUID", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "SamplesPerPixel", "WindowCenter", "WindowWidth", "RescaleIntercept",
    "RescaleSlope", "RescaleType", "PresentationLUTShape", "PixelIntensityRelationship",
    "PixelIntensityRelationshipSign",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "DetectorElementSpacing", "FieldOfViewShape",
    "BurnedInAnnotation", "RecognizableVisualFeatures", "PixelSpacingCalibrationType", "ConversionType",
    "AcquisitionContextSequence", "AnatomicRegionSequence", "ViewCodeSequence", "SpecificCharacterSet",
    "SyntheticData", "InstitutionName", "RequestAttributesSequence",
)  # fmt: skip
GONE = (
    "IconImageSequence", "FrameOfReferenceUID", "PositionReferenceIndicator", "HistogramSequence",
    "DigitalSignaturesSequence", "MACParametersSequence", "EncryptedAttributesSequence", "EntranceDose",
    "EntranceDoseInmGy", "ImageAndFluoroscopyAreaDoseProduct", "SmallestPixelValueInSeries",
)  # fmt: skip
_KNOWN_FALSE_ALARMS = ("Attribute is not present in standard DICOM IOD - (0x0018,0x1002) UI Device UID",)


def check_derived(source: Dataset, derived: Dataset, scale: int) -> None:
    """Assert that `derived` follows the recipe for an enlargement of `source` by `scale`."""
    for keyword in UNCHANGED:
        assert derived.get(keyword) == source.get(keyword), keyword
    for keyword in GONE:
        assert keyword not in derived, keyword
    assert not [tag for tag in derived.keys() if tag.is_private or 0x6000 <= tag.group <= 0x601E]  # noqa: SIM118
    _check_identity(source, derived, scale)
    _check_provenance(source, derived)
    _check_geometry(source, derived, scale)
    _check_texts(derived, scale)
    _check_lossy(source, derived)
    _check_file_meta(derived)


def new_errors(validator: Path, source: Path, derived: Path) -> list[str]:
    """Errors that `dciodvfy` finds in `derived` and not in `source`."""
    return sorted(errors(validator, derived) - errors(validator, source))


def errors(validator: Path, path: Path) -> set[str]:
    """Errors that `dciodvfy` finds in a file, without its known false alarms."""
    done = subprocess.run([validator, path], capture_output=True, text=True, errors="replace", timeout=60)
    lines = (done.stdout + done.stderr).splitlines()
    return {line for line in lines if "Error" in line and not any(k in line for k in _KNOWN_FALSE_ALARMS)}


def _check_identity(source: Dataset, derived: Dataset, scale: int) -> None:
    assert list(derived.ImageType) == ["DERIVED", "SECONDARY", "", "AI_SR"]
    assert derived.SOPInstanceUID != source.SOPInstanceUID
    assert derived.SeriesInstanceUID != source.SeriesInstanceUID
    assert derived.SOPInstanceUID.is_valid
    assert derived.SeriesInstanceUID.is_valid
    number = source.get("SeriesNumber")
    assert int(derived.SeriesNumber) > int(number or 0)
    assert identity.is_ours(derived.InstanceCreatorUID)
    if source.SOPClassUID == "1.2.840.10008.5.1.4.1.1.1.1":
        assert derived.PresentationIntentType == "FOR PRESENTATION"
        assert "AcquisitionContextSequence" in derived
    assert (derived.Rows, derived.Columns) == (source.Rows * scale, source.Columns * scale)
    assert len(derived.PixelData) >= derived.Rows * derived.Columns * derived.BitsAllocated // 8


def _check_provenance(source: Dataset, derived: Dataset) -> None:
    (image,) = derived.SourceImageSequence
    assert image.ReferencedSOPClassUID == source.SOPClassUID
    assert image.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert image.SpatialLocationsPreserved == "NO"
    assert _code(image.PurposeOfReferenceCodeSequence) == ("121322", "DCM")
    series = derived.RelatedSeriesSequence[-1]
    assert series.StudyInstanceUID == source.StudyInstanceUID
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert _code(series.PurposeOfReferenceCodeSequence) == ("121323", "DCM")
    codes = [(item.CodeValue, item.CodingSchemeDesignator) for item in derived.DerivationCodeSequence]
    assert codes[-2:] == [("113085", "DCM"), ("AISR", "99CXRSR")]

    assert derived.Manufacturer == identity.MANUFACTURER
    ours = derived.ContributingEquipmentSequence[-1]
    assert _code(ours.PurposeOfReferenceCodeSequence) == ("109102", "DCM")
    assert identity.is_ours(ours.DeviceUID)
    assert len(ours.DeviceUID) <= 64
    assert ours.SoftwareVersions[2] in derived.DerivationDescription
    if source.get("Manufacturer") and source.Manufacturer != identity.MANUFACTURER:
        items = list(derived.ContributingEquipmentSequence)
        acquired = [i for i in items if _code(i.PurposeOfReferenceCodeSequence) == ("109101", "DCM")]
        assert source.Manufacturer in [item.Manufacturer for item in acquired]
        assert items[: len(source.get("ContributingEquipmentSequence", []))] == list(
            source.get("ContributingEquipmentSequence", [])
        )


def _check_geometry(source: Dataset, derived: Dataset, scale: int) -> None:
    for keyword in ("ImagerPixelSpacing", "PixelSpacing", "NominalScannedPixelSpacing"):
        before = [float(v) for v in source.get(keyword) or []]
        if len(before) == 2 and min(before) > 0:
            after = [float(v) for v in derived[keyword].value]
            assert after == pytest.approx([v / scale for v in before]), keyword
            assert all(len(str(v)) <= 16 for v in derived[keyword].value)
        else:
            assert keyword not in derived, keyword
    for shape in ("Shutter", "Collimator"):
        for keyword, expected in (
            (f"{shape}LeftVerticalEdge", lambda v: (v - 1) * scale + 1),
            (f"{shape}UpperHorizontalEdge", lambda v: (v - 1) * scale + 1),
            (f"{shape}RightVerticalEdge", lambda v: v * scale),
            (f"{shape}LowerHorizontalEdge", lambda v: v * scale),
            (f"RadiusOfCircular{shape}", lambda v: v * scale),
        ):
            if keyword in source:
                assert int(derived[keyword].value) == expected(int(source[keyword].value)), keyword


def _check_texts(derived: Dataset, scale: int) -> None:
    assert derived.ContentQualification == "RESEARCH"
    assert f"x{scale}" in derived.ImageComments
    assert "not for diagnosis" in derived.ImageComments.lower()
    assert f"AI super-resolution x{scale}" in derived.SeriesDescription
    assert "research" in derived.SeriesDescription
    assert len(derived.SeriesDescription) <= 64
    assert len(derived.DerivationDescription) <= 1024
    for kind in ("InstanceCreation", "Series", "Content"):
        assert len(derived[f"{kind}Date"].value) == 8
        assert len(derived[f"{kind}Time"].value) == 6


def _check_lossy(source: Dataset, derived: Dataset) -> None:
    if source.get("LossyImageCompression") == "01":
        assert derived.LossyImageCompression == "01"
        assert _list(derived, "LossyImageCompressionRatio")[
            : len(_list(source, "LossyImageCompressionRatio"))
        ] == (_list(source, "LossyImageCompressionRatio"))


def _check_file_meta(derived: Dataset) -> None:
    meta = derived.file_meta
    assert meta.MediaStorageSOPInstanceUID == derived.SOPInstanceUID
    assert meta.MediaStorageSOPClassUID == derived.SOPClassUID
    assert meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"


def _code(sequence: Any) -> tuple[str, str]:
    return sequence[0].CodeValue, sequence[0].CodingSchemeDesignator


def _list(ds: Dataset, keyword: str) -> list[str]:
    value = ds.get(keyword)
    if value is None:
        return []
    return (
        [str(v) for v in value]
        if isinstance(value, (list, tuple)) or hasattr(value, "__iter__")
        else [str(value)]
    )
