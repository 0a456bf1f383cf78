"""How busy a worker is, and how full the device that it computes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Gauge:
    """Measures from one look to the next; one thread works, another looks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looked = time.monotonic()
        self._busy = 0.0
        self._since: float | None = None
        self.device = "cpu"
        """The device that the model was loaded to."""

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around the work on one job."""
        with self._lock:
            self._since = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                if self._since is not None:
                    self._busy += time.monotonic() - self._since
                self._since = None

    def look(self) -> dict[str, float]:
        """`busy`: the part of the time since the last look that was worked, 0 to 1; of a CUDA device
        `device-memory`, the part of it that is taken, by whomever, and `device-use` where the driver says."""
        with self._lock:
            now = time.monotonic()
            busy = self._busy + (now - self._since if self._since is not None else 0.0)
            passed = max(now - self._looked, 1e-3)
            self._looked, self._busy = now, 0.0
            if self._since is not None:
                self._since = now
        return {"busy": round(min(1.0, busy / passed), 3), **_of_device(self.device)}


def _of_device(device: str) -> dict[str, float]:
    if not device.startswith("cuda"):
        return {}
    import torch

    try:
        free, total = torch.cuda.mem_get_info(device)
    except RuntimeError:  # a device that has gone; the next job says so
        return {}
    found = {"device-memory": round(1 - free / total, 4)}
    try:
        found["device-use"] = torch.cuda.utilization(device) / 100
    except (RuntimeError, ModuleNotFoundError):  # the driver's own library is not there
        pass
    return found
