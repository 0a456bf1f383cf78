"""Objects and pictures that promise or hide far more than they are, each built in code: the same for the
tests and for whoever measures.

`BOMBS` maps a name to the function that writes it, what it must be refused for (or `sound`: it is an image
all the same), and words of the refusal.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from pacs_node import codecs
from pacs_node.header import part10_header
from tests import dicom_variants as variants

MAX_PIXELS = 4_000_000
"""What an image may have where bombs are tried; the limits in bytes follow from it."""
_UNDEFINED = 0xFFFFFFFF


def head(group: int, element: int, vr: bytes, length: int) -> bytes:
    """The head of an element in Explicit VR Little Endian."""
    if vr in (b"OB", b"OW", b"UN", b"SQ", b"UT", b"UC"):
        return struct.pack("<HH2sHI", group, element, vr, 0, length)
    return struct.pack("<HH2sH", group, element, vr, length)


ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, 0)
OPEN_ITEM = struct.pack("<HHI", 0xFFFE, 0xE000, _UNDEFINED)
SEQUENCE_END = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
PRIVATE = head(0x0009, 0x0010, b"LO", 6) + b"VENDOR"


def spliced(extra: bytes, *, before: bytes = b"\x10\x00\x10\x00PN") -> bytes:
    """A good CR image with these bytes before its patient's name, as nobody's library would write it."""
    buffer = io.BytesIO()
    variants.cr().save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    at = content.index(before)
    return content[:at] + extra + content[at:]


def _meta(syntax: str) -> bytes:
    return part10_header(variants.CR, "1.2.3", syntax)


def deflated(plain: bytes, more: int = 0) -> bytes:
    """A deflated object of these bytes and so many zeros."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts = [packer.compress(plain), *(packer.compress(bytes(1 << 20)) for _ in range(more >> 20))]
    return _meta(codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN) + b"".join(parts) + packer.flush()


def _plain() -> bytes:
    """The data set of a good image without its file meta information."""
    content = spliced(b"")
    return content[content.index(b"\x08\x00\x05\x00CS") :]


def _implicit(extra: bytes) -> bytes:
    """A good image in Implicit VR with these bytes before its window."""
    ds = variants.cr()
    del ds.WindowCenter, ds.WindowWidth
    ds.file_meta.TransferSyntaxUID = UID(codecs.IMPLICIT_VR_LITTLE_ENDIAN)
    buffer = io.BytesIO()
    ds.save_as(buffer, implicit_vr=True, little_endian=True, enforce_file_format=True)
    content = buffer.getvalue()
    at = content.index(b"\xe0\x7f\x10\x00")
    return content[:at] + extra + content[at:]


def _of(**attributes: Any) -> bytes:
    return _saved(variants.cr(**attributes))


def _saved(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _stream(syntax: str, stream: bytes, rows: int, columns: int, bits: int = 8) -> bytes:
    ds = variants.cr(variants.chest_values(8), bits=8)
    ds.Rows, ds.Columns = rows, columns
    ds.BitsAllocated = 16 if bits > 8 else 8
    ds.BitsStored, ds.HighBit = bits, bits - 1
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].is_undefined_length = True
    ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    return _saved(ds)


def _j2k(rows: int, columns: int, tile: tuple[int, int] | None = None) -> bytes:
    """A JPEG 2000 stream of a small image that says that it is of another size."""
    stream = bytearray(imagecodecs.jpeg2k_encode(variants.chest_values(8), codecformat="j2k"))
    at = stream.index(b"\xff\x51") + 4
    struct.pack_into(">2I", stream, at + 2, columns, rows)
    struct.pack_into(">2I", stream, at + 18, *(tile or (columns, rows)))
    return bytes(stream)


