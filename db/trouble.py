"""What is wrong with the database, from the error that it gave, and what a person does about it.

The engine's own words may quote values: they are for the terminal alone, never for logs and answers.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout


class Trouble(StrEnum):
    """Kinds of trouble."""

    LOCKED = "locked"
    READ_ONLY = "read-only"
    DAMAGED = "damaged"
    FULL = "full"
    UNREADABLE = "unreadable"
    AWAY = "away"
    OTHER = "other"

    @property
    def passes(self) -> bool:
        """Whether it may end while the node runs, so that what it stopped is no fault of a job's."""
        return self in {Trouble.LOCKED, Trouble.READ_ONLY, Trouble.FULL, Trouble.UNREADABLE, Trouble.AWAY}


WORDS: dict[Trouble, str] = {
    Trouble.LOCKED: "another program holds the database locked",
    Trouble.READ_ONLY: "the database can only be read",
    Trouble.DAMAGED: "the database is damaged",
    Trouble.FULL: "the database's disk is full",
    Trouble.UNREADABLE: "the database file cannot be read or written",
    Trouble.AWAY: "the database does not answer",
    Trouble.OTHER: "the database does not answer",
}
ADVICE: dict[Trouble, str] = {
    Trouble.LOCKED: "end that program, or wait until it is done",
    Trouble.READ_ONLY: "check owner and mode of its file and folder, and how its file system is mounted",
    Trouble.DAMAGED: "stop the node, move the file (with its -wal and -shm) away and put a copy back with "
    "`cxr-sr db restore`",
    Trouble.FULL: "make room; work then goes on by itself",
    Trouble.UNREADABLE: "check database.url, the disk, and owner and mode of the folder",
    Trouble.AWAY: "check database.url and whether its server runs",
    Trouble.OTHER: "see `cxr-sr doctor`",
}

_SQLITE = {
    3: Trouble.READ_ONLY,
    5: Trouble.LOCKED,
    6: Trouble.LOCKED,
    8: Trouble.READ_ONLY,
    10: Trouble.UNREADABLE,
    11: Trouble.DAMAGED,
    13: Trouble.FULL,
    14: Trouble.UNREADABLE,
    26: Trouble.DAMAGED,
}
"""Primary result codes: PERM, BUSY, LOCKED, READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB."""
_POSTGRESQL = {
    "25006": Trouble.READ_ONLY,
    "53100": Trouble.FULL,
    "55P03": Trouble.LOCKED,
    "58030": Trouble.UNREADABLE,
    "XX001": Trouble.DAMAGED,
    "XX002": Trouble.DAMAGED,
}
_AWAY = ("08", "53", "57")
"""Classes of SQLSTATE: connection, resources, an operator who stops the server."""


def trouble(error: BaseException) -> Trouble:
    """The kind of trouble behind an error of SQLAlchemy or of a driver."""
    if isinstance(error, PoolTimeout):
        return Trouble.AWAY
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", None)
    if isinstance(code, int):
        return _SQLITE.get(code & 0xFF, Trouble.OTHER)
    if not hasattr(cause, "sqlstate"):
        return Trouble.OTHER
    state: str | None = getattr(cause, "sqlstate", None)
    if state is None:  # the connection broke, or was never there
        return Trouble.AWAY if isinstance(error, DBAPIError) else Trouble.OTHER
    return _POSTGRESQL.get(state, Trouble.AWAY if state.startswith(_AWAY) else Trouble.OTHER)


def advice(error: SQLAlchemyError) -> str:
    """What is wrong and what to do, in one line without values."""
    kind = trouble(error)
    return f"{WORDS[kind]}; {ADVICE[kind]}"
