"""Examination survives every object: header facts, pixels or a typed reason come back, and the parent
stays small."""

from __future__ import annotations

import resource
import struct
import time
import uuid
import zlib
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import UID

from pacs_node import codecs
from pacs_node.errors import Reason, Refused
from pacs_node.examine import Examiner, Limits
from pacs_node.examine_child import CRASH_VARIABLE
from pacs_node.secondary import PictureContext
from tests import dicom_variants as variants

CONTEXT = PictureContext(uuid.UUID(int=7), "ab" * 32, datetime(2026, 1, 2, tzinfo=UTC), {"PatientID": "P9"})


@pytest.fixture(scope="module")
def examiner():
    with Examiner(Limits(timeout_seconds=30, memory_bytes=2 << 30)) as examiner:
        yield examiner


def reason(examiner, path, context=None):
    """Why the object is refused, wherever the reason stands."""
    try:
        refusal = examiner.examine(path, context).refusal
    except Refused as refused:
        refusal = refused.refusal
    assert refusal is not None
    return refusal.reason


def test_header_facts_and_pixels_come_back(examiner, tmp_path):
    values = variants.chest_values(12)
    path = variants.written(variants.cr(values), tmp_path / "a.dcm")

    seen = examiner.examine(path)

    np.testing.assert_array_equal(seen.image.values, values)
    assert seen.refusal is None
    assert (seen.facts.patient.name, seen.facts.series.modality) == ("Müller^Jörg", "CR")
    assert seen.transfer_syntax == codecs.EXPLICIT_VR_LITTLE_ENDIAN
    assert "PixelData" not in seen.header


@pytest.mark.parametrize(
    "uid",
    [
        codecs.IMPLICIT_VR_LITTLE_ENDIAN,
        codecs.EXPLICIT_VR_BIG_ENDIAN,
        codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
        codecs.JPEG_LOSSLESS_SV1,
        codecs.JPEG_2000_LOSSLESS,
        codecs.RLE_LOSSLESS,
    ],
)
def test_the_same_image_has_the_same_digests_in_every_transfer_syntax(examiner, tmp_path, uid):
    source = variants.with_shutter(variants.dx())
    plain = examiner.examine(variants.written(source, tmp_path / "plain.dcm"))

    other = examiner.examine(variants.written(variants.encoded(source, uid), tmp_path / "other.dcm"))

    assert other.transfer_syntax == uid
    assert (other.pixel_digest, other.header_digest) == (plain.pixel_digest, plain.header_digest)
    assert other.dropped == ()
    assert other.header.ImagerPixelSpacing == plain.header.ImagerPixelSpacing
    assert other.header.PixelRepresentation == 0


@pytest.mark.parametrize(
    ("attributes", "pixels", "header"),
    [
        ({"PatientName": "Other"}, True, False),
        ({"AccessionNumber": "2"}, True, False),
        ({"Laterality": "L"}, True, False),
        ({"PhotometricInterpretation": "MONOCHROME1"}, False, True),
        ({"WindowCenter": "7"}, True, True),
    ],
)
def test_the_digests_tell_a_correction_from_another_image(examiner, tmp_path, attributes, pixels, header):
    source = variants.cr()
    first = examiner.examine(variants.written(source, tmp_path / "a.dcm"))
    for keyword, value in attributes.items():
        setattr(source, keyword, value)

    second = examiner.examine(variants.written(source, tmp_path / "b.dcm"))

    assert (second.pixel_digest == first.pixel_digest) is pixels
    assert (second.header_digest == first.header_digest) is header


def test_a_text_file_is_refused(examiner, tmp_path):
    path = tmp_path / "a.dcm"
    path.write_text("not an image at all\n" * 30)

    assert reason(examiner, path) is Reason.NOT_AN_IMAGE


def test_an_empty_file_is_refused(examiner, tmp_path):
    path = tmp_path / "a.dcm"
    path.touch()

    assert reason(examiner, path) is Reason.NOT_AN_IMAGE


