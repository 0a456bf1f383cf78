"""A code stream's own header is read for every encoding, and never trusted further than it goes."""

from __future__ import annotations

import pytest
from pydicom.encaps import generate_frames

from pacs_node import codecs
from pacs_node.codestream import StreamHeader, stream_header
from tests import dicom_variants as variants

STREAMS = [uid for uid, codec in codecs.CODECS.items() if codec.encapsulated and uid != codecs.RLE_LOSSLESS]


@pytest.mark.parametrize("uid", STREAMS, ids=lambda uid: codecs.CODECS[uid].name)
def test_size_and_precision_are_read(uid):
    bits = 8 if uid == codecs.JPEG_BASELINE else 12
    ds = variants.encoded(variants.cr(bits=bits), uid)

    found = stream_header(next(generate_frames(ds.PixelData, number_of_frames=1)))

    assert found is not None
    assert (found.rows, found.columns, found.components) == (96, 80, 1)
    assert bits <= found.precision <= 16


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xe0\x00\x00",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xc0\x00",
        b"\xff\x4f\xff\x51\x00\x29",
        b"text" * 99,
    ],
)
def test_what_is_no_code_stream_has_no_header(stream):
    assert stream_header(stream) is None


def test_segments_before_the_frame_are_passed_over():
    stream = b"\xff\xd8\xff\xfe\x00\x06abcd\xff\xff\xc3\x00\x0b\x10\x00\x05\x00\x07\x01\x01\x11\x00"

    assert stream_header(stream) == StreamHeader(rows=5, columns=7, precision=16, components=1)
