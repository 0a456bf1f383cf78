"""Answers that are kept for a moment: however many people look, the database is asked now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

Value = TypeVar("Value")

SHARE = 10.0
"""An answer is kept for at least so many times what it took: none costs more than a tenth of a processor."""


@dataclass
class _Kept:
    lock: threading.Lock = field(default_factory=threading.Lock)
    until: float = float("-inf")
    value: Any = None


class Memo:
    """Keeps values by name; safe to share between threads, of which one computes while others wait."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._kept: dict[Hashable, _Kept] = {}

    def get(self, name: Hashable, seconds: float, make: Callable[[], Value]) -> Value:
        """The value of that name, made anew when it is older than `seconds`; no error is kept."""
        with self._lock:
            kept = self._kept.setdefault(name, _Kept())
        with kept.lock:
            began = self._clock()
            if began >= kept.until:
                kept.value = make()
                now = self._clock()
                kept.until = now + max(seconds, SHARE * (now - began))
            return cast("Value", kept.value)

    def forget(self) -> None:
        """Let everything be made anew: somebody has changed it."""
        with self._lock:
            self._kept.clear()
