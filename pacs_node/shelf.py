"""The worker's side of the object store: objects as local files, new objects from a function that writes
one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from db.intact import intact
from db.objects import ObjectDamaged, ObjectMissing, ObjectStore, Stored, StoreError, is_full
from pacs_node.errors import GiveUp, NoRoom, TryLater


class Shelf:
    """Raises :class:`GiveUp` for what is gone, :class:`TryLater` for what may go better another time."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    @contextmanager
    def local(self, key: str, sha256: str) -> Iterator[Path]:
        """The object as a local file, once its digest was found to be `sha256`: itself where the store has
        one, else a copy in the spool."""
        try:
            with intact(self.store, key, sha256) as stream:
                name = getattr(stream, "name", None)
                if isinstance(name, str) and Path(name).is_file():
                    yield Path(name)
                    return
                with tempfile.NamedTemporaryFile(
                    prefix="worker-", suffix=".part", dir=self.store.spool
                ) as copy:
                    shutil.copyfileobj(stream, copy, 1 << 20)
                    copy.flush()
                    yield Path(copy.name)
        except ObjectMissing as error:
            raise GiveUp("source-gone", "The source's object is not in the store.") from error
        except ObjectDamaged as error:
            reason = "The source's object is damaged: its bytes are not those that were received."
            raise GiveUp("source-damaged", reason) from error
        except (StoreError, OSError) as error:
            raise TryLater("storage", "The store could not be read.") from error

    def put(self, write: Callable[[Path], object], kind: str, suffix: str) -> Stored:
        """Let `write` fill a file in the spool, and move it into the store; durable when this returns."""
        path: Path | None = None
        try:
            descriptor, name = tempfile.mkstemp(prefix="worker-", suffix=".part", dir=self.store.spool)
            os.close(descriptor)
            path = Path(name)
            write(path)
            return self.store.put(path, kind, suffix)
        except (StoreError, OSError) as error:
            if is_full(error):
                raise NoRoom(path.stat().st_size if path is not None else 0) from error
            raise TryLater("storage", "The result could not be stored.") from error
        finally:
            if path is not None:
                path.unlink(missing_ok=True)

    def drop(self, *objects: Stored) -> None:
        """Remove objects that no row names; what cannot be removed now is left for the sweep of orphans."""
        for stored in objects:
            try:
                self.store.delete(stored.key)
            except (StoreError, OSError):
                continue
