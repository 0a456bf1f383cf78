"""ZIP archives from strangers: bounded in members and expansion, their names used for nothing but display."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from webui.content import NotTaken

MAX_MEMBERS = 1000
MAX_DIRECTORY_BYTES = 1 << 20
"""Size of the central directory, which is read into memory."""
_CHUNK = 1 << 20
_END = struct.Struct("<4s4H2LH")
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})


@dataclass(frozen=True)
class Member:
    """One file of an archive, unpacked, or the reason why it was not."""

    name: str
    file: Any = None
    refusal: NotTaken | None = None


def members(stream: BinaryIO, new_file: Callable[[], Any], *, max_bytes: int) -> Iterator[Member]:
    """Unpack each file of an archive into one from `new_file`, one after the other.

    `max_bytes` bounds what all of them hold together, counted while they are unpacked: the sizes that
    an archive states are not believed. Raises :class:`webui.content.NotTaken` when the archive itself
    is refused.
    """
    _check_directory(stream)
    try:
        with zipfile.ZipFile(stream) as archive:
            infos = [info for info in archive.infolist() if not _is_clutter(info)]
            if len(infos) > MAX_MEMBERS:
                raise NotTaken(f"The archive holds more than {MAX_MEMBERS} files.", "archive-too-large")
            if sum(info.file_size for info in infos) > max_bytes:
                raise NotTaken("The archive unpacks to more than is allowed.", "archive-too-large")
            left = max_bytes
            for info in infos:
                try:
                    file, size = _unpack(archive, info, new_file, left)
                except NotTaken as refusal:
                    yield Member(info.filename, refusal=refusal)
                    if refusal.kind == "archive-too-large":
                        return
                    continue
                left -= size
                yield Member(info.filename, file)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError) as error:
        raise NotTaken("The archive is damaged.", "damaged") from error


def _check_directory(stream: BinaryIO) -> None:
    """Look at the end record before anything is read by its word."""
    size = stream.seek(0, 2)
    start = stream.seek(max(0, size - (1 << 16) - _END.size - 20))
    tail = stream.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + _END.size:
        raise NotTaken("The archive is damaged.", "damaged")
    _, disk, _, _, entries, directory, _, _ = _END.unpack_from(tail, at)
    if tail[max(0, at - 20) : at].startswith(b"PK\x06\x07") or disk or directory == 0xFFFFFFFF:
        raise NotTaken("Archives in ZIP64 format or in parts are not taken.", "archive-too-large")
    if directory > min(MAX_DIRECTORY_BYTES, start + at) or entries > 4 * MAX_MEMBERS:
        raise NotTaken(f"The archive holds more than {MAX_MEMBERS} files.", "archive-too-large")


def _is_clutter(info: zipfile.ZipInfo) -> bool:
    """Folders, what operating systems add, and what has no name."""
    if not info.filename:  # is_dir() of the library falls over it
        return True
    parts = info.filename.replace("\\", "/").split("/")
    return info.is_dir() or parts[0] == "__MACOSX" or parts[-1].startswith(".") or parts[-1] == "DICOMDIR"


def _unpack(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, new_file: Callable[[], Any], limit: int
) -> tuple[Any, int]:
    if info.flag_bits & 0x1:
        raise NotTaken("The file is encrypted.", "encrypted")
    if info.compress_type not in _METHODS:
        raise NotTaken("The file is compressed in a way that is not taken.")
    size = 0
    file = new_file()
    try:
        with archive.open(info) as member:
            while chunk := member.read(_CHUNK):
                size += len(chunk)
                if size > limit:
                    raise NotTaken("The archive unpacks to more than is allowed.", "archive-too-large")
                file.write(chunk)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise NotTaken("The file is damaged within the archive.", "damaged") from error
    return file, size
