"""The object store: immutable objects under keys of our own making.

Rows hold keys, never paths; a key never contains bytes that a peer chose.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from db.files import private_folder, sync_folder

if TYPE_CHECKING:
    from config import Settings

_KEY = re.compile(r"[a-z]+/[0-9a-f]{2}/[0-9a-f]{32}(\.[a-z0-9]{1,8})?")


class StoreError(Exception):
    """The store could not do it now; the message is for an administrator."""


class StoreFull(StoreError):
    """No room is left, or the reserve would be touched."""


class ObjectMissing(StoreError):
    """There is no object under that key."""


class ObjectDamaged(StoreError):
    """The object is not what was stored: its digest differs."""


@dataclass(frozen=True)
class Stored:
    """What the store has durably: key, lowercase hex SHA-256 and size in bytes."""

    key: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Room:
    """Free and total bytes where objects lie, None where the store does not know, and the bytes kept in
    reserve."""

    free_bytes: int | None
    total_bytes: int | None
    reserve_bytes: int = 0

    @property
    def accepts(self) -> bool:
        """Whether new objects are taken."""
        return self.has(1.0)

    def has(self, times: float) -> bool:
        """Whether so many times the reserve is free."""
        return self.free_bytes is None or self.free_bytes >= times * self.reserve_bytes


OWN_PART = 0.5
"""Part of the reserve that what is made of accepted objects leaves alone: it is the database's."""


class ObjectStore(Protocol):
    """Durable when `put` returns; readers see whole objects or none."""

    @property
    def spool(self) -> Path:
        """A local folder from which `put` is cheapest; doors write their files here."""

    def put(self, file: Path, kind: str, suffix: str = "") -> Stored:
        """Move a local file into the store; it is gone from `file` and durable when this returns.

        `kind` (`sources`, `results`, `previews`) begins the key, `suffix` (`.dcm`) ends it. Sources are taken
        while the whole reserve is free; what is made of them may use a part of it.
        Raises :class:`StoreFull`, :class:`StoreError`; the file is then still at its place.
        """

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        """A seekable stream of the object. Raises :class:`ObjectMissing`."""

    def digest(self, key: str) -> str:
        """SHA-256 of what lies there now, lowercase hex."""

    def delete(self, key: str) -> None:
        """Remove the object; without effect when it is not there."""

    def keys(self, older_than: datetime) -> Iterator[str]:
        """Keys of objects last written before that time, for the sweep of orphans."""

    def room(self) -> Room:
        """Space left. Raises OSError."""

    def refuses(self, size: int = 1, kind: str = "sources") -> str | None:
        """Why an object of that many bytes would not be taken now, found by trying; None where it would."""


def new_key(kind: str, suffix: str = "") -> str:
    """A fresh key: kind, two digits to spread folders, 32 random hex digits, suffix. Raises ValueError."""
    name = uuid.uuid4().hex
    key = f"{kind}/{name[:2]}/{name}{suffix}"
    if not _KEY.fullmatch(key):
        raise ValueError(f"expected a kind of letters and a suffix such as .dcm, got {kind!r} and {suffix!r}")
    return key


def file_digest(stream: BinaryIO) -> str:
    """SHA-256 of a stream from where it stands, lowercase hex."""
    digest = hashlib.sha256()
    while part := stream.read(1 << 18):
        digest.update(part)
    return digest.hexdigest()