@pytest.mark.parametrize("share", [0.02, 0.05, 0.3, 0.9])
@pytest.mark.parametrize("uid", [codecs.EXPLICIT_VR_LITTLE_ENDIAN, codecs.JPEG_2000_LOSSLESS])
def test_a_truncated_file_is_refused(examiner, tmp_path, uid, share):
    path = variants.written(variants.encoded(variants.cr(), uid), tmp_path / "a.dcm")
    content = path.read_bytes()
    path.write_bytes(content[: 132 + int(len(content) * share)])

    assert reason(examiner, path) in (Reason.TRUNCATED, Reason.UNREADABLE, Reason.NO_PIXELS)


def test_an_object_without_pixels_is_refused_with_its_facts(examiner, tmp_path):
    seen = examiner.examine(variants.written(variants.cr(PixelData=None), tmp_path / "a.dcm"))

    assert seen.refusal.reason is Reason.NO_PIXELS
    assert seen.facts.patient.patient_id == "PID-1"


def test_a_hundred_megapixels_are_refused_before_they_are_decoded(examiner, tmp_path):
    ds = variants.encoded(variants.cr(), codecs.RLE_LOSSLESS)
    ds.Rows = ds.Columns = 10000
    path = variants.written(ds, tmp_path / "a.dcm")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert reason(examiner, path) is Reason.TOO_LARGE

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_a_picture_of_a_hundred_megapixels_is_refused_before_it_is_decoded(examiner, tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(_png_header(10000, 10000))

    assert reason(examiner, path, CONTEXT) is Reason.TOO_LARGE


def test_a_deflated_bomb_ends_in_the_child(tmp_path):
    ds = variants.cr(variants.chest_values(8), bits=8)
    ds.add_new(0x00091001, "OB", b"\0" * 200_000_000)
    path = tmp_path / "a.dcm"
    ds.file_meta.TransferSyntaxUID = UID(codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    variants.written(ds, path)
    del ds
    assert path.stat().st_size < 1_000_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with Examiner(Limits(timeout_seconds=30, memory_bytes=500 << 20)) as small:
        assert reason(small, path) is Reason.DECODER_MEMORY

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


@pytest.mark.parametrize(
    ("crash", "expected"),
    [
        ("segv", Reason.DECODER_CRASHED),
        ("abort", Reason.DECODER_CRASHED),
        ("hang", Reason.DECODER_TIMEOUT),
        ("spin", Reason.DECODER_TIMEOUT),
        ("swell", Reason.DECODER_MEMORY),
    ],
)
def test_a_decoder_that_breaks_down_is_a_clean_failure_with_the_facts(tmp_path, crash, expected):
    path = variants.written(variants.cr(), tmp_path / "a.dcm")

    with Examiner(Limits(timeout_seconds=2), environment={CRASH_VARIABLE: crash}) as broken:
        began = time.monotonic()
        seen = broken.examine(path)

    assert seen.refusal.reason is expected
    assert seen.image is None
    assert seen.facts.sop_instance
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("uid", [uid for uid in codecs.CODECS if codecs.CODECS[uid].encapsulated])
def test_random_damage_of_a_code_stream_never_breaks_the_parent(examiner, tmp_path, uid):
    bits = 8 if uid == codecs.JPEG_BASELINE else 12
    path = variants.written(variants.encoded(variants.cr(bits=bits), uid), tmp_path / "a.dcm")
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(len(uid))
    for at in rng.integers(len(content) // 2, len(content), 12):
        content[at] = int(rng.integers(0, 256))
    path.write_bytes(content)

    try:
        seen = examiner.examine(path)
    except Refused:
        return
    assert (seen.image is None) != (seen.refusal is None)


def test_the_next_object_is_examined_after_one_that_broke(examiner, tmp_path):
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 64)
    good = variants.written(variants.cr(), tmp_path / "good.dcm")

    assert reason(examiner, bad)
    assert examiner.examine(good).image is not None


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("SOPInstanceUID", ""), ("StudyInstanceUID", None), ("SeriesInstanceUID", "../../etc/passwd")],
)
def test_an_object_that_cannot_be_referred_to_is_refused(examiner, tmp_path, keyword, value):
    ds = variants.cr()
    path = variants.written(ds, tmp_path / "a.dcm")
    from pydicom import config, dcmread

    with config.disable_value_validation():
        ds = dcmread(path)
        if value is None:
            del ds[keyword]
        else:
            setattr(ds, keyword, value)
        ds.save_as(path)

    assert reason(examiner, path) is Reason.MISSING_ATTRIBUTE


