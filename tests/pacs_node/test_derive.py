"""The derived object follows the recipe, attribute by attribute, and a validator finds nothing new in it."""

from __future__ import annotations

import dataclasses
import uuid
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, config, dcmread
from pydicom.sequence import Sequence
from pydicom.uid import UID

from enhancer import IdentityModel
from enhancer.consistency import Consistency
from pacs_node import codecs, decode, derive, examine, overlays, provenance, reading, recipe, uids
from pacs_node.enhancement import enhance_image
from pacs_node.errors import Refused
from pacs_node.provenance import Derivation
from tests import dicom_variants as variants
from tests.derived_checks import check_derived, errors, new_errors

INSTALLATION = uuid.UUID("12345678-1234-5678-1234-567812345678")
NOW = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
MODEL = IdentityModel()


def derivation(source: Dataset, scale: int, **changes) -> Derivation:
    info = MODEL.info
    names = uids.result_uids(
        INSTALLATION,
        study=source.get("StudyInstanceUID", ""),
        source_series=source.get("SeriesInstanceUID", ""),
        source_instance=source.SOPInstanceUID,
        pixel_digest="p",
        header_digest="h",
        model=info.name,
        version=info.version,
        weights_digest=info.digest,
        scale=scale,
    )
    how = Derivation(
        names, scale, info, INSTALLATION, NOW, Consistency(0.001, 0.004, 0.02), station_name="CXR_SR"
    )
    return dataclasses.replace(how, **changes)


def derived_from(source: Dataset, scale: int = 2, **changes) -> Dataset:
    """The derived object of an uncompressed source, written and read back."""
    syntax = str(source.file_meta.TransferSyntaxUID)
    image = decode.decode(source, syntax)
    values = enhance_image(source, image, MODEL, scale).values
    stored = len(source.PixelData)
    ds = derive.derive(
        source,
        values,
        image.format,
        derivation(source, scale, **changes),
        transfer_syntax=syntax,
        stored_bytes=stored,
    )
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    return dcmread(buffer)


SOURCES = {
    "cr": variants.cr,
    "cr-8-bits": lambda: variants.cr(variants.chest_values(8), bits=8),
    "cr-signed": lambda: variants.cr(variants.chest_values(16, signed=True), bits=16),
    "cr-monochrome1": lambda: variants.cr(photometric="MONOCHROME1"),
    "cr-overlay-in-pixels": lambda: variants.with_overlay_in_pixels(variants.cr()),
    "cr-private": lambda: variants.with_private_block(variants.cr()),
    "cr-padding": lambda: variants.cr(PixelPaddingValue=0, PixelPaddingRangeLimit=3),
    "dx": variants.dx,
    "dx-monochrome1": lambda: variants.dx(photometric="MONOCHROME1"),
    "dx-shutter": lambda: variants.with_shutter(variants.dx()),
    "dx-overlay": lambda: variants.with_overlay(variants.dx()),
    "dx-calibrated": lambda: variants.dx(
        PixelSpacing=["0.139", "0.141"],
        PixelSpacingCalibrationType="GEOMETRY",
        PixelSpacingCalibrationDescription="SID",
    ),
    "sc": variants.secondary_capture,
}


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("name", SOURCES)
def test_the_derived_object_follows_the_recipe(name, scale):
    source = SOURCES[name]()

    check_derived(source, derived_from(source, scale), scale)


@pytest.mark.parametrize("name", SOURCES)
def test_the_validator_finds_no_error_that_the_source_did_not_have(name, require_peer, tmp_path):
    validator = require_peer("dciodvfy")
    source = SOURCES[name]()
    ds = derived_from(source)
    derive.write_file(ds, tmp_path / "derived.dcm")
    variants.written(source, tmp_path / "source.dcm")

    assert new_errors(validator, tmp_path / "source.dcm", tmp_path / "derived.dcm") == []


