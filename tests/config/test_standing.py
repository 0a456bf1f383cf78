from __future__ import annotations

import pytest
import structlog
from structlog.testing import capture_logs

from config.standing import Standing


@pytest.fixture
def clock():
    now = [0.0]

    def tell() -> float:
        return now[0]

    tell.now = now  # type: ignore[attr-defined]
    return tell


def test_a_trouble_that_lasts_is_told_now_and_then_and_once_when_it_is_over(clock):
    with capture_logs() as lines:
        standing = Standing(structlog.get_logger(), "no room", every=60, clock=clock)
        for second in range(150):
            clock.now[0] = float(second)
            standing.there(why="full")
        standing.over()
        standing.over()
    told = [(line["event"], line.get("why"), line.get("again")) for line in lines]
    assert told == [
        ("no room", "full", None),
        ("no room", "full", 59),
        ("no room", "full", 59),
        ("no room: over", None, 29),
    ]


def test_another_reason_is_told_at_once_and_a_thousand_reasons_fill_no_memory(clock):
    with capture_logs() as lines:
        standing = Standing(structlog.get_logger(), "no room", clock=clock)
        for number in range(1000):
            standing.there("warning", caller=str(number))
    assert len(lines) == 1000
    assert len(standing._told) <= 64
