"""The data set of a stored object, read within limits: no pixel is decoded and no stated length believed.

Long binary values stay where they are; what is known of them is where they lie.
"""

from __future__ import annotations

import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

from pydicom import config
from pydicom.charset import convert_encodings, default_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import data_element_generator
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.tag import BaseTag
from pydicom.valuerep import BYTES_VR, EXPLICIT_VR_LENGTH_32

from db.intact import intact
from db.objects import ObjectStore

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED_LITTLE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED_LITTLE, EXPLICIT_BIG})
"""Transfer syntaxes whose pixels are not compressed."""

MAX_HEADER_BYTES = 2 << 20
"""Read of one header, long binary values not counted: each element takes far more memory than file."""
BULK_BYTES = 1024
"""Binary values longer than this are not read but told by their place."""
MAX_FRAGMENTS = 65536
MAX_READS = 100_000
"""Reads of one header, about one for each element and item that is read at once."""
MAX_ITEMS = 2000
"""Items of a sequence that states its length; such are read when somebody asks for them."""
MAX_VALUES = 4096
"""Values of an element, which are objects once it is asked for."""

PIXEL_DATA = BaseTag(0x7FE00010)
_PIXEL_GROUP = 0x7FE0
_UNDEFINED = 0xFFFFFFFF
_ITEM = b"\xfe\xff\x00\xe0"
_DAMAGE = (
    struct.error, EOFError, RecursionError, ValueError, LookupError, TypeError, zlib.error,
    NotImplementedError,
)  # fmt: skip
_WORDS = {"OW": 2, "US": 2, "SS": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8}

config.settings.reading_validation_mode = config.IGNORE  # values of others break rules; that is no news here


class Unreadable(Exception):
    """The object's data set cannot be read within the limits."""


@dataclass(frozen=True)
class Bulk:
    """A value that was not read: VR, place in the stream, and bytes a word if they lie in big endian."""

    vr: str
    offset: int
    length: int
    swap: int = 1


@dataclass
class Header:
    """ds: the data set without long values; bulk: where those lie; pixels: of native PixelData.

    fragments: (offset, length) of each fragment of encapsulated PixelData, the offset table left out.
    complete: False where elements had to be left out. stream: what the offsets count in; it is open within
    :func:`opened` only.
    """

    ds: Dataset
    stream: BinaryIO
    syntax: str
    bulk: dict[int, Bulk] = field(default_factory=dict)
    pixels: Bulk | None = None
    fragments: tuple[tuple[int, int], ...] = ()
    complete: bool = True


@contextmanager
def opened(
    store: ObjectStore, key: str, *, most: int = 8 << 20, sha256: str | None = None
) -> Iterator[Header]:
    """The header of a stored DICOM file, and the stream that its values lie in.

    most: bytes to which a deflated object is inflated, in a file. sha256: what the object's bytes must be
    where values are handed out. Raises :class:`Unreadable`, :class:`db.objects.ObjectMissing`,
    :class:`db.objects.ObjectDamaged`.
    """
    with ExitStack() as stack:
        found = store.open(key) if sha256 is None else intact(store, key, sha256, lately=True)
        stream = stack.enter_context(found)
        yield _whole(stream, store.spool, most, stack)


def _whole(stream: BinaryIO, spool: Path, most: int, stack: ExitStack) -> Header:
    with _damage():
        syntax, start = _file_meta(stream)
        if syntax != DEFLATED_LITTLE:
            return _read(stream, start, syntax)
        file = tempfile.TemporaryFile(dir=spool)  # noqa: SIM115 - the stack closes it
        plain = cast(BinaryIO, stack.enter_context(file))
        _inflate(stream, start, plain, most)
        return _read(plain, 0, syntax)


@contextmanager
def _damage() -> Iterator[None]:
    """Turn what pydicom raises for damaged bytes into :class:`Unreadable`."""
    try:
        yield
    except Unreadable:
        raise
    except _DAMAGE as error:
        raise Unreadable("the data set is damaged") from error
    except OSError as error:
        if error.errno is not None:  # the disk's own; pydicom's for an item without end has no number
            raise
        raise Unreadable("the data set is damaged") from error