def test_the_validator_finds_no_new_error_in_what_is_derived_from_real_samples(
    require_peer, shared_data, tmp_path, monkeypatch
):
    validator = require_peer("dciodvfy")
    monkeypatch.setattr(config.settings, "reading_validation_mode", config.IGNORE)
    for path in sorted(shared_data("dicom").glob("*.dcm")):
        source = dcmread(path)
        ds = derived_from(source)
        check_derived(source, ds, 2)
        derive.write_file(ds, tmp_path / path.name)

        assert new_errors(validator, path, tmp_path / path.name) == [], path.name


@pytest.mark.parametrize("fault", ["image-type", "spacing", "no-intent"])
def test_the_validator_does_find_planted_faults(fault, require_peer, tmp_path):
    validator = require_peer("dciodvfy")
    source = variants.dx()
    ds = derived_from(source)
    if fault == "image-type":
        ds.ImageType = ["DERIVED", "SECONDARY", "AI_SR"]
    elif fault == "spacing":
        ds.ImagerPixelSpacing = ["0", "0"]
    else:
        del ds.PresentationIntentType
    derive.write_file(ds, tmp_path / "derived.dcm")
    variants.written(source, tmp_path / "source.dcm")

    assert new_errors(validator, tmp_path / "source.dcm", tmp_path / "derived.dcm") != []


def test_the_source_is_left_as_it_is():
    source = variants.with_private_block(variants.with_shutter(variants.dx()))
    before = source.to_json()

    derived_from(source)

    assert source.to_json() == before


def test_smallest_and_largest_value_are_those_of_the_result():
    source = variants.cr()
    source.SmallestImagePixelValue, source.LargestImagePixelValue = 17, 18

    ds = derived_from(source)

    values = ds.pixel_array
    assert (ds.SmallestImagePixelValue, ds.LargestImagePixelValue) == (values.min(), values.max())


def test_smallest_and_largest_value_of_a_signed_image_are_signed():
    source = variants.cr(variants.chest_values(16, signed=True), bits=16)
    source.add_new("SmallestImagePixelValue", "SS", -5)
    source.add_new("LargestImagePixelValue", "SS", 5)

    ds = derived_from(source)

    assert ds.SmallestImagePixelValue < 0 < ds.LargestImagePixelValue
    assert ds["SmallestImagePixelValue"].VR == "SS"


def test_what_is_dropped_is_said():
    source = variants.with_overlay_in_pixels(variants.with_private_block(variants.dx()))
    source.ImageAndFluoroscopyAreaDoseProduct = "1.2"
    source.PixelSpacing = ["0", "0"]

    said = derived_from(source).DerivationDescription

    assert "left out: overlays, dose figures, private attributes, unusable pixel spacing" in said


def test_private_blocks_on_the_keep_list_stay():
    source = variants.with_private_block(variants.cr())

    ds = derived_from(source, keep_private=frozenset({"VENDOR MATRIX"}))

    assert ds.private_block(0x0029, "VENDOR MATRIX")[0x02].value == "vendor text"


def test_private_elements_within_sequences_go_too():
    source = variants.cr()
    item = Dataset()
    item.RequestedProcedureID = "RP1"
    item.private_block(0x0029, "VENDOR", create=True).add_new(1, "LO", "secret")
    source.RequestAttributesSequence = Sequence([item])

    (kept,) = derived_from(source).RequestAttributesSequence

    assert kept.RequestedProcedureID == "RP1"
    assert len(kept) == 1


def test_model_version_and_digest_stand_in_the_equipment_and_the_description():
    ds = derived_from(variants.cr())

    ours = ds.ContributingEquipmentSequence[-1]
    assert ours.ManufacturerModelName == "cxr-sr identity"
    assert list(ours.SoftwareVersions)[1:] == ["identity 1", MODEL.info.digest]
    assert MODEL.info.digest in ds.DerivationDescription
    assert "0.4 % (99.9th percentile)" in ds.DerivationDescription
    assert ours.DeviceUID == uids.device_uid("identity", "1", MODEL.info.digest)
    assert ours.DeviceUID != uids.device_uid("identity", "2", MODEL.info.digest)


