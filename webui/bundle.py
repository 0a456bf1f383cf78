"""A ZIP of many results, written while it is sent: never more of it in memory than a piece of one file.

Files are named by the numbers of their jobs. `contents.csv`, the last of them, says what each is and why some
are missing; it holds UIDs and no patient's name.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import chain

import structlog

from db.objects import ObjectDamaged, ObjectMissing
from webui.errors import ApiProblem

log = structlog.get_logger(__name__)

CONTENTS = "contents.csv"
COLUMNS = ("job", "file", "state", "model", "scale", "rows", "columns", "sop_instance_uid", "sha256", "note")
_LARGE = 1 << 31


@dataclass(frozen=True)
class Entry:
    """One file of the archive: its name, when it was made, its bytes in pieces, and its row of the contents.

    size: bytes, where they are known beforehand.
    """

    name: str
    at: datetime
    chunks: Callable[[], Iterator[bytes]]
    row: dict[str, object]
    size: int | None = None


class _Sink:
    """What a ZIP is written to: keeps what is not taken yet. It cannot seek."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def take(self) -> bytes:
        data, self._parts = b"".join(self._parts), []
        return data


def zipped(entries: Iterable[Entry], missing: Iterable[dict[str, object]] = ()) -> Iterator[bytes]:
    """The bytes of the archive. missing: rows of the contents of what is not in it.

    A file that turns out not to be there any more is told in the contents.
    """
    sink = _Sink()
    rows: list[dict[str, object]] = [*missing]
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for entry in entries:
            chunks = entry.chunks()
            try:
                first = next(chunks, b"")
            except (ObjectMissing, ObjectDamaged, ApiProblem) as error:
                damaged = isinstance(error, ObjectDamaged)
                gone = "It is damaged and was left out." if damaged else "It is not kept any more."
                note = error.detail if isinstance(error, ApiProblem) else gone
                rows.append({**entry.row, "note": note})
                continue
            rows.append({**entry.row, "file": entry.name})
            about = zipfile.ZipInfo(entry.name, _dos_time(entry.at))
            with archive.open(about, "w", force_zip64=(entry.size or 0) >= _LARGE) as file:
                for chunk in chain((first,), chunks):
                    file.write(chunk)
                    yield sink.take()
        archive.writestr(CONTENTS, _contents(rows), zipfile.ZIP_DEFLATED)
    yield sink.take()


def _contents(rows: list[dict[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _dos_time(at: datetime) -> tuple[int, int, int, int, int, int]:
    return max(at.year, 1980), at.month, at.day, at.hour, at.minute, at.second