def study_of(stream: BinaryIO) -> tuple[str, str]:
    """Study and Series Instance UID of a DICOM file that has just come, empty where they are not told.

    Raises :class:`Unreadable`.
    """
    with _damage():
        syntax, start = _file_meta(stream)
        if syntax == DEFLATED_LITTLE:
            with tempfile.TemporaryFile() as plain:
                _inflate(stream, start, plain, MAX_HEADER_BYTES)
                ds = _read(cast(BinaryIO, plain), 0, syntax, last=0x0020000E).ds
        else:
            ds = _read(stream, start, syntax, last=0x0020000E).ds
        return str(ds.get("StudyInstanceUID") or ""), str(ds.get("SeriesInstanceUID") or "")


class _Bounded:
    """A stream of which only so many bytes are read."""

    def __init__(self, stream: BinaryIO, most: int) -> None:
        self.stream, self.left, self.reads = stream, most, MAX_READS
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        if not (0 <= size <= self.left and self.reads):
            raise Unreadable("the header is longer than is read here")
        self.left, self.reads = self.left - size, self.reads - 1
        return self.stream.read(size)


def _file_meta(stream: BinaryIO) -> tuple[str, int]:
    """Transfer syntax, and where the data set begins."""
    stream.seek(128)
    if stream.read(4) != b"DICM":
        raise Unreadable("it is no DICOM file")
    bounded = cast(BinaryIO, _Bounded(stream, 64 << 10))
    syntax = ""
    elements = data_element_generator(bounded, False, True, lambda tag, _vr, _length: tag.group != 2, 1024)
    for raw in elements:
        if raw.tag == 0x00020010 and isinstance(raw.value, bytes):
            syntax = raw.value.decode("ascii", "replace").rstrip("\0 ")
    return syntax, stream.tell()


def _inflate(stream: BinaryIO, start: int, plain: Any, most: int) -> None:
    stream.seek(start)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    left = most
    data = b""
    while left > 0 and not inflater.eof:
        data = inflater.unconsumed_tail or stream.read(64 << 10)
        if not data:
            break
        made = inflater.decompress(data, min(left, 1 << 20))
        plain.write(made)
        left -= len(made)
    plain.seek(0)


def _read(stream: BinaryIO, start: int, syntax: str, *, last: int | None = None) -> Header:
    little = syntax != EXPLICIT_BIG
    stream.seek(start)
    first = stream.read(6)
    implicit = syntax == IMPLICIT_LITTLE
    if len(first) == 6 and little:  # some devices write the other of the two than they say
        implicit = not (first[4:6].isalpha() and first[4:6].isupper())
    stream.seek(start)
    bounded = _Bounded(stream, MAX_HEADER_BYTES)
    found = Header(Dataset(), stream, syntax)
    elements: dict[BaseTag, RawDataElement | DataElement] = {}

    def at_the_end(tag: BaseTag, _vr: str | None, _length: int) -> bool:
        return tag.group >= _PIXEL_GROUP or (last is not None and tag > last)

    size = stream.seek(0, os.SEEK_END)
    stream.seek(start)
    source = cast(BinaryIO, bounded)
    for raw in data_element_generator(source, implicit, little, at_the_end, BULK_BYTES):
        tag = raw.tag
        if tag.group <= 2 or tag.element == 0:
            continue
        if isinstance(raw, RawDataElement) and raw.value is None and raw.length:
            if raw.value_tell + raw.length > size:
                raise Unreadable("the data set ends early")
            late = _deferred(raw, bounded, found)
            if late is not None:
                elements[tag] = late
            continue
        elements[tag] = raw
    for tag in [tag for tag, raw in elements.items() if _is_excess(raw)]:
        del elements[tag]
        found.complete = False
    encoding = _encoding(elements)
    found.ds = Dataset(elements)
    found.ds.set_original_encoding(implicit, little, encoding)
    _resolve(found.ds, little)
    if last is None:
        _find_pixels(found, stream, implicit, little, size)
    return found


