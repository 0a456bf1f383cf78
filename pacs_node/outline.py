"""The outline of a data set, walked by the heads of its elements alone, before a library reads any of it.

A library makes objects of everything that it meets: a few megabytes of empty items become gigabytes, a
megabyte of deflated zeros becomes one too. Here nothing is kept, and counting ends at the limit.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from pydicom.datadict import dictionary_has_tag, dictionary_VR

from pacs_node.codecs import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN
from pacs_node.errors import Reason, Refused

MAX_ELEMENTS = 200_000
"""Elements, items and fragments of a file; each costs whoever reads it some hundred bytes."""
MAX_DEPTH = 32
"""Sequences within sequences."""

_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_UNDEFINED = 0xFFFFFFFF
_ITEM, _SEQUENCE_END, _PIXELS = 0xFFFEE000, 0xFFFEE0DD, 0x7FE00010
_CHUNK, _PIECE = 1 << 16, 1 << 12
"""Bytes that are read, and that are inflated, at once."""


@dataclass(frozen=True, slots=True)
class Outline:
    """elements: heads met, items and fragments included. pixel_bytes: stated length of PixelData, of
    encapsulated ones that of their fragments; 0 without. cut: they are not all there."""

    elements: int
    pixel_bytes: int
    cut: bool = False


class _Source(Protocol):
    """Bytes that are read once, from the front; `at` counts them."""

    at: int

    def take(self, count: int) -> bytes:
        """The next bytes; fewer at the end."""

    def skip(self, count: int) -> bool:
        """Pass over bytes; False where the end comes before."""


class Stored:
    """A seekable stream, from where it stands."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.at = stream, stream.tell()
        self._size = stream.seek(0, os.SEEK_END)
        stream.seek(self.at)

    def take(self, count: int) -> bytes:
        """See :class:`_Source`."""
        data = self._stream.read(count)
        self.at += len(data)
        return data

    def skip(self, count: int) -> bool:
        """See :class:`_Source`."""
        self.at += count
        self._stream.seek(min(self.at, self._size))
        return self.at <= self._size


class _Inflated:
    """A deflated stream, a piece at a time. Raises :class:`Refused` beyond `most` bytes."""

    def __init__(self, stream: BinaryIO, most: int) -> None:
        self._stream, self._left, self._most = stream, most, most
        self._inflater, self._ready, self.at = zlib.decompressobj(-zlib.MAX_WBITS), b"", 0

    def _more(self) -> bool:
        while not self._ready and not self._inflater.eof:
            data = self._inflater.unconsumed_tail or self._stream.read(_CHUNK)
            if not data:
                break
            self._ready = self._inflater.decompress(data, _PIECE)
            self._left -= len(self._ready)
            if self._left < 0:
                raise Refused(
                    Reason.TOO_LARGE, f"The deflated object holds more than {self._most >> 20} MiB."
                )
        return bool(self._ready)

    def take(self, count: int) -> bytes:
        """See :class:`_Source`."""
        data = b""
        while len(data) < count and self._more():
            piece, self._ready = self._ready[: count - len(data)], self._ready[count - len(data) :]
            data += piece
        self.at += len(data)
        return data

    def skip(self, count: int) -> bool:
        """See :class:`_Source`."""
        while count and self._more():
            passed = min(count, len(self._ready))
            self._ready, count, self.at = self._ready[passed:], count - passed, self.at + passed
        return not count


def survey(path: Path, *, most_bytes: int) -> Outline:
    """The outline of a file. most_bytes: to which a deflated one may swell.

    Raises :class:`Refused` where it is too much for any library, ends within an element, or is no data set.
    PixelData that end early are for the decoder to tell.
    """
    try:
        with path.open("rb") as stream:
            return _survey(stream, most_bytes)
    except (struct.error, zlib.error) as error:
        raise Refused(Reason.TRUNCATED, "The DICOM file ends early.") from error


def _survey(stream: BinaryIO, most_bytes: int) -> Outline:
    start = 132 if stream.read(132)[128:] == b"DICM" else 0
    stream.seek(start)
    syntax, start = _file_meta(stream)
    stream.seek(start)
    source: _Source = Stored(stream)
    if syntax == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        source = _Inflated(stream, most_bytes)
    found = walk(source, little=syntax != EXPLICIT_VR_BIG_ENDIAN)
    if isinstance(source, _Inflated):
        source.skip(2 * most_bytes)  # whatever comes after the pixels counts too
    return found


