"""Who an object is, read from a bounded prefix of its bytes: no library looks at what a stranger sent here.

Knows the four encodings of a data set (implicit, explicit, big endian, deflated) as far as SOP Class and SOP
Instance UID, and the DICOM File Format around it.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from pacs_node import codecs, identity

PREFIX_BYTES = 65536
"""Bytes of a data set that are looked at, and bytes that a deflated one may become."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONG_VR = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_UNDEFINED = 0xFFFFFFFF
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PREAMBLE = b"\x00" * 128 + b"DICM"


class HeaderError(ValueError):
    """What the bytes say of themselves cannot be used; the message is for whoever sent them."""


class Unreadable(HeaderError):
    """The bytes are not a data set in that transfer syntax."""


class Missing(HeaderError):
    """A UID is missing or empty."""


class Unsafe(HeaderError):
    """A UID holds other things than digits and dots, or is too long."""


@dataclass(frozen=True, slots=True)
class Names:
    """What a data set calls itself."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True, slots=True)
class Part10:
    """The file meta information of a DICOM file; `offset` is where its data set begins."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    offset: int


def is_safe_uid(uid: str) -> bool:
    """Digits and dots, at most 64 characters. Leading zeros, which real devices write, are let through."""
    return len(uid) <= 64 and _UID.fullmatch(uid) is not None


def check_uid(uid: str, name: str) -> str:
    """`uid` itself. Raises :class:`Missing`, :class:`Unsafe` with a message that repeats nothing of it."""
    if not uid:
        raise Missing(f"{name} is empty")
    if not is_safe_uid(uid):
        raise Unsafe(f"{name} is not a UID")
    return uid


def read_names(prefix: bytes, transfer_syntax_uid: str) -> Names:
    """SOP Class and Instance UID of a data set from its first bytes, at most :data:`PREFIX_BYTES` of them.

    Raises :class:`HeaderError`.
    """
    prefix = prefix[:PREFIX_BYTES]
    if transfer_syntax_uid == codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        prefix = _inflate(prefix)
    explicit = transfer_syntax_uid != codecs.IMPLICIT_VR_LITTLE_ENDIAN
    little = transfer_syntax_uid != codecs.EXPLICIT_VR_BIG_ENDIAN
    found = {_SOP_CLASS: "", _SOP_INSTANCE: ""}
    for tag, value in _elements(prefix, 0, explicit=explicit, little=little):
        if tag in found:
            found[tag] = _text(value)
        if tag >= _SOP_INSTANCE:
            break
    return Names(
        check_uid(found[_SOP_CLASS], "SOP Class UID of the data set"),
        check_uid(found[_SOP_INSTANCE], "SOP Instance UID of the data set"),
    )


def read_part10(stream: BinaryIO) -> Part10:
    """File meta information of a DICOM file, from the beginning of `stream`. Raises :class:`HeaderError`."""
    data = stream.read(PREFIX_BYTES)
    if data[128:132] != b"DICM":
        raise Unreadable("not a DICOM file: no prefix after the preamble")
    found = {0x00020002: "", 0x00020003: "", 0x00020010: ""}
    offset = len(_PREAMBLE)
    while offset < len(data) and data[offset : offset + 2] == b"\x02\x00":
        tag, start, length = _head(data, offset, explicit=True, little=True)
        if length == _UNDEFINED or start + length > len(data):
            raise Unreadable("the file meta information is cut off or too long")
        if tag in found:
            found[tag] = _text(data[start : start + length])
        offset = start + length
    sop_class, sop_instance, syntax = found.values()
    return Part10(
        check_uid(sop_class, "Media Storage SOP Class UID"),
        check_uid(sop_instance, "Media Storage SOP Instance UID"),
        check_uid(syntax, "Transfer Syntax UID"),
        offset,
    )


def part10_header(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble and file meta information for a data set, the same bytes whoever sent it and whenever."""
    elements = b"".join(
        (
            struct.pack("<HH2sHI", 2, 1, b"OB", 0, 2) + b"\x00\x01",
            _ui(0x0002, sop_class_uid),
            _ui(0x0003, sop_instance_uid),
            _ui(0x0010, transfer_syntax_uid),
            _ui(0x0012, identity.IMPLEMENTATION_CLASS_UID),
        )
    )
    return _PREAMBLE + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(elements)) + elements


def _ui(element: int, uid: str) -> bytes:
    value = uid.encode("ascii")
    value += b"\x00" * (len(value) % 2)
    return struct.pack("<HH2sH", 2, element, b"UI", len(value)) + value


def _inflate(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, PREFIX_BYTES)
    except zlib.error as error:
        raise Unreadable("the data set is not deflated as its transfer syntax says") from error


def _elements(data: bytes, offset: int, *, explicit: bool, little: bool) -> Iterator[tuple[int, bytes]]:
    """Tags and values on the top level, as they come. Raises :class:`Unreadable` at an early end."""
    while offset < len(data):
        tag, start, length = _head(data, offset, explicit=explicit, little=little)
        if length == _UNDEFINED:
            offset = _after_sequence(data, start, explicit=explicit, little=little)
            continue
        offset = start + length
        if offset > len(data):
            raise Unreadable("an element of the data set is cut off or too long")
        yield tag, data[start:offset]


def _after_sequence(data: bytes, offset: int, *, explicit: bool, little: bool) -> int:
    """Where the bytes go on after a sequence of undefined length that begins at `offset`."""
    depth = 1
    while depth:
        tag, start, length = _head(data, offset, explicit=explicit, little=little)
        offset = start
        if tag in (_ITEM_END, _SEQUENCE_END):
            depth -= tag == _SEQUENCE_END
        elif length != _UNDEFINED:
            offset += length
        elif tag != _ITEM:
            depth += 1
    return offset


def _head(data: bytes, offset: int, *, explicit: bool, little: bool) -> tuple[int, int, int]:
    """Tag, start of the value and its length of the element at `offset`."""
    order = "<" if little else ">"
    try:
        group, element = struct.unpack_from(order + "HH", data, offset)
        tag = group << 16 | element
        if not explicit or group == 0xFFFE:
            return tag, offset + 8, struct.unpack_from(order + "I", data, offset + 4)[0]
        vr = data[offset + 4 : offset + 6]
        if not (vr.isalpha() and vr.isupper()):
            raise Unreadable("the data set is not encoded as its transfer syntax says")
        if vr in _LONG_VR:
            return tag, offset + 12, struct.unpack_from(order + "I", data, offset + 8)[0]
        return tag, offset + 8, struct.unpack_from(order + "H", data, offset + 6)[0]
    except struct.error as error:
        raise Unreadable("the data set ends before its UIDs") from error


def _text(value: bytes) -> str:
    """A UID's characters without padding; bytes beyond ASCII become a character that no UID has."""
    return value.decode("ascii", errors="replace").rstrip("\x00 ").lstrip(" ")