def _is_excess(raw: RawDataElement | DataElement) -> bool:
    """Whether it would become far more than it is once its value is asked for."""
    value = raw.value if isinstance(raw, RawDataElement) else None
    if not isinstance(value, bytes) or len(value) < MAX_VALUES or raw.VR in BYTES_VR:
        return False
    return value.count(_ITEM) > MAX_ITEMS or value.count(b"\\") > MAX_VALUES


def _resolve(ds: Dataset, little: bool) -> None:
    """Give attributes of implicit VR that may be signed or not the VR that the pixels have."""
    try:
        correct_ambiguous_vr(ds, little)
    except Exception:  # noqa: BLE001, S110 - pydicom raises anything for odd values; those stay as they are
        pass


def _deferred(raw: RawDataElement, bounded: _Bounded, found: Header) -> RawDataElement | None:
    """A long value: read after all if it is no binary one, else its place is noted."""
    vr = raw.VR or _vr(raw.tag)
    end = raw.value_tell + raw.length
    if vr in BYTES_VR or vr in {"OB or OW", "US or OW", "US or SS or OW"}:
        vr = "OW" if " " in vr else vr
        swap = 1 if raw.is_little_endian else _WORDS.get(vr, 1)
        found.bulk[int(raw.tag)] = Bulk(vr, raw.value_tell, raw.length, swap)
        return None
    if raw.length > bounded.left // 2:
        found.complete = False
        return None
    bounded.seek(raw.value_tell)
    value = bounded.read(raw.length)
    bounded.seek(end)
    return raw._replace(value=value)


def _vr(tag: BaseTag) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def _encoding(elements: dict[BaseTag, RawDataElement | DataElement]) -> str | list[str]:
    stated = elements.get(BaseTag(0x00080005))
    value = stated.value if stated is not None else None
    if not isinstance(value, bytes):
        return default_encoding
    names = [name.strip("\0 ") for name in value.decode("ascii", "replace").split("\\")]
    try:
        return convert_encodings(names)
    except (LookupError, ValueError, Warning):
        return default_encoding


def _find_pixels(found: Header, stream: BinaryIO, implicit: bool, little: bool, size: int) -> None:
    """Look for PixelData from the first element of its group on."""
    order = "<" if little else ">"
    while len(head := stream.read(8)) == 8:
        group, element = struct.unpack(f"{order}HH", head[:4])
        vr = "OW" if implicit else head[4:6].decode("ascii", "replace")
        if implicit:
            (length,) = struct.unpack(f"{order}I", head[4:])
        elif vr in EXPLICIT_VR_LENGTH_32:
            (length,) = struct.unpack(f"{order}I", stream.read(4))
        else:
            (length,) = struct.unpack(f"{order}H", head[6:])
        at = stream.tell()
        if (group, element) == (0x7FE0, 0x0010):
            if length == _UNDEFINED:
                found.fragments = _fragments(stream, size)
            elif at + length <= size:
                found.pixels = Bulk(vr, at, length, 1 if little else _WORDS.get(vr, 1))
            return
        if group != _PIXEL_GROUP or length == _UNDEFINED:
            return
        stream.seek(at + length)


def _fragments(stream: BinaryIO, size: int) -> tuple[tuple[int, int], ...]:
    """Places of the items of encapsulated pixels (PS3.5, A.4), without the Basic Offset Table."""
    found: list[tuple[int, int]] = []
    while len(head := stream.read(8)) == 8 and len(found) <= MAX_FRAGMENTS:
        group, element, length = struct.unpack("<HHI", head)
        at = stream.tell()
        if (group, element) != (0xFFFE, 0xE000) or at + length > size:
            break
        found.append((at, length))
        stream.seek(at + length)
    if len(found) > MAX_FRAGMENTS:
        raise Unreadable("the pixels are in too many fragments")
    return tuple(found[1:])
