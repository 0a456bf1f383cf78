"""The connection to the state: one engine, short read and write transactions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.orm import Session, sessionmaker

from db.files import private_folder

PATIENCE_SECONDS = 10.0
"""Time that is waited for a lock or a connection; then whoever asked is told, and asks again later."""

_WRITE = "cxr_sr_write"
_POSTGRES_READ = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


class Database:
    """Sessions on one database; safe to share between threads, not between processes.

    `write()` takes SQLite's write lock at once (BEGIN IMMEDIATE): a read transaction that turns into a
    write one cannot wait for the lock and fails with SQLITE_BUSY_SNAPSHOT.
    """

    def __init__(self, url: str, *, pool_size: int = 20) -> None:
        options: dict[str, Any] = {"hide_parameters": True}  # an error's message goes to the log
        parsed = make_url(url)
        self.sqlite = parsed.get_backend_name() == "sqlite"
        if self.sqlite:
            options["connect_args"] = {"timeout": PATIENCE_SECONDS, "isolation_level": None}
        else:
            options |= {"pool_pre_ping": True, "connect_args": _postgres_patience(parsed)}
        options["pool_timeout"] = PATIENCE_SECONDS
        self.url = url
        self.engine: Engine = create_engine(url, pool_size=pool_size, max_overflow=pool_size, **options)
        if self.sqlite:
            event.listen(self.engine, "do_connect", sqlite_private_file)
            event.listen(self.engine, "connect", _sqlite_pragmas)
            event.listen(self.engine, "begin", _sqlite_begin)
        else:
            event.listen(self.engine, "connect", _postgres_durable)
        self._sessions = sessionmaker(self.engine, expire_on_commit=False)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A consistent view, for reading only. What was loaded stays readable after the block."""
        with self._sessions() as session:
            if not self.sqlite:
                session.connection(execution_options=_POSTGRES_READ)
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that is committed when the block ends, rolled back when it raises."""
        with self._sessions() as session:
            session.connection(execution_options={_WRITE: True})
            try:
                yield session
                session.commit()
            except BaseException:
                session.rollback()
                raise

    def close(self) -> None:
        self.engine.dispose()


def _postgres_patience(url: URL) -> dict[str, Any]:
    """A server that is gone, or a lock that somebody holds, is not waited for without end."""
    options = url.query.get("options")
    own = f"{options} " if isinstance(options, str) else ""
    return {
        "connect_timeout": int(PATIENCE_SECONDS),
        "tcp_user_timeout": int(2 * PATIENCE_SECONDS * 1000),
        "options": f"{own}-c lock_timeout={PATIENCE_SECONDS * 1000:.0f}",
    }


def sqlite_private_file(_dialect: object, _record: object, arguments: list[Any], _options: object) -> None:
    """A new file is for its owner alone; SQLite gives its companions (-wal, -shm) the same mode."""
    if not arguments or arguments[0] in {"", ":memory:"} or str(arguments[0]).startswith("file:"):
        return
    path = Path(arguments[0])
    if not path.exists():
        private_folder(path.parent)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _sqlite_pragmas(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    patience = f"busy_timeout={PATIENCE_SECONDS * 1000:.0f}"
    for pragma in (patience, "journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _postgres_durable(connection: Any, _record: object) -> None:
    """A server, database or role set to commit before anything is written is overruled: what is acknowledged
    stays.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT set_config('synchronous_commit', 'on', false)"
            " WHERE current_setting('synchronous_commit') = 'off'"
        )
    connection.commit()


def _sqlite_begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
