"""An object is used and handed on only as it was stored: its bytes are compared with their digest first."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from db.objects import ObjectDamaged, ObjectStore, file_digest

LATELY_SECONDS = 600.0
"""For so long a file that was found sound and was not written to since counts as sound where pages ask."""
_MOST = 4096

_Seen = tuple[str, str, int, int, int]
_seen: dict[_Seen, float] = {}
_lock = threading.Lock()


@contextmanager
def intact(store: ObjectStore, key: str, sha256: str, *, lately: bool = False) -> Iterator[BinaryIO]:
    """A seekable stream of the object, at its beginning, once it was found to be what was stored.

    lately: a look some minutes ago is enough, for pages that read one object again and again.
    Raises :class:`ObjectDamaged`, :class:`db.objects.ObjectMissing`, OSError.
    """
    with store.open(key) as stream:
        seen = _file(stream, key, sha256)
        if not (lately and _was_sound(seen)):
            if file_digest(stream) != sha256:
                raise ObjectDamaged(f"the object {key} is damaged: its digest is not the recorded one")
            stream.seek(0)
            _remember(seen)
        yield stream


def _file(stream: BinaryIO, key: str, sha256: str) -> _Seen | None:
    """What tells a file from one that was written to since; None for what is no file."""
    try:
        status = os.fstat(stream.fileno())
    except OSError:
        return None
    return key, sha256, status.st_ino, status.st_size, status.st_mtime_ns


def _was_sound(seen: _Seen | None) -> bool:
    with _lock:
        at = _seen.get(seen) if seen is not None else None
    return at is not None and time.monotonic() - at < LATELY_SECONDS


def _remember(seen: _Seen | None) -> None:
    if seen is None:
        return
    with _lock:
        if len(_seen) >= _MOST:
            _seen.pop(next(iter(_seen)))
        _seen[seen] = time.monotonic()
