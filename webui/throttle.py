"""Slowing down guesses at passwords: failures are counted for each name and address for a while."""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from threading import BoundedSemaphore, Lock

LIMITS: dict[str, int] = {"name and address": 5, "name": 20, "address": 50}
"""Failures within the window after which the next attempt is refused."""

WINDOW_SECONDS = 300.0
MAX_KEYS = 20_000


class Throttle:
    """Failures of the last minutes, in memory: bounded, shared by the threads of one process."""

    def __init__(
        self, *, window: float = WINDOW_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.window = window
        self.clock = clock
        self.hashing = BoundedSemaphore(4)
        """Held while a password is hashed: argon2 takes 64 MiB each time."""
        self._lock = Lock()
        self._failures: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def wait(self, name: str, address: str) -> float:
        """Seconds until the next attempt is looked at; 0 for now."""
        with self._lock:
            now = self.clock()
            return max(self._wait(key, LIMITS[key[0]], now) for key in _keys(name, address))

    def failed(self, name: str, address: str) -> None:
        """Count a failure."""
        with self._lock:
            now = self.clock()
            for key in _keys(name, address):
                times = self._failures.setdefault(key, deque(maxlen=LIMITS[key[0]]))
                times.append(now)
                self._failures.move_to_end(key)
            while len(self._failures) > MAX_KEYS:
                self._failures.popitem(last=False)

    def succeeded(self, name: str, address: str) -> None:
        """Forget the failures of this name from this address."""
        with self._lock:
            self._failures.pop(("name and address", name.casefold(), address), None)

    def _wait(self, key: Hashable, limit: int, now: float) -> float:
        times = self._failures.get(key)
        if times is None:
            return 0.0
        while times and times[0] <= now - self.window:
            times.popleft()
        return times[0] + self.window - now if len(times) >= limit else 0.0


def _keys(name: str, address: str) -> tuple[tuple[str, str, str], ...]:
    name = name.casefold()
    return (("name and address", name, address), ("name", name, ""), ("address", "", address))
