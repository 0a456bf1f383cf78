"""When a disk will be full, from how its free space went: a straight line, or an honest no."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

WINDOW = timedelta(days=7)
"""How far back the line looks: a week has its nights and its Sunday."""
LEAST = timedelta(hours=6)
"""Time that figures must cover before anything is said."""
LEAST_POINTS = 12
FARTHEST_DAYS = 3650.0


@dataclass(frozen=True)
class Forecast:
    """What the line says. `days` until the reserve is reached: None when the space does not shrink, or when
    there is too little to say anything; `covered` is the time that the figures span."""

    days: float | None
    bytes_per_day: float | None
    """Growth of what lies there; negative when space is freed."""
    covered: timedelta
    enough: bool


def forecast(points: Sequence[tuple[datetime, float]], reserve: float = 0.0) -> Forecast:
    """Fit a line to (when, free bytes), oldest first, by least squares; `reserve` is what counts as full."""
    covered = points[-1][0] - points[0][0] if points else timedelta()
    if covered < LEAST or len(points) < LEAST_POINTS:
        return Forecast(None, None, covered, False)
    began = points[0][0]
    times = [(at - began).total_seconds() / 86400 for at, _free in points]
    frees = [free for _at, free in points]
    middle, level = sum(times) / len(times), sum(frees) / len(frees)
    spread = sum((t - middle) ** 2 for t in times)
    slope = sum((t - middle) * (f - level) for t, f in zip(times, frees, strict=True)) / spread
    left = frees[-1] - reserve
    if left <= 0:
        return Forecast(0.0, -slope, covered, True)
    days = left / -slope if slope < 0 else None
    return Forecast(None if days is None or days > FARTHEST_DAYS else days, -slope, covered, True)