def test_existing_contributing_equipment_is_kept_and_the_source_is_added_as_a_processor():
    source = variants.cr()
    scanner = Dataset()
    scanner.Manufacturer = "Plate Maker"
    scanner.PurposeOfReferenceCodeSequence = Sequence([provenance.code(*provenance.ACQUISITION_EQUIPMENT)])
    source.ContributingEquipmentSequence = Sequence([scanner])

    items = list(derived_from(source).ContributingEquipmentSequence)

    assert [item.Manufacturer for item in items] == ["Plate Maker", "Acme X-Ray", "cxr-sr project"]
    purposes = [item.PurposeOfReferenceCodeSequence[0].CodeValue for item in items]
    assert purposes == ["109101", "109102", "109102"]


def test_earlier_lossy_steps_are_kept_and_a_lossy_syntax_is_added():
    source = variants.encoded(variants.cr(variants.chest_values(8), bits=8), codecs.JPEG_BASELINE)
    del source.LossyImageCompression, source.LossyImageCompressionRatio, source.LossyImageCompressionMethod

    ds = derived_from(source)

    assert ds.LossyImageCompression == "01"
    assert ds.LossyImageCompressionMethod == "ISO_10918_1"
    assert float(ds.LossyImageCompressionRatio) > 1


def test_a_lossless_jpeg_2000_in_the_lossy_syntax_is_believed():
    source = variants.encoded(variants.dx(), codecs.JPEG_2000)

    assert derived_from(source).LossyImageCompression == "00"


def test_times_follow_the_offset_that_the_source_names():
    source = variants.cr(TimezoneOffsetFromUTC="-0400")

    ds = derived_from(source)

    assert (ds.ContentDate, ds.ContentTime) == ("20260501", "083000")
    assert ds.TimezoneOffsetFromUTC == "-0400"


def test_a_malformed_offset_is_dropped():
    assert "TimezoneOffsetFromUTC" not in derived_from(variants.cr(TimezoneOffsetFromUTC="summer"))


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
    ],
)
def test_names_in_any_character_set_keep_their_bytes(charset, name, tmp_path):
    source = variants.cr(SpecificCharacterSet=charset, PatientName=name)
    path = variants.written(source, tmp_path / "source.dcm")
    before = dcmread(path).get_item("PatientName")

    result = derived_from(dcmread(path))
    after = result.get_item("PatientName")

    assert before is not None
    assert after is not None
    assert after.value == before.value
    assert str(result.PatientName) == name


KOREAN = b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf"
JAPANESE = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B"
HALF_WIDTH = b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3"


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        ("\\ISO 2022 IR 149", KOREAN),
        ("\\ISO 2022 IR 87", JAPANESE),
        ("ISO 2022 IR 13\\ISO 2022 IR 87", HALF_WIDTH + b"=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J"),
        ("ISO_IR 13", HALF_WIDTH),
        ("ISO_IR 144", "Люк^Небо".encode("iso8859_5")),
        ("GB18030", "Wang^XiaoDong=王^小东".encode("gb18030")),
        # what devices get wrong: another set than stated, none stated, one that nobody knows, cut texts
        ("ISO_IR 192", "Müller^Jörg".encode("latin-1")),
        ("ISO_IR 100", "Müller^Jörg".encode()),
        ("", "Müller^Jörg".encode("latin-1")),
        ("ISO_IR 999", "Müller^Jörg".encode("latin-1")),
        ("UTF-8", "Müller^Jörg".encode()),
        ("ISO_IR 149", b"\xc8\xab^\xb1\xe6"),
        ("ISO_IR 192\\ISO_IR 100", "Müller^Jörg".encode()),
        ("ISO 2022 IR 58\\ISO_IR 192", b"ab\x1bzz"),
        ("\\ISO 2022 IR 87", b"Yamada=\x1b$B;3E"),
        ("GBK", "王^小东".encode("gbk")[:-1]),
    ],
)
@pytest.mark.filterwarnings("ignore")  # pydicom tells what it thinks of the character set, again and again
def test_a_bad_character_set_fails_no_job_and_texts_keep_their_bytes(charset, text, tmp_path):
    """pydicom issues 2243, 815 and 363."""
    path = variants.in_character_set(charset, text, tmp_path / "source.dcm")

    source, derived = through_files(path, tmp_path / "derived.dcm")

    check_derived(source, derived, 2)
    result = dcmread(tmp_path / "derived.dcm")
    maker = result.ContributingEquipmentSequence[0].get_item("Manufacturer")
    for element in (result.get_item("PatientName"), result.get_item("InstitutionName"), maker):
        assert element.value.rstrip(b" ") == text.rstrip(b" ")
    assert b"AI super-resolution x2, research only" in result.get_item("SeriesDescription").value


