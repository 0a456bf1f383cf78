from __future__ import annotations

import io
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pacs_node import codecs, header
from tests.pacs_node.nodes import CR, EXPLICIT, IMPLICIT, encoded, make_object

BIG, DEFLATED = codecs.EXPLICIT_VR_BIG_ENDIAN, codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED, codecs.JPEG_LOSSLESS_SV1])
@pytest.mark.parametrize("undefined_length", [False, True])
def test_the_uids_are_found_in_every_encoding_behind_a_nested_sequence(syntax, undefined_length):
    ds = make_object()
    inner, outer = Dataset(), Dataset()
    inner.CodeValue = "eng"
    outer.MappingResourceIdentificationSequence = Sequence([inner, inner])
    outer.CodeValue = "x"
    ds.LanguageCodeSequence = Sequence([outer, Dataset()])
    for sequence in (ds["LanguageCodeSequence"], outer["MappingResourceIdentificationSequence"]):
        sequence.is_undefined_length = undefined_length
        for item in sequence.value:
            item.is_undefined_length_sequence_item = undefined_length
    names = header.read_names(encoded(ds, syntax), syntax)
    assert names == header.Names(CR, ds.SOPInstanceUID)


def test_nothing_behind_the_uids_is_read():
    ds = make_object()
    whole = encoded(ds)
    cut = whole[: whole.index(ds.SOPInstanceUID.encode()) + len(ds.SOPInstanceUID) + 1]
    assert header.read_names(cut + b"\xff" * 1000, EXPLICIT).sop_instance_uid == ds.SOPInstanceUID


def test_a_deflated_bomb_costs_64_kib():
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = squeezer.compress(bytes(100 << 20)) + squeezer.flush()
    with pytest.raises(header.HeaderError):
        header.read_names(bomb, DEFLATED)


@pytest.mark.parametrize("keyword", ["SOPClassUID", "SOPInstanceUID"])
@pytest.mark.parametrize("how", ["missing", "empty"])
def test_a_missing_or_empty_uid_is_told(keyword, how):
    ds = make_object()
    if how == "missing":
        del ds[keyword]
    else:
        setattr(ds, keyword, "")
    with pytest.raises(header.Missing, match="is empty"):
        header.read_names(encoded(ds), EXPLICIT)


@pytest.mark.parametrize("uid", ["../../etc/passwd", "1.2.", ".1", "1..2", "1 2", "1" * 65, "1.2\n", "१.२"])
def test_an_unsafe_uid_is_not_a_uid(uid):
    assert not header.is_safe_uid(uid)
    with pytest.raises(header.Unsafe) as raised:
        header.check_uid(uid, "SOP Instance UID")
    assert uid not in str(raised.value)


@pytest.mark.parametrize("uid", ["1.2.840.10008.1.1", "1.2.03.4", "1" * 64])
def test_uids_as_devices_write_them_are_let_through(uid):
    assert header.is_safe_uid(uid)


@given(st.binary(max_size=400), st.sampled_from([EXPLICIT, IMPLICIT, BIG, DEFLATED]))
def test_any_bytes_give_names_or_a_header_error(data, syntax):
    try:
        header.read_names(data, syntax)
    except header.HeaderError:
        pass


@given(st.binary(max_size=200), st.integers(0, 600))
def test_a_damaged_header_gives_names_or_a_header_error(damage, where):
    whole = encoded(make_object(uid="1.2.3"))
    try:
        header.read_names(whole[:where] + damage + whole[where + len(damage) :], EXPLICIT)
    except header.HeaderError:
        pass


def test_a_written_file_header_is_what_pydicom_reads_and_what_we_read():
    ds = make_object()
    written = header.part10_header(CR, ds.SOPInstanceUID, EXPLICIT)
    file = io.BytesIO(written + encoded(ds))
    assert header.read_part10(file) == header.Part10(CR, ds.SOPInstanceUID, EXPLICIT, len(written))
    file.seek(0)
    read = dcmread(file)
    assert read.file_meta.MediaStorageSOPInstanceUID == read.SOPInstanceUID == ds.SOPInstanceUID
    assert read.file_meta.TransferSyntaxUID == EXPLICIT
    assert read.PixelData == ds.PixelData


def test_the_same_object_gets_the_same_file_header_from_whoever_sends_it_and_whenever():
    assert header.part10_header(CR, "1.2.3", EXPLICIT) == header.part10_header(CR, "1.2.3", EXPLICIT)


@pytest.mark.parametrize(
    "data", [b"", b"text" * 100, bytes(128) + b"DICM", bytes(128) + b"DICM" + b"\x02\x00" * 9]
)
def test_what_is_not_a_dicom_file_is_told(data):
    with pytest.raises(header.HeaderError):
        header.read_part10(io.BytesIO(data))
