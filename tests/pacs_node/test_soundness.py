"""The rule book accepts what we derive, and each of its rules finds the fault that it is there for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import UID

from pacs_node import codecs, decode, derive, labels, provenance, recipe, soundness, transcode
from pacs_node.uids import ResultUids
from tests import dicom_variants as variants
from tests.pacs_node.test_derive import derived_from

Fault = Callable[[Dataset], None]


def rich() -> Dataset:
    """A DX image with something of everything that a rule is about."""
    values = variants.chest_values(14)
    values[:6] = 0
    ds = variants.with_overlay(variants.with_shutter(variants.dx(values, PixelPaddingValue=0)))
    ds.ShutterShape = ["RECTANGULAR", "BITMAP"]
    ds.ShutterOverlayGroup = 0x6000
    ds.VerticesOfThePolygonalCollimator = [1, 1, 1, 80, 96, 80]
    ds.PixelSpacing, ds.PixelSpacingCalibrationType = ["0.14", "0.14"], "GEOMETRY"
    ds.SmallestImagePixelValue, ds.LargestImagePixelValue = 1, 2
    ds.LossyImageCompression, ds.LossyImageCompressionRatio = "01", "7"
    ds.LossyImageCompressionMethod = "ISO_10918_1"
    ds.ImageAndFluoroscopyAreaDoseProduct = "1.2"
    ds.TimezoneOffsetFromUTC = "+0100"
    ds.SpatialResolution = "0.3"
    ds.ContributingEquipmentSequence = Sequence([_item(Manufacturer="Plate Maker")])
    ds.RelatedSeriesSequence = Sequence([_item(StudyInstanceUID="1.2", SeriesInstanceUID="1.2.3")])
    ds.DerivationCodeSequence = Sequence([provenance.code("113087", "Smoothing")])
    return variants.with_private_block(ds)


def _item(**attributes: object) -> Dataset:
    item = Dataset()
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    item.PurposeOfReferenceCodeSequence = Sequence([provenance.code("109100", "Synthesizing Equipment")])
    return item


@pytest.fixture(scope="module")
def source() -> Dataset:
    return rich()


@pytest.fixture
def derived(source) -> Dataset:
    return derived_from(source, 2)


def broken(source: Dataset, derived: Dataset) -> list[str]:
    return [finding.rule.name for finding in soundness.check(soundness.Pair.of_datasets(source, derived))]


def set_to(keyword: str, value: object) -> Fault:
    return lambda ds: setattr(ds, keyword, value)


def without(keyword: str) -> Fault:
    return lambda ds: ds.__delattr__(keyword)


def other_pixels(change: Callable[[np.ndarray], np.ndarray]) -> Fault:
    def plant(ds: Dataset) -> None:
        values = change(ds.pixel_array.copy())
        ds.PixelData = values.astype("<u2").tobytes()
        ds.SmallestImagePixelValue, ds.LargestImagePixelValue = int(values.min()), int(values.max())

    return plant


def in_item(sequence: str, index: int, keyword: str, value: object) -> Fault:
    return lambda ds: setattr(ds[sequence].value[index], keyword, value)


def _widened(ds: Dataset) -> None:
    values = np.repeat(ds.pixel_array, 2, axis=1)
    ds.Columns, ds.PixelData = values.shape[1], values.tobytes()


def _long(ds: Dataset) -> None:
    ds.add_new("DistanceSourceToDetector", "DS", "1800.0000000000000001")


def _wrong_vr(ds: Dataset) -> None:
    del ds.SeriesNumber
    ds.add_new("SeriesNumber", "LO", "3902")


def _compressed_with_loss(ds: Dataset) -> None:
    ds.file_meta.TransferSyntaxUID = UID(codecs.JPEG_2000)


def _orphaned_private(ds: Dataset) -> None:
    ds.add_new(0x00291010, "LO", "of nobody")


def _moved_overlay(ds: Dataset) -> None:
    ds[0x60000050].value = [1, 1 + ds.Columns // 2]


FAULTS: dict[str, list[Fault]] = {
    "sop-class": [set_to("SOPClassUID", variants.CR)],
    "sop-instance": [without("SOPInstanceUID")],
    "series": [set_to("SeriesInstanceUID", "")],
    "series-number": [set_to("SeriesNumber", 2), without("SeriesNumber")],
    "uids": [
        set_to("SeriesInstanceUID", "1.02.3"),
        in_item("SourceImageSequence", 0, "ReferencedSOPInstanceUID", "1." + "2" * 64),
    ],
    "image-type": [set_to("ImageType", ["DERIVED", "SECONDARY", "AI_SR"]), without("ImageType")],
    "presentation-intent": [set_to("PresentationIntentType", "FOR PROCESSING")],
    "required": [without("StudyID"), without("PositionerType")],
    "recognisable": [without("InstanceCreatorUID")],
    "file-meta": [
        lambda ds: setattr(ds.file_meta, "MediaStorageSOPInstanceUID", "1.2.3"),
        lambda ds: ds.file_meta.__delattr__("ImplementationClassUID"),
    ],
    "patient": [set_to("PatientName", "M?ller^J?rg"), without("PatientID"), set_to("PatientSex", "F")],
    "study": [set_to("AccessionNumber", ""), set_to("StudyInstanceUID", "1.2.3.4")],
    "character-set": [set_to("SpecificCharacterSet", "ISO_IR 192")],
    "grey-scale": [set_to("WindowCenter", "1"), without("RescaleSlope"), set_to("PixelPaddingValue", 3)],
    "instance-number": [set_to("InstanceNumber", 7)],
    "annotation": [without("BurnedInAnnotation")],
    "synthetic-data": [set_to("SyntheticData", "NO")],
    "unchanged": [
        set_to("KVP", "60"), without("BodyPartExamined"), set_to("DetectorElementSpacing", ["1", "1"]),
    ],
    "nothing-invented": [set_to("ContentLabel", "X"), set_to("DetectorTemperature", "30")],
    "signatures": [set_to("DigitalSignaturesSequence", Sequence([Dataset()]))],
    "statistics": [
        set_to("IconImageSequence", Sequence([Dataset()])), set_to("HistogramSequence", Sequence()),
    ],
    "frame-of-reference": [set_to("FrameOfReferenceUID", "1.2")],
    "dose": [set_to("EntranceDose", 5), set_to("ImageAndFluoroscopyAreaDoseProduct", "1.2")],
    "whereabouts": [set_to("RetrieveAETitle", "PACS"), set_to("SOPInstanceStatus", "AO")],
    "private": [_orphaned_private],
    "left-out-is-said": [set_to("DerivationDescription", "AI super-resolution x2")],
    "matrix": [_widened],
    "spacing": [
        set_to("ImagerPixelSpacing", ["0.148", "0.148"]), without("PixelSpacing"),
        set_to("NominalScannedPixelSpacing", ["0.1", "0.1"]),
    ],
    "calibration": [without("PixelSpacing")],
    "edges": [set_to("ShutterLeftVerticalEdge", 5), set_to("ShutterLowerHorizontalEdge", 90)],
    "circles-and-polygons": [
        set_to("RadiusOfCircularCollimator", 40), set_to("CenterOfCircularCollimator", [48, 40]),
        set_to("VerticesOfThePolygonalCollimator", [1, 1, 1, 80, 96, 80]),
    ],
    "overlays": [_moved_overlay, lambda ds: setattr(ds[0x60003000], "value", b"\0" * 7680)],
    "bitmap-shutter": [set_to("ShutterOverlayGroup", 0x6002)],
    "readable": [without("PixelData")],
    "photometric": [set_to("PhotometricInterpretation", "MONOCHROME1")],
    "bits": [set_to("BitsStored", 12), set_to("PixelRepresentation", 1)],
    "length": [lambda ds: setattr(ds, "PixelData", ds.PixelData + b"\0\0"), _compressed_with_loss],
    "extremes": [set_to("SmallestImagePixelValue", 7), set_to("LargestImagePixelValue", 7)],
    "padding": [other_pixels(lambda v: np.maximum(v, 1)), other_pixels(lambda v: np.where(v > 9000, 0, v))],
    "same-picture": [other_pixels(lambda v: v.max() - v), other_pixels(np.flipud), other_pixels(np.fliplr)],
    "lossy-history": [
        set_to("LossyImageCompression", "00"), without("LossyImageCompressionRatio"),
        set_to("LossyImageCompressionMethod", "ISO_15444_1"),
    ],
    "derivation-code": [
        set_to("DerivationCodeSequence", Sequence([provenance.code(*provenance.SPATIAL_RESAMPLING)])),
        in_item("DerivationCodeSequence", -2, "CodeMeaning", "Resampling"),
    ],
    "coding-scheme": [without("CodingSchemeIdentificationSequence")],
    "source-image": [
        without("SourceImageSequence"), in_item("SourceImageSequence", 0, "SpatialLocationsPreserved", "YES"),
        in_item("SourceImageSequence", 0, "ReferencedSOPInstanceUID", "1.2"),
    ],
    "related-series": [
        without("RelatedSeriesSequence"), in_item("RelatedSeriesSequence", 0, "SeriesInstanceUID", "1.5"),
    ],
    "equipment": [set_to("Manufacturer", "Acme X-Ray"), set_to("SpatialResolution", "0.3")],
    "source-equipment": [lambda ds: ds.ContributingEquipmentSequence.pop(0),
                         lambda ds: ds.ContributingEquipmentSequence.pop(1)],
    "own-equipment": [
        lambda ds: ds.ContributingEquipmentSequence.pop(),
        in_item("ContributingEquipmentSequence", -1, "DeviceUID", "1.2"),
        in_item("ContributingEquipmentSequence", -1, "SoftwareVersions", "1"),
    ],
    "derivation-text": [set_to("DerivationDescription", "enhanced")],
    "qualified": [without("ContentQualification"), set_to("ContentQualification", "PRODUCT")],
    "series-description": [set_to("SeriesDescription", "Chest PA")],
    "comments": [without("ImageComments")],
    "times": [
        set_to("ContentTime", "101113"), without("SeriesDate"), set_to("TimezoneOffsetFromUTC", "+0200"),
    ],
    "values": [_long, set_to("SeriesDescription", "AI super-resolution x2, research only" + "x" * 64)],
    "representations": [_wrong_vr],
}  # fmt: skip


def test_every_rule_has_a_fault_that_it_must_find():
    assert sorted(FAULTS) == sorted(rule.name for rule in soundness.RULES)
    assert len({rule.name for rule in soundness.RULES}) == len(soundness.RULES)


def test_what_we_derive_is_sound(source, derived):
    assert broken(source, derived) == []


@pytest.mark.parametrize(
    ("rule", "number"), [(rule, number) for rule, faults in FAULTS.items() for number in range(len(faults))]
)
@pytest.mark.filterwarnings("ignore")  # pydicom warns of the values that are planted
def test_a_planted_fault_is_found_by_its_rule(source, derived, rule, number):
    FAULTS[rule][number](derived)

    assert rule in broken(source, derived)


def test_a_rule_says_where_it_comes_from_and_what_it_asks(source, derived):
    derived.ImagerPixelSpacing = ["0.148", "0.148"]

    (finding,) = soundness.check(soundness.Pair.of_datasets(source, derived))

    assert str(finding) == (
        "spacing: ImagerPixelSpacing is not the source's divided by 2 and 2."
        " Spacings are the source's, divided by new side / old side. (PS3.3 10.7.1)"
    )
    for rule in soundness.RULES:
        assert rule.section.startswith("PS3.")
        assert rule.sentence.endswith(".")


def test_no_finding_tells_who_the_patient_is(source, derived):
    derived.PatientName, derived.PatientID, derived.PatientBirthDate = "Other^Name", "OTHER-ID", "19991231"

    told = " ".join(map(str, soundness.check(soundness.Pair.of_datasets(source, derived))))

    for value in ("Other", "OTHER", "1999", str(source.PatientName), str(source.PatientID)):
        assert value not in told


def test_a_result_of_another_source_is_found(derived):
    other = rich()

    assert {"source-image", "study"} <= set(broken(other, derived))


def test_an_empty_data_set_is_judged_and_found_wanting(source):
    found = broken(source, Dataset())

    assert {"sop-class", "patient", "matrix", "readable", "own-equipment"} <= set(found)


def test_what_the_source_did_not_know_is_not_filled_in():
    source = variants.cr(PatientSex=None)
    derived = derived_from(source)
    assert broken(source, derived) == []

    derived.PatientSex = "M"

    assert broken(source, derived) == ["nothing-invented"]


def every_keyword_of(ds: Dataset) -> Iterator[str]:
    for element in ds:
        if element.keyword and not element.tag.is_private and element.tag.group not in (0x6000, 0x7FE0):
            yield element.keyword


def test_no_attribute_of_the_source_can_be_lost_unnoticed(source, derived):
    pair = soundness.Pair.of_datasets(source, derived)
    may_go = {*recipe.WRITTEN, *(keyword for keywords in recipe.GONE.values() for keyword in keywords)}
    for keyword in list(every_keyword_of(derived)):
        if keyword in may_go or keyword not in source:
            continue
        element = derived[keyword]
        del derived[keyword]

        assert soundness.check(pair) != [], keyword

        derived[keyword] = element


def test_what_is_written_in_another_encoding_is_compared_by_meaning(tmp_path):
    source = variants.dx()
    for syntax in (codecs.IMPLICIT_VR_LITTLE_ENDIAN, codecs.EXPLICIT_VR_BIG_ENDIAN):
        assert broken(variants.encoded(source, syntax), derived_from(source)) == []


def test_a_burned_in_label_may_cover_padding_but_not_make_any(source, derived):
    source = variants.dx(variants.chest_values(14), PixelPaddingValue=0)
    derived = derived_from(source)
    values = derived.pixel_array.copy()
    assert decode.decode(source, codecs.EXPLICIT_VR_LITTLE_ENDIAN).padding == (0, 0)
    values[values == 0] = 7
    derived.PixelData = values.tobytes()
    assert "padding" in broken(source, derived)

    derived.BurnedInAnnotation = "YES"
    assert broken(source, derived) == []

    values[:4, :4] = 0
    derived.PixelData = values.tobytes()
    assert broken(source, derived) == ["padding"]


def test_the_stored_object_is_as_sound_as_the_one_in_memory(source, tmp_path):
    ds = derived_from(source)
    derive.write_file(ds, tmp_path / "derived.dcm")

    assert broken(source, dcmread(tmp_path / "derived.dcm")) == []


@pytest.mark.parametrize("label", [labels.OVERLAY, labels.BURNED])
@pytest.mark.parametrize("make", [variants.dx, lambda v: variants.with_overlay(variants.cr(v, bits=14))])
def test_a_labelled_copy_is_as_sound_as_the_result(make, label):
    source = make(variants.chest_values(14, 220, 220))
    copy = labels.labelled(
        derived_from(source, 4), label, labels.label_lines(4, "m", "1"), ResultUids("2.25.1", "2.25.2")
    )

    assert broken(source, copy) == []


@pytest.mark.parametrize(
    "syntax", [codecs.JPEG_LS_LOSSLESS, codecs.JPEG_2000_LOSSLESS, codecs.HTJ2K_LOSSLESS]
)
def test_a_result_that_travels_compressed_is_as_sound(source, syntax, tmp_path):
    derive.write_file(derived_from(source), tmp_path / "derived.dcm")
    with (tmp_path / "derived.dcm").open("rb") as stream:
        packed = transcode.compressed(stream, syntax)

    assert broken(source, packed) == []


def test_the_page_lists_the_rules_as_they_are():
    page = Path(__file__).resolve().parents[2] / "docs" / "derived.md"

    assert soundness.table() in page.read_text()
