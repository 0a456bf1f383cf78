"""An outline counts what a reader would make objects of, refuses what is too much, and takes everything that
real devices write."""

from __future__ import annotations

import io
import struct

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from pacs_node import codecs, commandset, commitment, normalized, outline
from pacs_node.errors import Reason, Refused
from pacs_node.outline import Stored, survey, walk
from pacs_node.received import Caller
from tests import dicom_variants as variants
from tests.pacs_node.bombs import ITEM, OPEN_ITEM, SEQUENCE_END, head, spliced

OPEN = 0xFFFFFFFF
ITEM_END = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
NAME = head(0x0010, 0x0010, b"PN", 4) + b"A^B "


def count(data: bytes, *, deep: bool = False, max_elements: int = outline.MAX_ELEMENTS) -> int:
    """Elements of a data set in Explicit VR Little Endian."""
    return walk(Stored(io.BytesIO(data)), deep=deep, max_elements=max_elements).elements


@pytest.mark.parametrize("uid", [uid for uid in codecs.CODECS if uid != codecs.JPEG_EXTENDED])
def test_a_good_image_passes_in_every_transfer_syntax(tmp_path, uid):
    bits = 8 if uid == codecs.JPEG_BASELINE else 12
    ds = variants.encoded(variants.with_overlay(variants.cr(bits=bits)), uid)
    found = survey(variants.written(ds, tmp_path / "a"), most_bytes=1 << 20)
    assert 40 < found.elements < 100
    assert 0 < found.pixel_bytes <= 96 * 80 * 2
    assert not found.cut


def test_an_icon_in_fragments_within_a_sequence_is_passed_over(tmp_path):
    fragments = struct.pack("<HHI", 0xFFFE, 0xE000, 6) + b"\xff\xd8\xe0\x7f\x10\x00" + SEQUENCE_END
    icon = head(0x7FE0, 0x0010, b"OB", OPEN) + ITEM + fragments
    sequence = head(0x0088, 0x0200, b"SQ", OPEN) + OPEN_ITEM + icon + ITEM_END + SEQUENCE_END
    path = tmp_path / "a"
    path.write_bytes(spliced(sequence, before=b"\xe0\x7f\x10\x00"))
    assert survey(path, most_bytes=1 << 20).pixel_bytes == 96 * 80 * 2


def test_what_is_unknown_and_of_no_stated_length_is_implicit_within():
    implicit = struct.pack("<HHI", 0x0009, 0x1001, 2) + b"ab"
    unknown = head(0x0009, 0x1000, b"UN", OPEN) + OPEN_ITEM + implicit + ITEM_END + SEQUENCE_END
    assert count(unknown + NAME) == 6


def test_zeros_at_the_end_of_a_file_are_no_elements():
    assert count(NAME + bytes(8000), max_elements=2) == 1


def test_a_sequence_that_states_its_length_is_opened_where_it_is_asked_for_alone():
    sequence = head(0x0008, 0x1140, b"SQ", 24) + ITEM * 3
    assert count(sequence + NAME) == 2
    assert count(sequence + NAME, deep=True) == 5


@pytest.mark.parametrize("depth", [31, 33])
def test_nesting_is_bounded_where_lengths_are_stated_too(depth):
    body = b""
    for _ in range(depth):
        body = (
            head(0x0008, 0x1140, b"SQ", len(body) + 8) + struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body
        )
    side_by_side = body * 40
    if depth < outline.MAX_DEPTH:
        assert count(side_by_side, deep=True) == 40 * 2 * depth
    else:
        with pytest.raises(Refused, match="nested"):
            count(side_by_side, deep=True)


def test_an_element_beyond_the_end_is_refused_and_pixels_beyond_it_are_told():
    with pytest.raises(Refused, match="ends early") as caught:
        count(head(0x0009, 0x1001, b"OB", 1 << 31))
    assert caught.value.refusal.reason is Reason.TRUNCATED
    found = walk(Stored(io.BytesIO(NAME + head(0x7FE0, 0x0010, b"OW", 1 << 31))))
    assert (found.pixel_bytes, found.cut) == (1 << 31, True)


def _request(ds_bytes: bytes) -> normalized.Request:
    told = commandset.Command(0x0130, 1, True, commitment.SOP_CLASS, commitment.SOP_INSTANCE)
    syntax = codecs.EXPLICIT_VR_LITTLE_ENDIAN
    request = normalized.Request(Caller("A", "B", "127.0.0.1"), 1, commitment.SOP_CLASS, syntax, told)
    request.incoming.write(ds_bytes)
    return request


@pytest.mark.parametrize("length", [OPEN, 8 * 250_000], ids=["undefined", "stated"])
def test_a_request_for_commitment_with_a_quarter_million_items_is_refused_unread(length, monkeypatch):
    monkeypatch.setattr(normalized, "decode", lambda *_: pytest.fail("it was decoded"))
    items = head(0x0008, 0x1199, b"SQ", length) + ITEM * 250_000
    with pytest.raises(Refused, match="more than 60,000 elements"):
        _request(items).data_set()


def test_a_request_for_commitment_of_ten_thousand_objects_is_read():
    reference = head(0x0008, 0x1150, b"UI", 6) + b"1.2.3\0" + head(0x0008, 0x1155, b"UI", 6) + b"1.2.4\0"
    items = (OPEN_ITEM + reference + ITEM_END) * commitment.MOST_INSTANCES
    stated = head(0x0008, 0x1199, b"SQ", len(items)) + items
    assert "ReferencedSOPSequence" in _request(stated).data_set()


def test_a_report_with_a_reason_that_is_no_number_is_unusable():
    ds = Dataset()
    ds.TransactionUID = "1.2.3"
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = "1.2", "1.2.4"
    item.add_new(0x00081197, "LO", "many")
    ds.FailedSOPSequence = Sequence([item])
    with pytest.raises(commitment.Unusable):
        commitment.read_event(ds)