def _boxed(hidden: bytes) -> bytes:
    """A JP2 file whose first box holds the start of a small stream, and the last one a large stream."""

    def box(kind: bytes, body: bytes | bytearray) -> bytes:
        return struct.pack(">I4s", len(body) + 8, kind) + body

    small = imagecodecs.jpeg2k_encode(variants.chest_values(8), codecformat="j2k")
    rows, columns = struct.unpack_from(">2I", hidden, hidden.index(b"\xff\x51") + 6)[::-1]
    image = struct.pack(">2IHBBBB", rows, columns, 1, 7, 7, 0, 0)
    header = box(b"ihdr", image) + box(b"colr", b"\x01\0\0" + struct.pack(">I", 17))
    start = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return start + box(b"free", small[:120]) + box(b"jp2h", header) + box(b"jp2c", hidden)


def _jpeg_of(rows: int, columns: int) -> bytes:
    stream = bytearray(imagecodecs.jpeg8_encode(variants.chest_values(8)))
    at = stream.index(b"\xff\xc0")
    struct.pack_into(">HH", stream, at + 5, rows, columns)
    return bytes(stream)


def _jpeg_ls_of(rows: int, columns: int) -> bytes:
    stream = bytearray(imagecodecs.jpegls_encode(variants.chest_values(8)))
    at = stream.index(b"\xff\xf7")
    struct.pack_into(">HH", stream, at + 5, rows, columns)
    return bytes(stream)


