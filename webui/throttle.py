"""Slowing down guesses at passwords: failures are counted for each name and address for a while.

Counted twice: in this process, whatever name was typed, and in the audit trail, which every process and the
next start share but which keeps no names that are nobody's.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable
from threading import BoundedSemaphore, Lock

from db.logins import Attempt

LIMITS: dict[str, int] = {"name and address": 5, "name": 20, "address": 50}
"""Failures within the window after which the next attempt is refused."""

WINDOW_SECONDS = 300.0
TOLD_SECONDS = 60.0
"""How long a refused attempt stands in the trail for the others like it."""
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
        self._told: OrderedDict[Hashable, float] = OrderedDict()

    def wait(self, name: str, address: str, recorded: Iterable[Attempt] = ()) -> float:
        """Seconds until the next attempt is looked at; 0 for now. recorded: by the trail, newest first."""
        attempts = list(recorded)
        with self._lock:
            now = self.clock()
            here = max(self._wait(key, LIMITS[key[0]], now) for key in _keys(name, address))
        return max(here, *(self._wait_of(key, attempts) for key in _keys(name, address)))

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
            self._failures.pop(("name and address", name.casefold(), _network(address)), None)

    def worth_telling(self, name: str, address: str) -> bool:
        """Whether an attempt that proves and guesses nothing is to be recorded: the first in a minute, or the
        trail would grow as fast as somebody knocks.
        """
        key = _keys(name, address)[0]
        with self._lock:
            now = self.clock()
            if now - self._told.get(key, float("-inf")) < TOLD_SECONDS:
                return False
            self._told[key] = now
            self._told.move_to_end(key)
            while len(self._told) > MAX_KEYS:
                self._told.popitem(last=False)
        return True

    def _wait(self, key: Hashable, limit: int, now: float) -> float:
        times = self._failures.get(key)
        if times is None:
            return 0.0
        while times and times[0] <= now - self.window:
            times.popleft()
        return times[0] + self.window - now if len(times) >= limit else 0.0

    def _wait_of(self, key: tuple[str, str, str], attempts: list[Attempt]) -> float:
        """The same by what the trail knows."""
        kind, name, address = key
        ages: list[float] = []
        for attempt in attempts:  # newest first
            if kind != "address" and attempt.name.casefold() != name:
                continue
            if kind != "name" and _network(attempt.address) != address:
                continue
            if attempt.failed:
                ages.append(attempt.age)
            elif kind == "name and address":
                break  # a success forgives what was before
        limit = LIMITS[kind]
        return max(0.0, self.window - ages[limit - 1]) if len(ages) >= limit else 0.0


def _keys(name: str, address: str) -> tuple[tuple[str, str, str], ...]:
    """What a failure counts for; without a name, for the address alone."""
    name, network = name.casefold(), _network(address)
    if not name:
        return (("address", "", network),)
    return (("name and address", name, network), ("name", name, ""), ("address", "", network))


def _network(address: str) -> str:
    """An IPv6 address counts with the 2^64 others that the same subscriber can take."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address.partition("%")[0], 64), strict=False))
    except ValueError:
        return address
