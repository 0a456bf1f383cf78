"""What a file is, by its first bytes: names and stated media types are not believed. Nothing is decoded."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import IO

PREFIX_BYTES = 64 << 10
"""How much of a file is read to tell what it is; a file meta group is far smaller."""

ZIP = "application/zip"
DICOM = "application/dicom"
_UID = re.compile(r"^(?=.{1,64}$)[0-9]+(\.[0-9]+)*$")
_LONG_FORM = frozenset(
    {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
)
_CLASS, _INSTANCE, _SYNTAX = 0x0002, 0x0003, 0x0010


class NotTaken(Exception):
    """This file is refused; the sentence is for the person who sent it."""

    def __init__(self, detail: str, kind: str = "unsupported-content") -> None:
        super().__init__(detail)
        self.detail, self.kind = detail, kind


@dataclass(frozen=True)
class Content:
    """Kind of a file and, of a DICOM one, what its file meta information says."""

    media_type: str
    suffix: str
    sop_class_uid: str | None = None
    sop_instance_uid: str | None = None
    transfer_syntax_uid: str | None = None


def examine(stream: IO[bytes]) -> Content:
    """Tell what a seekable stream holds, from its start. Raises :class:`NotTaken`."""
    stream.seek(0)
    prefix = stream.read(PREFIX_BYTES)
    if prefix[128:132] == b"DICM":
        return _dicom(prefix)
    for beginning, media_type, suffix in _SIGNATURES:
        if prefix.startswith(beginning):
            return Content(media_type, suffix)
    if not prefix:
        raise NotTaken("The file is empty.")
    raise NotTaken("This is neither DICOM (with its preamble) nor PNG, JPEG, TIFF or ZIP.")


def is_archive(stream: IO[bytes]) -> bool:
    """Whether a stream begins as a ZIP archive does."""
    stream.seek(0)
    return stream.read(4) in {b"PK\x03\x04", b"PK\x05\x06"}


_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png", ".png"),
    (b"\xff\xd8\xff", "image/jpeg", ".jpg"),
    (b"II*\x00", "image/tiff", ".tif"),
    (b"MM\x00*", "image/tiff", ".tif"),
    (b"II+\x00", "image/tiff", ".tif"),
    (b"MM\x00+", "image/tiff", ".tif"),
    (b"PK\x03\x04", ZIP, ".zip"),
    (b"PK\x05\x06", ZIP, ".zip"),
)


def _dicom(prefix: bytes) -> Content:
    """Read group 0002, which is Explicit VR Little Endian in every DICOM file (PS3.10, 7.1)."""
    found: dict[int, str] = {}
    at = 132
    while True:
        header = prefix[at : at + 8]
        if len(header) < 8:
            break
        group, element = struct.unpack_from("<HH", header)
        if group != 0x0002:
            break
        if header[4:6] in _LONG_FORM:
            if len(prefix) < at + 12:
                raise NotTaken("The DICOM file ends within its header.", "damaged")
            (length,) = struct.unpack_from("<I", prefix, at + 8)
            start = at + 12
        else:
            (length,) = struct.unpack_from("<H", header, 6)
            start = at + 8
        at = start + length
        if at > len(prefix):
            raise NotTaken("The DICOM file ends within its header.", "damaged")
        if element in (_CLASS, _INSTANCE, _SYNTAX):
            found[element] = prefix[start:at].decode("ascii", "replace").rstrip("\0 ")
    names = {_CLASS: "a SOP class", _INSTANCE: "a SOP Instance UID", _SYNTAX: "a transfer syntax"}
    for element, name in names.items():
        if not _UID.match(found.get(element, "")):
            raise NotTaken(f"The header of the DICOM file does not name {name}.", "damaged")
    return Content(DICOM, ".dcm", found[_CLASS], found[_INSTANCE], found[_SYNTAX])
