"""Charts as the server draws them: bars in an SVG of fixed proportions, with words and a table beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from babel.dates import format_date, format_time
from flask_babel import gettext as _
from flask_babel import lazy_gettext

from webui.language import locale
from webui.pages.words import number, seconds

if TYPE_CHECKING:
    from webui.api.dashboard_models import HistoryView

WIDTH, HEIGHT = 600.0, 120.0
"""Of the drawing; the page stretches it."""
GAP = 0.18
"""Part of a bar's place that stays empty."""
_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 86400, 604800)
_TICKS = {"hour": 4, "day": 4, "week": 7}
_LAST = {
    "hour": lazy_gettext("in the last hour"),
    "day": lazy_gettext("in the last day"),
    "week": lazy_gettext("in the last week"),
}


@dataclass(frozen=True)
class Bar:
    """A rectangle in the drawing, and what it says when it is pointed at."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Row:
    """A series of a chart: its name, its colour, its bars."""

    name: str
    tone: str
    bars: list[Bar]


@dataclass(frozen=True)
class Tick:
    """A moment on the axis; the browser writes it anew in its own zone."""

    at: datetime
    form: str
    text: str


@dataclass(frozen=True)
class Chart:
    """One drawing. `cells`: of each part its moment and the values in words, for the table."""

    name: str
    title: str
    summary: str
    top: str
    rows: list[Row]
    ticks: list[Tick]
    cells: list[tuple[datetime, list[str]]]
    empty: bool


@dataclass(frozen=True)
class _Series:
    name: str
    tone: str
    values: list[float | None]


def charts(history: HistoryView) -> list[Chart]:
    """Jobs ended, waiting time and the workers' load of a span."""
    parts = history.parts
    ended = [
        _Series(_("done"), "done", [part.done for part in parts]),
        _Series(_("skipped"), "skipped", [part.skipped for part in parts]),
        _Series(_("failed"), "failed", [part.failed for part in parts]),
    ]
    waits = [
        _Series(_("longest"), "longest", [part.wait_longest for part in parts]),
        _Series(_("mean"), "mean", [part.wait_mean for part in parts]),
    ]
    busy = [_Series(_("at work"), "busy", [part.busy for part in parts])]
    last = str(_LAST[history.span])
    done, skipped, failed = (number(sum(one.values)) for one in ended)  # type: ignore[arg-type]
    longest = max((value for value in waits[0].values if value is not None), default=None)
    mean_busy = [value for value in busy[0].values if value is not None]
    return [
        _chart(
            history, "ended", _("Jobs ended"), ended, _counts, number, stacked=True,
            summary=_("%(done)s jobs done, %(skipped)s skipped, %(failed)s failed %(last)s", done=done,
                      skipped=skipped, failed=failed, last=last),
        ),
        _chart(
            history, "waited", _("Waiting for a worker"), waits, _durations, seconds,
            summary=_("The longest wait %(last)s was %(time)s", last=last, time=seconds(longest))
            if longest is not None
            else _("No job was begun %(last)s", last=last),
        ),
        _chart(
            history, "busy", _("Workers at work"), busy, lambda _top: 1.0, _percent,
            summary=_("Workers were at work %(part)s of the time %(last)s", last=last,
                      part=_percent(sum(mean_busy) / len(mean_busy)))
            if mean_busy
            else _("No worker told how busy it was %(last)s", last=last),
        ),
    ]  # fmt: skip


def _chart(
    history: HistoryView,
    name: str,
    title: str,
    series: Sequence[_Series],
    round_up: Callable[[float], float],
    say: Callable[[float], str],
    *,
    summary: str,
    stacked: bool = False,
) -> Chart:
    count = len(history.parts)
    sums = [sum(one.values[i] or 0 for one in series) for i in range(count)]
    peaks = [max(one.values[i] or 0 for one in series) for i in range(count)]
    top = round_up(max(sums if stacked else peaks, default=0))
    return Chart(
        name=name,
        title=title,
        summary=summary,
        top=say(top),
        rows=_rows(series, top, stacked),
        ticks=_ticks(history),
        cells=[
            (part.at, [_said(one.values[i], say) for one in series])
            for i, part in reversed(list(enumerate(history.parts)))
        ],
        empty=not any(value for one in series for value in one.values),
    )


def _rows(series: Sequence[_Series], top: float, stacked: bool) -> list[Row]:
    below = [0.0] * len(series[0].values)
    found = []
    for one in series:
        bars = []
        place = WIDTH / len(one.values)
        for i, value in enumerate(one.values):
            if not value:
                continue
            height = max(1.0, value / top * HEIGHT)
            y = HEIGHT - height - (below[i] if stacked else 0.0)
            bars.append(Bar(round(place * (i + GAP / 2), 2), round(y, 2), round(place * (1 - GAP), 2),
                            round(height, 2)))  # fmt: skip
            below[i] += height
        found.append(Row(one.name, one.tone, bars))
    return found


def _ticks(history: HistoryView) -> list[Tick]:
    begin, steps = history.parts[0].at, _TICKS[history.span]
    whole = timedelta(seconds=history.part_seconds) * len(history.parts)
    return [_tick(begin + whole * i / steps, history.span) for i in range(steps + 1)]


def _tick(at: datetime, span: str) -> Tick:
    if span == "week":
        return Tick(at, "weekday", format_date(at.astimezone(UTC), "EEE", locale=locale()))
    return Tick(at, "hm", format_time(at.astimezone(UTC), "short", locale=locale()))


def _said(value: float | None, say: Callable[[float], str]) -> str:
    return "–" if value is None else say(value)


def _percent(value: float) -> str:
    return f"{number(100 * value)} %"


def _counts(top: float) -> float:
    """The next 1, 2 or 5 with zeros, 5 at least."""
    if top <= 5:
        return 5.0
    zeros: float = 10.0 ** math.floor(math.log10(top))
    return next(step * zeros for step in (1, 2, 5, 10) if step * zeros >= top)


def _durations(top: float) -> float:
    return next((float(step) for step in _SECONDS if step >= top), top)
