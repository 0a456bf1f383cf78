"""Where arriving bytes lie until they are put away: a folder of one process, swept when its owner is gone.

Names are our own; a file that was cut off midway disappears with its association, or at the next start.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from pacs_node.header import PREFIX_BYTES

_BUFFER = 1 << 18
_LOOK_BYTES = 8 << 20
"""How much of an object arrives between two looks at the room that is left."""
NO_ROOM = "no room on disk"


class Flood(Exception):
    """The peer goes on sending far beyond what is allowed."""


class Spool:
    """A folder below `root` for this process alone, held by a lock file as long as the process lives.

    Opening one removes the folders of processes that are gone. `has_room` says whether objects may come in:
    it is asked before an object and while it arrives. Raises OSError.
    """

    def __init__(self, root: Path, has_room: Callable[[], bool] = lambda: True) -> None:
        self._has_room = has_room
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sweep(root)
        self.folder = root / f"dimse-{uuid.uuid4().hex}"
        self._lock_path = self.folder.with_suffix(".lock")
        unseen = self.folder.with_suffix(
            ".new"
        )  # no sweep looks at this name, so that the lock is ours from the start
        self._lock = os.open(unseen, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unseen.rename(self._lock_path)
        self.folder.mkdir(mode=0o700)

    def begin(self, header: bytes, max_bytes: int) -> Incoming:
        """A new file that begins with `header`; its data set may have `max_bytes`. Never raises."""
        return Incoming(self.folder / f"{uuid.uuid4().hex}.part", header, max_bytes, self._has_room)

    def close(self) -> None:
        """Remove the folder with whatever is left in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock_path.unlink(missing_ok=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


class Incoming:
    """One object on its way in. A failure to write is kept in `trouble`; the rest of it is then dropped.

    `prefix` holds the first bytes of the data set, `size` counts all of them.
    """

    def __init__(
        self, path: Path, header: bytes, max_bytes: int, has_room: Callable[[], bool] = lambda: True
    ) -> None:
        self.path = path
        self._has_room, self._next_look = has_room, 0
        self.max_bytes = max_bytes
        self.size = 0
        self.prefix = bytearray()
        self.trouble: str | None = None
        self._file: BinaryIO | None = None
        try:
            self._look()
            if self.trouble is None:
                self._file = open(path, "xb", buffering=_BUFFER)  # noqa: SIM115 - lives as long as the transfer
                self._file.write(header)
        except OSError as error:
            self._fail(f"cannot write: {error.strerror}")

    def write(self, chunk: bytes) -> None:
        """Add bytes of the data set. Raises :class:`Flood` at twice the allowed size, nothing else."""
        self.size += len(chunk)
        if len(self.prefix) < PREFIX_BYTES:
            self.prefix += chunk[: PREFIX_BYTES - len(self.prefix)]
        if self.size > self.max_bytes:
            if self.size > 2 * self.max_bytes:
                self.discard()
                raise Flood
            self._fail(f"the object has more than {self.max_bytes} bytes")
        if self._file is not None:
            try:
                self._look()
                if self._file is not None:
                    self._file.write(chunk)
            except OSError as error:
                self._fail(f"cannot write: {error.strerror}")

    def finish(self) -> None:
        """Everything arrived: hand the bytes to the operating system. Look at `trouble` afterwards."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._fail(f"cannot write: {error.strerror}")
            self._file = None

    def discard(self) -> None:
        """Close and remove the file, if it is still here."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _look(self) -> None:
        """Stop before what arrives eats into the reserve. Raises OSError."""
        if self.size >= self._next_look:
            self._next_look = self.size + _LOOK_BYTES
            if not self._has_room():
                self._fail(NO_ROOM)

    def _fail(self, trouble: str) -> None:
        self.trouble = self.trouble or trouble
        self.discard()


def _sweep(root: Path) -> None:
    """Remove the folders of processes that hold their lock no more."""
    for lock_path in root.glob("dimse-*.lock"):
        with contextlib.suppress(OSError), open(lock_path, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock_path.with_suffix(""), ignore_errors=True)
            lock_path.unlink(missing_ok=True)
