"""Bringing a database's tables to what this code expects, and saying so when they are not."""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, event, insert, inspect, make_url, select, text

from db.engine import Database, sqlite_private_file
from db.files import private_folder
from db.models import Installation

_LOCK = 0x637872_7372
"""Number of the advisory lock that upgrades of a PostgreSQL database take."""


class SchemaError(Exception):
    """The tables are not what this code expects; the message says what to do."""


def upgrade(database: Database) -> None:
    """Create the tables or bring them to the newest revision; the installation gets its UUID.

    Several processes may call this at once: one does it, the others wait and find it done. The whole upgrade
    is one transaction. Raises :class:`SchemaError` when the tables are newer than the code.
    """
    with _alone(database) as connection:
        current = _current(connection)
        _refuse_newer(current)
        if current != head():
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            if database.sqlite and (
                orphans := connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            ):
                raise SchemaError(f"the upgrade would leave {len(orphans)} rows without what they refer to")
        known = connection.scalar(select(Installation.uuid).where(Installation.id == 1))
        if known is None:
            connection.execute(insert(Installation).values(id=1, uuid=str(uuid.uuid4())))
        connection.commit()


def check(database: Database) -> None:
    """Raise :class:`SchemaError` unless the tables are exactly those of this code."""
    with database.engine.connect() as connection:
        current = _current(connection)
        if current is None and not inspect(connection).has_table("job"):
            raise SchemaError("the database is empty; run `cxr-sr db upgrade`")
    _refuse_newer(current)
    if current != head():
        raise SchemaError(
            f"the database is at revision {current}, older than {head()}; run `cxr-sr db upgrade`"
        )


def installation_uuid(database: Database) -> uuid.UUID:
    """This installation's identity, made at its first upgrade and kept ever after (backups carry it)."""
    with database.read() as session:
        known = session.scalar(select(Installation.uuid).where(Installation.id == 1))
    if known is None:
        raise SchemaError("the database has no installation; run `cxr-sr db upgrade`")
    return uuid.UUID(known)


def head() -> str:
    """The newest revision that this code knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _refuse_newer(current: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current is not None and current not in known:
        raise SchemaError(
            f"the database is at revision {current}, which is newer than this program; install its version"
        )


@contextmanager
def _alone(database: Database) -> Iterator[Connection]:
    """A connection in a transaction, while no other process upgrades; on SQLite without foreign keys.

    On SQLite a table is changed by building it anew: with foreign keys on, dropping the old one would delete
    its children. The switch has no effect inside a transaction, so it is set before.
    """
    if not database.sqlite:
        with database.engine.connect() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '60s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
            yield connection
        return
    engine = create_engine(
        database.url, poolclass=NullPool, connect_args={"timeout": 30, "isolation_level": None}
    )
    event.listen(engine, "do_connect", sqlite_private_file)

    @event.listens_for(engine, "connect")
    def _pragmas(connection: object, _record: object) -> None:
        for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL", "foreign_keys=OFF"):
            connection.execute(f"PRAGMA {pragma}")  # type: ignore[attr-defined]

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with _file_lock(make_url(database.url).database), engine.connect() as connection:
        yield connection


@contextmanager
def _file_lock(path: str | None) -> Iterator[None]:
    """Wait for other upgraders: two that create a file at once stumble over the change to WAL."""
    if path is None or path in {"", ":memory:"}:
        yield
        return
    lock = Path(path + ".upgrade-lock")
    private_folder(lock.parent)
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