def through_files(path: Path, target: Path) -> tuple[Dataset, Dataset]:
    """A source as a file really comes (cleaned as the child does), and what is derived from it, read back."""
    ds, syntax, _ = reading.read(path)
    header = examine.parse_header(reading.clean_header(ds)[0])
    refusal = examine.unnamed(header)
    if refusal is not None:
        raise Refused(refusal.reason, refusal.sentence)
    image = decode.decode(ds, syntax)
    values = enhance_image(header, image, MODEL, 2).values
    how = derivation(header, 2)
    derived = derive.derive(
        header, values, image.format, how, transfer_syntax=syntax, stored_bytes=len(ds.PixelData)
    )
    derive.write_file(derived, target)
    header.file_meta, header.PixelData = ds.file_meta, ds.PixelData
    return header, dcmread(target)


def test_a_series_number_sorts_after_its_source_and_is_stable():
    assert provenance.series_number("3", 4) == 3904
    assert provenance.series_number(None, 2) == 902
    assert provenance.series_number(-5, 2) == 902
    assert provenance.series_number(2**31 - 1, 4) == 2**31 - 1
    assert provenance.series_number("2000001", 4) == 2000005


def test_a_long_series_description_is_cut_to_what_fits():
    ds = derived_from(variants.cr(SeriesDescription="x" * 64))

    assert len(ds.SeriesDescription) == 64


def test_values_outside_the_format_are_refused():
    source = variants.cr()
    image = decode.decode(source, codecs.EXPLICIT_VR_LITTLE_ENDIAN)

    with pytest.raises(ValueError, match="outside"):
        derive.derive(source, np.full((8, 8), 5000, "u2"), image.format, derivation(source, 2))
    with pytest.raises(ValueError, match="uint16"):
        derive.derive(source, np.zeros((8, 8), "u1"), image.format, derivation(source, 2))


def test_synthetic_data_is_passed_on_and_never_denied():
    assert "SyntheticData" not in derived_from(variants.cr())
    assert derived_from(variants.cr(SyntheticData="YES")).SyntheticData == "YES"
    assert derived_from(variants.cr(), synthetic_data=True).SyntheticData == "YES"


def test_a_result_is_recognised_as_ours_and_its_source_is_not():
    source = variants.cr()
    ds = derived_from(source)

    assert provenance.is_own_result(ds)
    assert not provenance.is_own_result(source)
    del ds.ContributingEquipmentSequence
    assert provenance.is_own_result(ds)
    del ds.InstanceCreatorUID
    ds.file_meta.ImplementationClassUID = UID("1.2.3")
    assert not provenance.is_own_result(ds)