def test_odd_values_of_real_devices_are_carried_along_or_dropped_and_named(examiner, tmp_path):
    ds = variants.cr()
    ds.add_new(0x00181150, "IS", "8")
    path = variants.written(ds, tmp_path / "a.dcm")
    content = path.read_bytes().replace(b"20240501\x08\x00", b"2024.5.1\x08\x00")
    content = content.replace(b"IS\x02\x008 ", b"FD\x02\x008 ")
    path.write_bytes(content)

    seen = examiner.examine(path)

    assert seen.image is not None
    assert seen.dropped == ("ExposureTime",)
    assert seen.facts.study.date == "202451"


def test_a_sequence_of_a_hundred_thousand_items_is_left_in_the_child(examiner, tmp_path):
    ds = variants.cr()
    item = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"
    ds.add_new(0x00081140, "UN", item * 100_000)
    path = variants.written(ds, tmp_path / "a.dcm")
    content = path.read_bytes()
    at = content.index(b"\x08\x00\x40\x11UN") + 4
    path.write_bytes(content[:at] + b"SQ" + content[at + 2 :])

    seen = examiner.examine(path)

    assert seen.dropped == ("ReferencedImageSequence",)
    assert seen.image is not None


def test_a_waiting_child_that_was_killed_is_replaced(tmp_path):
    path = variants.written(variants.cr(), tmp_path / "a.dcm")
    with Examiner() as examiner:
        assert examiner._spare is not None
        examiner._spare.process.kill()
        examiner._spare.process.wait()

        assert examiner.examine(path).image is not None


def test_a_picture_becomes_a_secondary_capture(examiner, tmp_path):
    path = tmp_path / "a.png"
    values = variants.chest_values(16)
    Image.fromarray(values).save(path)

    seen = examiner.examine(path, CONTEXT)

    np.testing.assert_array_equal(seen.image.values, values)
    assert seen.is_picture
    assert (seen.facts.sop_class, seen.facts.patient.patient_id) == (variants.SC, "P9")
    assert examiner.examine(path, CONTEXT).facts.sop_instance == seen.facts.sop_instance


def test_a_dicom_file_that_begins_like_a_tiff_is_dicom(examiner, tmp_path):
    path = variants.written(variants.cr(), tmp_path / "a.dcm")
    path.write_bytes(b"II*\0" + path.read_bytes()[4:])

    assert not examiner.examine(path).is_picture


def test_a_data_set_without_file_meta_information_is_read(examiner, tmp_path):
    ds = variants.cr()
    del ds.file_meta
    path = tmp_path / "a.dcm"
    ds.save_as(path, implicit_vr=True, little_endian=True)

    seen = examiner.examine(path)

    assert seen.image is not None
    assert seen.transfer_syntax == codecs.IMPLICIT_VR_LITTLE_ENDIAN


def test_nothing_is_left_behind(tmp_path):
    import os

    path = variants.written(variants.cr(), tmp_path / "a.dcm")
    with Examiner() as examiner:
        examiner.examine(path)
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            examiner.examine(path)
        assert len(os.listdir("/proc/self/fd")) <= before + 2


def _png_header(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )
