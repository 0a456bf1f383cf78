"""What a process uses of its machine: memory and processor time, its children included."""

from __future__ import annotations

import time

import psutil


class Load:
    """Measures this process from one look to the next."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._looked, self._spent = time.monotonic(), self._seconds(self._all())

    def look(self) -> dict[str, float]:
        """`memory`: resident bytes; `processor`: processors in use on the average since the last look."""
        every = self._all()
        now, spent = time.monotonic(), self._seconds(every)
        passed = max(now - self._looked, 1e-3)
        share = max(0.0, spent - self._spent) / passed
        self._looked, self._spent = now, spent
        return {"memory": float(self._memory(every)), "processor": round(share, 3)}

    def _all(self) -> list[psutil.Process]:
        try:
            return [self._process, *self._process.children(recursive=True)]
        except psutil.Error:
            return [self._process]

    @staticmethod
    def _seconds(every: list[psutil.Process]) -> float:
        spent = 0.0
        for process in every:
            try:
                times = process.cpu_times()
            except psutil.Error:  # a child that has just ended
                continue
            spent += times.user + times.system
        return spent

    @staticmethod
    def _memory(every: list[psutil.Process]) -> int:
        total = 0
        for process in every:
            try:
                total += process.memory_info().rss
            except psutil.Error:
                continue
        return total