def test_words_of_a_big_endian_source_are_turned_round(tmp_path):
    source = variants.with_overlay(variants.dx())
    source[0x60003000].value = bytes(range(1, 241)) * 4
    table = Dataset()
    table.LUTDescriptor, table.LUTExplanation = [4, 0, 12], "S"
    table.add_new("LUTData", "OW", np.array([1, 200, 3000, 4000], "<u2").tobytes())
    source.VOILUTSequence = Sequence([table])
    big = variants.encoded(source, codecs.EXPLICIT_VR_BIG_ENDIAN)
    for words in (big[0x60003000], big.VOILUTSequence[0]["LUTData"]):  # as a big endian writer has them
        words.value = np.frombuffer(words.value, "u2").byteswap().tobytes()
    path = variants.written(big, tmp_path / "source.dcm")

    _, derived = through_files(path, tmp_path / "derived.dcm")

    check_derived(source, derived, 2)
    assert list(np.frombuffer(derived.VOILUTSequence[0].LUTData, "<u2")) == [1, 200, 3000, 4000]


def test_overlays_are_enlarged_with_the_image():
    source = variants.with_overlay(variants.dx())
    source[0x60000050].value = [3, -4]

    ds = derived_from(source, 4)

    assert (ds[0x60000010].value, ds[0x60000011].value) == (4 * source.Rows, 4 * source.Columns)
    assert list(ds[0x60000050].value) == [9, -19]
    before, after = overlays.bits_of(source, 0x6000), overlays.bits_of(ds, 0x6000)
    np.testing.assert_array_equal(after, np.kron(before, np.ones((4, 4), "u1")))
    assert "overlays" not in ds.DerivationDescription


@pytest.mark.parametrize("element", [0x3000, 0x0010, 0x0011])
def test_an_overlay_that_is_not_whole_is_dropped_and_that_is_said(element):
    source = variants.with_overlay(variants.dx())
    del source[0x6000 << 16 | element]

    ds = derived_from(source)

    assert overlays.planes(ds) == []
    assert "left out: overlays" in ds.DerivationDescription


def test_sizes_and_spacings_in_a_wrong_vr_are_understood_and_written_in_the_right_one(tmp_path):
    source = variants.with_shutter(variants.cr())
    for keyword, vr, value in (
        ("Rows", "IS", "96"), ("Columns", "SL", 80), ("ImagerPixelSpacing", "LO", ["0.2", "0.2"]),
        ("ShutterLeftVerticalEdge", "DS", "5.0"), ("SeriesNumber", "SH", "3"),
        ("ImageComments", "LO", "seen"), ("SmallestImagePixelValue", "IS", "9"),
    ):  # fmt: skip
        if keyword in source:
            del source[keyword]
        source.add_new(keyword, vr, value)
    path = variants.written(source, tmp_path / "source.dcm")

    before, derived = through_files(path, tmp_path / "derived.dcm")

    check_derived(before, derived, 2)
    assert derived["Rows"].VR == derived["Columns"].VR == "US"
    assert derived["ImagerPixelSpacing"].VR == "DS"
    assert [float(v) for v in derived.ImagerPixelSpacing] == [0.1, 0.1]
    assert derived.ShutterLeftVerticalEdge == 9
    assert derived.ImageComments.endswith("seen")


@pytest.mark.parametrize("make", [variants.cr, variants.dx, variants.secondary_capture])
def test_what_a_class_demands_and_the_source_left_out_is_there_and_empty(make, require_peer, tmp_path):
    validator = require_peer("dciodvfy")
    source = make()
    for keyword in recipe.TYPE_2[source.SOPClassUID]:
        if keyword in source:
            del source[keyword]

    ds = derived_from(source)

    check_derived(source, ds, 2)
    assert ds.PatientBirthDate == ""
    derive.write_file(ds, tmp_path / "derived.dcm")
    variants.written(source, tmp_path / "source.dcm")
    missing = [e for e in errors(validator, tmp_path / "derived.dcm") if "Missing attribute Type 2 " in e]
    assert missing == []
    assert new_errors(validator, tmp_path / "source.dcm", tmp_path / "derived.dcm") == []
