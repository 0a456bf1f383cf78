"""Telling a trouble that stands: when it begins, now and then while it lasts, and when it is over."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

_MOST = 64
"""Different sentences that are remembered at once."""


class Standing:
    """Writes the same line of a log at most every `every` seconds, with how often it came meanwhile.

    Safe to share between threads.
    """

    def __init__(
        self, log: Any, event: str, *, every: float = 300.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log, self._event, self._every, self._clock = log, event, every, clock
        self._lock = threading.Lock()
        self._told: dict[tuple[tuple[str, Any], ...], tuple[float, int]] = {}
        """For each sentence when it was written last, and how often it came since."""

    def there(self, level: str = "error", **fields: Any) -> None:
        """The trouble is there (again)."""
        key, now = tuple(sorted(fields.items())), self._clock()
        with self._lock:
            at, times = self._told.get(key, (None, 0))
            if at is not None and now - at < self._every:
                self._told[key] = (at, times + 1)
                return
            if at is None and len(self._told) >= _MOST:
                self._told.pop(next(iter(self._told)))
            self._told[key] = (now, 0)
        more = {"again": times} if times else {}
        getattr(self._log, level)(self._event, **fields, **more)

    def over(self) -> None:
        """It is not there any more; said once, and only if it was."""
        if not self._told:
            return
        with self._lock:
            times, self._told = sum(times for _at, times in self._told.values()), {}
        self._log.info(f"{self._event}: over", again=times)
