"""What a JPEG, JPEG-LS or JPEG 2000 code stream says of itself, read from its first markers."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_JPEG_2000 = b"\xff\x4f\xff\x51"
"""Start of a code stream and of its SIZ segment; coded data cannot hold it."""
_SEARCHED = 1 << 18
"""Bytes within which the frame header stands: before it come only tables and comments."""
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
_BARE = {0x01, *range(0xD0, 0xDA)}


@dataclass(frozen=True, slots=True)
class StreamHeader:
    """Size of the matrix, bits of a sample and number of components, as the code stream has them."""

    rows: int
    columns: int
    precision: int
    components: int


def stream_header(stream: bytes) -> StreamHeader | None:
    """The header of a code stream, or None where it is not understood."""
    try:
        if stream.startswith(b"\xff\xd8"):
            return _jpeg(stream)
        if stream.count(_JPEG_2000) != 1:  # none, or boxes with one stream before the one that counts
            return None
        return _jpeg_2000(stream, stream.index(_JPEG_2000) + len(_JPEG_2000))
    except (struct.error, IndexError):
        return None


def _jpeg(stream: bytes) -> StreamHeader | None:
    at = 2
    while at < min(len(stream), _SEARCHED):
        if stream[at] != 0xFF:
            return None
        marker = stream[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker in _BARE:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", stream, at + 2)
        if marker in _FRAMES:
            precision, rows, columns, components = struct.unpack_from(">BHHB", stream, at + 4)
            return StreamHeader(rows, columns, precision, components)
        if marker == 0xDA or length < 2:
            return None
        at += 2 + length
    return None


def _jpeg_2000(stream: bytes, at: int) -> StreamHeader:
    """The SIZ segment (ISO/IEC 15444-1 A.5.1), whose length stands at `at`."""
    width, height, left, top = struct.unpack_from(">4I", stream, at + 4)
    components, precision = struct.unpack_from(">HB", stream, at + 36)
    return StreamHeader(height - top, width - left, (precision & 0x7F) + 1, components)