def png(width: int, height: int, *, data: bytes = b"\0", more: bytes = b"") -> bytes:
    """A PNG picture in grey of that size, with this much in it and further chunks before it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(data, 1)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(width: int, height: int, *entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """A TIFF picture of one strip of 16 bytes, with these tags (number, type, count, value) besides."""
    tags = {256: (4, 1, width), 257: (4, 1, height), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1),
            273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, height), 279: (4, 1, 16)}  # fmt: skip
    tags |= {number: (kind, count, value) for number, kind, count, value in entries}
    directory = struct.pack("<H", len(tags))
    for number in sorted(tags):
        directory += struct.pack("<HHII", number, *tags[number])
    return b"II*\0" + struct.pack("<I", 24) + bytes(16) + directory + struct.pack("<I", following)


def _grey_png() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(variants.chest_values(8)).save(buffer, "PNG")
    return buffer.getvalue()


def _nested(depth: int) -> bytes:
    return (head(0x0008, 0x1140, b"SQ", _UNDEFINED) + OPEN_ITEM) * depth


def _nested_in_lengths(depth: int) -> bytes:
    body = b""
    for _ in range(depth):
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(body)) + body
        body = head(0x0008, 0x1140, b"SQ", len(item)) + item
    return body


def _flat(count: int) -> bytes:
    return b"".join(head(0x0009 + 2 * (n >> 15), 0x1000 + (n & 0x7FFF), b"LO", 0) for n in range(count))


def _palette() -> bytes:
    """A palette of segments that each say that they are 65,535 entries long."""
    ds = variants.with_palette(variants.chest_values(8), *[np.arange(256, dtype="u1")] * 3, entry_bits=16)
    segment = struct.pack("<3H", 1, 0xFFFF, 0)
    for colour in ("Red", "Green", "Blue"):
        del ds[f"{colour}PaletteColorLookupTableData"]
        table = struct.pack("<3H", 0, 1, 0) + segment * 3000
        ds.add_new(f"Segmented{colour}PaletteColorLookupTableData", "OW", table)
    return _saved(ds)


def _cut_pixels(stated: int) -> bytes:
    content = spliced(b"")
    at = content.index(b"\xe0\x7f\x10\x00OW") + 8
    return content[:at] + struct.pack("<I", stated) + content[at + 4 :]


@dataclass(frozen=True)
class Bomb:
    """What is written, what it is refused for (a reason's value, or `sound`), and words of the refusal."""

    make: Callable[[], bytes]
    expected: tuple[str, ...]
    words: str = ""

    def write(self, path: Path) -> Path:
        path.write_bytes(self.make())
        return path


BIG = 60_000
BOMBS: dict[str, Bomb] = {
    "deflated zeros": Bomb(
        lambda: deflated(_plain() + head(0x7FE1, 0x0010, b"OB", 64 << 20), 64 << 20), ("too-large",),
        "deflated object holds more than",
    ),
    "deflated zeros within an element": Bomb(
        lambda: deflated(head(0x0008, 0x0008, b"UN", 64 << 20), 64 << 20), ("too-large",),
        "deflated object holds more than",
    ),
    "deflated sequences": Bomb(
        lambda: deflated(head(0x0008, 0x1140, b"SQ", _UNDEFINED) + ITEM * 2_000_000), ("too-large",),
        "more than 200,000 elements",
    ),
    "65,535 rows and columns": Bomb(lambda: _of(Rows=65535, Columns=65535), ("too-large",), "65535 x 65535"),
    "a billion frames": Bomb(lambda: _of(NumberOfFrames="999999999"), ("multi-frame",), "999999999 frames"),
    "JPEG 2000 of another size": Bomb(
        lambda: _stream(codecs.JPEG_2000_LOSSLESS, _j2k(BIG, BIG), 96, 80), ("broken-stream",),
        "60000 x 60000",
    ),
    "JPEG 2000 behind another": Bomb(
        lambda: _stream(codecs.JPEG_2000_LOSSLESS, _boxed(_j2k(BIG, BIG)), 96, 80), ("broken-stream",)
    ),
    "JPEG 2000 of single pixels": Bomb(
        lambda: _stream(codecs.JPEG_2000_LOSSLESS, _j2k(2000, 2000, (1, 1)), 2000, 2000), ("broken-stream",)
    ),
    "HTJ2K of another size": Bomb(
        lambda: _stream(codecs.HTJ2K_LOSSLESS, _j2k(BIG, BIG), 96, 80), ("broken-stream",),
        "60000 x 60000",
    ),
    "JPEG of another size": Bomb(
        lambda: _stream(codecs.JPEG_BASELINE, _jpeg_of(BIG, BIG), 96, 80), ("broken-stream",), "60000 x 60000"
    ),
    "JPEG-LS of another size": Bomb(
        lambda: _stream(codecs.JPEG_LS_LOSSLESS, _jpeg_ls_of(BIG, BIG), 96, 80), ("broken-stream",),
        "60000 x 60000",
    ),
    "RLE that repeats for ever": Bomb(
        lambda: _stream(codecs.RLE_LOSSLESS, struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * 4_000_000,
                        96, 80),
        ("sound", "broken-stream"),
    ),
    "fragments without number": Bomb(
        lambda: _stream(codecs.JPEG_LS_LOSSLESS, b"\xff\xd8", 96, 80).partition(b"\xfe\xff\x00\xe0")[0]
        + ITEM * 400_000 + SEQUENCE_END,
        ("too-large",), "too many fragments",
    ),
    "millions of items": Bomb(
        lambda: spliced(head(0x0008, 0x1140, b"SQ", _UNDEFINED) + ITEM * 2_000_000 + SEQUENCE_END),
        ("too-large",), "more than 200,000 elements",
    ),
    "millions of items in a stated length": Bomb(
        lambda: spliced(head(0x0008, 0x1140, b"SQ", 8 * 500_000) + ITEM * 500_000), ("sound",)
    ),
    "half a million elements": Bomb(lambda: spliced(_flat(500_000)), ("too-large",), "more than 200,000"),
    "sequences that fill the header": Bomb(
        lambda: spliced(
            b"".join(
                head(0x0009 + 2 * n, 0x1000, b"SQ", 8 * 19_000) + ITEM * 19_000 for n in range(20)
            )
        ),
        ("too-large",), "more than 50,000 elements",
    ),
    "100,000 deep": Bomb(lambda: spliced(_nested(100_000)), ("too-large",), "nested more than 32 deep"),
    "3,000 deep in stated lengths": Bomb(lambda: spliced(_nested_in_lengths(3_000)), ("sound",)),
    "a sequence without end": Bomb(
        lambda: spliced(head(0x0008, 0x1140, b"SQ", _UNDEFINED)), ("truncated", "unreadable")
    ),
    "an item without end": Bomb(
        lambda: spliced(head(0x0008, 0x1140, b"SQ", _UNDEFINED) + OPEN_ITEM), ("truncated", "unreadable")
    ),
    "pixels of 2 GiB announced": Bomb(lambda: _cut_pixels(0x80000000), ("truncated",), "ends early"),
    "pixels of 4 GiB announced": Bomb(lambda: _cut_pixels(0xFFFFFFFE), ("truncated",), "ends early"),
    "pixels of no VR at all": Bomb(
        lambda: spliced(b"").replace(b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00O\xe0"),
        ("unreadable", "truncated"),
    ),
    "pixels of a few bytes announced": Bomb(lambda: _cut_pixels(64), ("truncated", "unreadable")),
    "a private element of 2 GiB announced": Bomb(
        lambda: spliced(PRIVATE + head(0x0009, 0x1001, b"OB", 0x80000000)), ("truncated",), "ends early"
    ),
    "an unknown element of 4 GiB announced": Bomb(
        lambda: spliced(head(0x0009, 0x1001, b"UN", 0xFFFFFFFE)), ("truncated",), "ends early"
    ),
    "an unknown element of 32 MiB": Bomb(
        lambda: spliced(PRIVATE + head(0x0009, 0x1001, b"UN", 32 << 20) + bytes(32 << 20)), ("sound",)
    ),
    "private blocks without number": Bomb(
        lambda: spliced(
            b"".join(head(0x0009 + 2 * (n >> 8), n & 0xFF, b"LO", 6) + b"VENDOR" for n in range(250_000))
        ),
        ("too-large",), "more than 200,000 elements",
    ),
    "two million numbers": Bomb(
        lambda: _implicit(struct.pack("<HHI", 0x0028, 0x1050, 4 << 20) + b"1\\" * (2 << 20)), ("sound",)
    ),
    "segments of a palette": Bomb(_palette, ("missing-attribute",), "palette cannot be read"),
    "an ICC profile of 3 MiB": Bomb(
        lambda: spliced(head(0x0028, 0x2000, b"OB", 3 << 20) + bytes(3 << 20), before=b"\xe0\x7f\x10\x00"),
        ("sound",),
    ),
    "PNG of 100 megapixels": Bomb(lambda: png(10_000, 10_000), ("too-large",), "10000 x 10000"),
    "PNG with more in it than it says": Bomb(
        lambda: png(100, 100, data=bytes(64 << 20)), ("sound", "broken-stream")
    ),
    "PNG with a profile that swells": Bomb(
        lambda: png(100, 100, data=bytes(10_100),
                    more=chunk(b"iCCP", b"x\0\0" + zlib.compress(bytes(64 << 20), 1))),
        ("sound", "broken-stream"),
    ),
    "PNG with a text that swells": Bomb(
        lambda: png(100, 100, data=bytes(10_100),
                    more=chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(64 << 20), 1))),
        ("sound", "broken-stream"),
    ),
    "TIFF of 100 megapixels": Bomb(lambda: tiff(10_000, 10_000), ("too-large",), "10000 x 10000"),
    "TIFF of huge tiles": Bomb(
        lambda: tiff(100, 100, (322, 4, 1, 1 << 30), (323, 4, 1, 1 << 30), (324, 4, 1, 8), (325, 4, 1, 16)),
        ("broken-stream", "not-an-image", "decoder-memory"),
    ),
    "TIFF of a million strips": Bomb(
        lambda: tiff(100, 100, (273, 4, 1 << 28, 8), (279, 4, 1 << 28, 8)), ("broken-stream", "not-an-image")
    ),
    "TIFF whose directories go round": Bomb(
        lambda: tiff(100, 100, following=24), ("broken-stream", "multi-frame", "sound")
    ),
    "JPEG picture of another size": Bomb(lambda: _jpeg_of(BIG, BIG), ("too-large",), "60000 x 60000"),
    "a picture all the same": Bomb(_grey_png, ("sound",)),
}  # fmt: skip
