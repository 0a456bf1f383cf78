"""Objects and rows that have lost each other, as after a copy of the database was put back.

Images that came after the copy lie in the store without a row. They were acknowledged, so the sweep of
orphans leaves them alone from the moment of the restore until somebody has taken them in again
(`cxr-sr db adopt`) or said that they are not wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from sqlalchemy import inspect, select
from sqlalchemy.orm import Session

from db.engine import Database
from db.exchange import Document
from db.models import Result, Source
from db.objects import ObjectMissing, ObjectStore
from db.retention import RESTORED, SOURCES, named
from db.revisions import SchemaError
from db.trouble import ADVICE, Trouble
from db.types import utcnow

_AT_ONCE = 500


@dataclass(frozen=True)
class Count:
    """Source objects without a row, and rows (of sources and results) without their object."""

    objects: int
    rows: int


def check_start(database: Database, store: ObjectStore) -> None:
    """Refuse to begin where that would lose something. Raises :class:`SchemaError` with what to do.

    A damaged file is found before work is built on it; an empty database beside a store that holds images is
    not the one that belongs to them, and a sweep would take them for orphans.
    """
    with database.engine.connect() as connection:
        if database.sqlite:
            found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            if found != "ok":
                raise SchemaError(f"the database is damaged ({found}); {ADVICE[Trouble.DAMAGED]}")
        if inspect(connection).has_table("job"):
            return
    if any(key.startswith(SOURCES) for key in store.keys(utcnow())):
        raise SchemaError(
            "the database is empty, but the object store holds images: check database.url, or put a copy "
            "back with `cxr-sr db restore`; to begin anew, move the folder of the store away"
        )


def note_restore(session: Session, copied_at: datetime | None) -> None:
    """From now on sources without a row are kept."""
    content = {"restored_at": utcnow().isoformat(), "copied_at": copied_at.isoformat() if copied_at else None}
    session.merge(Document(name=RESTORED, content=content))


def restored(session: Session) -> Document | None:
    """The restore whose images are not all taken care of, if there is one."""
    return session.get(Document, RESTORED)


def settle(session: Session) -> None:
    """The images of the last restore are taken care of: orphans are swept again."""
    if (row := restored(session)) is not None:
        session.delete(row)


def unnamed_sources(database: Database, store: ObjectStore) -> Iterator[str]:
    """Keys of source objects that no row names and that nobody is about to name."""
    with database.read() as session:
        row = restored(session)
    until = datetime.fromisoformat(row.content["restored_at"]) if row is not None else utcnow()
    keys = (key for key in store.keys(until) if key.startswith(SOURCES))
    while part := list(islice(keys, _AT_ONCE)):
        with database.read() as session:
            known = set(session.scalars(named(part)))
        yield from (key for key in part if key not in known)


def count(database: Database, store: ObjectStore) -> Count:
    """Compare rows and objects; every object is looked for, none is read."""
    missing = 0
    for table in (Source, Result):
        with database.read() as session:
            keys = session.scalars(select(table.object_key).where(table.deleted_at.is_(None))).all()
        missing += sum(1 for key in keys if not _is_there(store, key))
    return Count(sum(1 for _ in unnamed_sources(database, store)), missing)


def _is_there(store: ObjectStore, key: str) -> bool:
    try:
        with store.open(key):
            return True
    except ObjectMissing:
        return False
