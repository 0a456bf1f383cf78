"""A consistent copy of the state while the node runs, and the way back.

A copy is always one SQLite file with the node's own tables, whatever engine it was taken from; it can be put
back on either. Objects are not in it: they are immutable and copied by the means of the store.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, func, insert, inspect, make_url, select, text

from db import adrift
from db.engine import Database
from db.files import private_folder, sync_folder
from db.models import AuditEvent, Base
from db.revisions import SchemaError, check, upgrade

_ROWS = 1000


class BackupError(Exception):
    """The copy could not be made or put back; the message says why. Nothing is left half done."""


def backup(database: Database, target: Path) -> None:
    """Write a consistent copy of the database to `target`, durable and readable by its owner alone.

    A file that stands at `target` is replaced only by a whole copy. Raises :class:`BackupError`, OSError.
    """
    private_folder(target.parent)
    with _draft(target) as draft:
        if database.sqlite:
            _copy_sqlite(_file_of(database), draft)
        else:
            check(database)
            _copy_rows_out(database, draft)
        _sound(draft)


def restore(url: str, source: Path) -> None:
    """Make the database at `url` from a copy; a copy of an older program is brought up to date on the way.

    From then on sources without a row are kept: those that came after the copy was made.

    Raises :class:`BackupError` when `source` is no such copy or the database has something in it already, and
    :class:`SchemaError` when the copy is of a newer program.
    """
    if not source.is_file():
        raise BackupError(f"there is no file {source}")
    with tempfile.TemporaryDirectory(prefix="cxr-sr-restore-") as folder:
        copy = Path(folder) / "copy.db"
        try:
            _copy_sqlite(source, copy)
            _sound(copy)
        except sqlite3.DatabaseError as error:
            raise BackupError(f"{source} is no copy of a database: {error}") from error
        staged = Database(f"sqlite:///{copy}")
        try:
            with staged.engine.connect() as connection:
                if not inspect(connection).has_table("installation"):
                    raise BackupError(f"{source} is a database, but not of this program")
            upgrade(staged)
            with staged.write() as session:
                adrift.note_restore(session, session.scalar(select(func.max(AuditEvent.at))))
            _restore_from(staged, copy, url)
        finally:
            staged.close()


def _restore_from(staged: Database, copy: Path, url: str) -> None:
    database = Database(url)
    try:
        if not database.sqlite:
            upgrade(database)
            _copy_rows_in(staged, database)
            return
        target = _file_of(database)
        for there in (target, Path(f"{target}-wal")):  # SQLite would play another one's log into the copy
            if there.exists() and there.stat().st_size:
                raise BackupError(
                    f"{there} exists; stop the node and move {target} with its -wal and -shm away first"
                )
        private_folder(target.parent)
        with _draft(target) as draft:
            _copy_sqlite(copy, draft)
            _sound(draft)
    finally:
        database.close()


def _file_of(database: Database) -> Path:
    name = make_url(database.url).database
    if not name or name == ":memory:":
        raise BackupError("a database in memory has no file")
    return Path(name)


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """A new file beside `target` that takes its place, synced, when the block succeeds."""
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(descriptor)
    draft = Path(name)
    try:
        yield draft
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())
        draft.replace(target)
        sync_folder(target.parent)
    finally:
        for leftover in (draft, Path(f"{name}-wal"), Path(f"{name}-shm"), Path(f"{name}.upgrade-lock")):
            leftover.unlink(missing_ok=True)


def _copy_sqlite(source: Path, target: Path) -> None:
    """Copy in one read transaction, beside writers; the copy is one file without a write-ahead log."""
    with (
        closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as reader,
        closing(sqlite3.connect(target)) as writer,
    ):
        reader.backup(writer)
        writer.execute("PRAGMA journal_mode=DELETE")


def _sound(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        said = connection.execute("PRAGMA integrity_check").fetchone()[0]
        orphan = connection.execute("PRAGMA foreign_key_check").fetchone()
    if said != "ok":
        raise BackupError(f"the copy is damaged: {said}")
    if orphan is not None:
        raise BackupError(f"the copy is damaged: a row of {orphan[0]} refers to one that is missing")


def _copy_rows_out(database: Database, target: Path) -> None:
    copy = Database(f"sqlite:///{target}")
    try:
        upgrade(copy)
        with database.read() as session, copy.engine.connect() as writer:
            writer.exec_driver_sql("DELETE FROM installation")
            _copy_rows(session.connection(), writer)
            writer.commit()
    finally:
        copy.close()
    with closing(sqlite3.connect(target)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")


def _copy_rows_in(staged: Database, database: Database) -> None:
    """Fill an empty PostgreSQL database in one transaction."""
    with staged.engine.connect() as reader, database.engine.connect() as writer:
        for table in Base.metadata.sorted_tables:
            if table.name != "installation" and writer.scalar(select(func.count()).select_from(table)):
                raise BackupError(f"the database has rows in {table.name}; restore into an empty one")
        writer.execute(Base.metadata.tables["installation"].delete())
        _copy_rows(reader, writer)
        for table in Base.metadata.sorted_tables:
            key = table.primary_key.columns[0]
            if key.autoincrement is True or (key.autoincrement == "auto" and key.type.python_type is int):
                sequence = writer.scalar(
                    text("SELECT pg_get_serial_sequence(:table, :column)"),
                    {"table": table.name, "column": key.name},
                )
                newest = writer.scalar(select(func.max(key)))
                if sequence is not None and newest is not None:
                    writer.execute(
                        text("SELECT setval(:sequence, :value)"), {"sequence": sequence, "value": newest}
                    )
        writer.commit()


def _copy_rows(reader: Connection, writer: Connection) -> None:
    """Copy every table, those referred to first; ids are kept."""
    for table in Base.metadata.sorted_tables:
        rows = reader.execution_options(yield_per=_ROWS).execute(
            select(table).order_by(*table.primary_key.columns)
        )
        for part in rows.mappings().partitions(_ROWS):
            writer.execute(insert(table), [dict(row) for row in part])


__all__ = ["BackupError", "SchemaError", "backup", "restore"]