def open_store(url: str, *, reserve_bytes: int = 0, reserve_percent: float = 0.0) -> ObjectStore:
    """The store that a `storage.url` names. Raises :class:`StoreError` when there is none of that kind."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        folder = Path(unquote(parts.path))
        return LocalStore(folder, reserve_bytes=reserve_bytes, reserve_percent=reserve_percent)
    raise StoreError(f"storage.url: expected file:///FOLDER, this version has no store for {parts.scheme!r}")


def store_of(settings: Settings) -> ObjectStore:
    """The store of a node, with its reserve. Raises :class:`StoreError`."""
    kept = settings.storage
    return open_store(
        settings.storage_url, reserve_bytes=kept.reserve_bytes, reserve_percent=kept.reserve_percent
    )


class LocalStore:
    """Objects as files below one folder; file and folder are synced before `put` returns.

    The larger of the two counts of the reserve holds; the percentage is of the file system.
    """

    def __init__(self, root: Path, *, reserve_bytes: int = 0, reserve_percent: float = 0.0) -> None:
        self.root = root
        self.reserve_bytes, self.reserve_percent = reserve_bytes, reserve_percent
        self._spool = root / "spool"
        self._durable: set[Path] = set()
        """Folders whose names this process has seen synced; another may have made one and not got so far."""
        try:
            private_folder(self._spool)
        except OSError as error:
            raise StoreError(f"the folder of the store cannot be made: {error.strerror}") from error

    @property
    def spool(self) -> Path:
        return self._spool

    def put(self, file: Path, kind: str, suffix: str = "") -> Stored:
        key = new_key(kind, suffix)
        target = self.root / key
        try:
            self._keep_reserve(kind)
            try:
                return self._move(file, target, key)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            return self._copy(file, target, key)
        except OSError as error:
            problem = StoreFull if is_full(error) else StoreError
            raise problem(f"the object could not be stored: {error.strerror}") from error

    def _keep_reserve(self, kind: str) -> None:
        room = self.room()
        part = 1.0 if kind == "sources" else OWN_PART
        if not room.has(part):
            kept = int(part * room.reserve_bytes)
            raise StoreFull(f"{room.free_bytes} bytes are free, {kept} are kept in reserve")

    def refuses(self, size: int = 1, kind: str = "sources") -> str | None:
        draft = self._spool / f"room-{uuid.uuid4().hex}.part"
        try:
            self._keep_reserve(kind)
            descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, max(1, size))  # a quota is told by nothing but a try
            finally:
                os.close(descriptor)
                draft.unlink(missing_ok=True)
        except StoreError as error:
            return str(error)
        except OSError as error:
            return error.strerror or type(error).__name__
        return None

    def _move(self, file: Path, target: Path, key: str) -> Stored:
        """First the bytes are synced, then the name appears, then the name is synced."""
        with file.open("rb") as stream:
            digest = file_digest(stream)
            size = stream.tell()
            os.fchmod(stream.fileno(), 0o400)
            os.utime(stream.fileno())  # its age counts from now: the sweep of orphans looks at it
            os.fsync(stream.fileno())
        self._make_folder(target.parent)
        file.replace(target)
        try:
            sync_folder(target.parent)
        except OSError:
            target.replace(file)
            raise
        return Stored(key, digest, size)

    def _copy(self, file: Path, target: Path, key: str) -> Stored:
        """A file of another file system: nothing can be renamed across."""
        draft = self._spool / f"copy-{uuid.uuid4().hex}"
        try:
            shutil.copyfile(file, draft)
            stored = self._move(draft, target, key)
        finally:
            draft.unlink(missing_ok=True)
        file.unlink(missing_ok=True)
        return stored

    @contextmanager
    def open(self, key: str) -> Iterator[BinaryIO]:
        try:
            stream = self._path(key).open("rb")
        except FileNotFoundError as error:
            raise ObjectMissing(f"no object {key}") from error
        with stream:
            yield stream

    def digest(self, key: str) -> str:
        with self.open(key) as stream:
            return file_digest(stream)

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def keys(self, older_than: datetime) -> Iterator[str]:
        limit = older_than.timestamp()
        for path in self.root.glob("*/??/*"):
            key = path.relative_to(self.root).as_posix()
            try:
                if _KEY.fullmatch(key) and path.stat().st_mtime < limit:
                    yield key
            except FileNotFoundError:  # deleted meanwhile
                continue

    def room(self) -> Room:
        usage = shutil.disk_usage(self.root)
        reserve = max(self.reserve_bytes, int(usage.total * self.reserve_percent / 100))
        return Room(usage.free, usage.total, reserve)

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ObjectMissing("not a key of this store")
        return self.root / key

    def _make_folder(self, folder: Path) -> None:
        """Make a folder durably: each is synced into its parent once in the life of this process, whoever
        made it. That goes up to the folder that holds the store, the node's data folder as a rule; where we
        may not write, we have made none.
        """
        if folder in self._durable:
            return
        if folder != self.root.parent:
            self._make_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder not in {self.root, self.root.parent} or os.access(folder.parent, os.W_OK):
            sync_folder(folder.parent)
        self._durable.add(folder)


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def is_full(error: Exception) -> bool:
    """Whether an error of the store, or of the file system, says that there is no room."""
    return isinstance(error, StoreFull) or (isinstance(error, OSError) and error.errno in _FULL)
