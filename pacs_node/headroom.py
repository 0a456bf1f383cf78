"""Whether there is room for what a worker makes: without it no job is begun that could not be ended."""

from __future__ import annotations

import structlog

from config.standing import Standing
from db.objects import OWN_PART, ObjectStore

_log = structlog.get_logger(__name__)
_LEAST_BYTES = 1 << 20


class Headroom:
    """Remembers how much was missing, and tries whether it is there before the next job is begun."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._needed = 0
        self._full = False
        self._told = Standing(_log, "no room for results, jobs wait")

    def ran_out(self, size: int) -> None:
        """An object of that many bytes had no room; one that failed again needs more than was tried."""
        self._needed = max(2 * self._needed, size, _LEAST_BYTES)
        self._full = True

    def sufficed(self) -> None:
        """Everything that was made was put away."""
        self._needed = 0

    def is_there(self) -> bool:
        """Whether a job may be begun; tells why not, now and then."""
        try:
            if not self._full and self._store.room().has(OWN_PART):
                return True
            why = self._store.refuses(max(self._needed, 1), "results")
        except OSError as error:
            why = error.strerror or type(error).__name__
        self._full = why is not None
        if why is None:
            self._told.over()
        else:
            self._told.there("warning", why=_without_figures(why))
        return why is None


def _without_figures(why: str) -> str:
    """A sentence that stays the same while the free bytes change."""
    return "the reserve would be touched" if "in reserve" in why else why
