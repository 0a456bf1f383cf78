"""One scheduler at a time, whatever the number of processes: whoever holds the lock is it."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO, Protocol

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from db import Database

ADVISORY_KEY = 0x6378725F7372  # "cxr_sr"
"""Names our lock among the advisory locks of a PostgreSQL database."""


class Leadership(Protocol):
    """The right to be the only one. It is lost with the process or the connection that holds it."""

    def hold(self) -> bool:
        """Try to take it, or check that it is still held; never waits."""

    def give_up(self) -> None:
        """Let another have it."""


def leadership(database: Database, folder: Path) -> Leadership:
    """For SQLite a locked file beside it in `folder`, for PostgreSQL an advisory lock."""
    return FileLeadership(folder / "scheduler.lock") if database.sqlite else AdvisoryLeadership(database)


class FileLeadership:
    """A lock on a file, which the kernel releases however the process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def hold(self) -> bool:
        if self._file is not None:
            return True
        file = self._path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return False
        self._file = file
        return True

    def give_up(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class AdvisoryLeadership:
    """A session lock of PostgreSQL on a connection of its own, which the server releases when that breaks."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None

    def hold(self) -> bool:
        try:
            if self._connection is None:
                self._connection = self._database.engine.connect().execution_options(
                    isolation_level="AUTOCOMMIT"
                )
                taken = self._connection.scalar(
                    text("SELECT pg_try_advisory_lock(:key)"), {"key": ADVISORY_KEY}
                )
                if not taken:
                    self.give_up()
                return bool(taken)
            self._connection.execute(text("SELECT 1"))
            return True
        except SQLAlchemyError:
            self.give_up()
            return False

    def give_up(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()  # closes the server's session, and the lock with it
            self._connection.close()
            self._connection = None