def _file_meta(stream: BinaryIO) -> tuple[str, int]:
    """Transfer syntax, empty where none is told, and where the data set begins."""
    syntax, source = "", Stored(stream)
    while True:
        start = stream.tell()
        head = source.take(8)
        if head[:2] != b"\x02\x00":
            return syntax, start
        length = struct.unpack_from("<H", head, 6)[0]
        if not _is_vr(head[4:6]):  # implicit, against the standard
            length = struct.unpack_from("<I", head, 4)[0]
        elif head[4:6] in _LONG:
            length = struct.unpack("<I", source.take(4))[0]
        if head[2:4] == b"\x10\x00":
            syntax = source.take(min(length, 64)).decode("ascii", "replace").rstrip("\0 ")
            length -= min(length, 64)
        if not source.skip(length):
            raise Refused(Reason.TRUNCATED, "The DICOM file ends early.")


def walk(
    source: _Source,
    *,
    little: bool = True,
    explicit: bool | None = None,
    deep: bool = False,
    max_elements: int = MAX_ELEMENTS,
    max_depth: int = MAX_DEPTH,
) -> Outline:
    """Count what a reader makes objects of at once; `deep` also what it makes when it is asked for a value:
    the insides of sequences that state their length. explicit: None to see it by the first element.

    Raises :class:`Refused`, struct.error.
    """
    order = "<" if little else ">"
    head = source.take(8)
    kinds = [_is_vr(head[4:6]) if explicit is None else explicit]  # then of each sequence that is open
    count = pixel_bytes = 0
    cut = opened = False
    ends: list[int] = []  # of the sequences that state their length
    while len(head) == 8:
        count += any(head)  # zeros at the end of a file are one element at most, however many
        if count > max_elements:
            raise Refused(Reason.TOO_LARGE, f"The object has more than {max_elements:,} elements.")
        group, element, length = struct.unpack(f"{order}HHI", head)
        tag, vr = group << 16 | element, head[4:6]
        if tag == _SEQUENCE_END and len(kinds) > 1:
            kinds.pop()
        named = group != 0xFFFE and kinds[-1] and _is_vr(vr)
        if named:
            length = struct.unpack_from(f"{order}H", head, 6)[0]
            if vr in _LONG:
                length = struct.unpack(f"{order}I", source.take(4))[0]
        if opened and group != 0xFFFE:
            raise Refused(Reason.UNREADABLE, "A sequence of the object does not consist of items.")
        opened = False
        if group == 0xFFFE:
            pass  # what stands in an item is walked through
        elif tag == _PIXELS or (length == _UNDEFINED and vr in (b"OB", b"OW") and named):
            size, fragments, whole = _pixels(source, length, order, max_elements - count)
            count += fragments
            if len(kinds) == 1 and tag == _PIXELS:
                pixel_bytes, cut = size, not whole
        elif length == _UNDEFINED:
            kinds.append(kinds[-1] and vr != b"UN")  # what is unknown is implicit within (PS3.5 6.2.2)
            opened = True
        elif deep and (vr == b"SQ" if named else _is_sequence(tag)):
            ends = [*(end for end in ends if end > source.at), source.at + length]
        elif not source.skip(length):
            raise Refused(Reason.TRUNCATED, "The DICOM file ends early.")
        if len(kinds) + len(ends) > max_depth + 1:
            raise Refused(Reason.TOO_LARGE, f"Its sequences are nested more than {max_depth} deep.")
        head = source.take(8)
    return Outline(count, pixel_bytes, cut)


def _pixels(source: _Source, length: int, order: str, most: int) -> tuple[int, int, bool]:
    """Pass over pixels: their bytes, the number of their fragments, and whether all of them are there."""
    if length != _UNDEFINED:
        return length, 0, source.skip(length)
    total = count = 0
    while len(head := source.take(8)) == 8:
        group, element, length = struct.unpack(f"{order}HHI", head)
        if group << 16 | element != _ITEM:
            return total, count, True
        count, total = count + 1, total + length
        if count > most:
            raise Refused(Reason.TOO_LARGE, "The pixels are in too many fragments.")
        if not source.skip(length):
            break
    return total, count, False


def _is_vr(letters: bytes) -> bool:
    """Whether these are the letters of a VR: devices mix the encodings, whatever they say."""
    return b"AA" <= letters <= b"ZZ"


def _is_sequence(tag: int) -> bool:
    return dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"
