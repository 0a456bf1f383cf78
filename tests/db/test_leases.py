"""Waits between attempts."""

from __future__ import annotations

import random

import pytest

from db.leases import backoff


@pytest.mark.parametrize(("attempt", "ceiling"), [(1, 5), (2, 10), (3, 20), (8, 640), (9, 900), (500, 900)])
def test_the_wait_doubles_to_its_longest_and_lies_in_the_upper_half(attempt, ceiling):
    waits = [backoff(attempt, 5, 900, random.Random(seed)).total_seconds() for seed in range(200)]
    assert ceiling / 2 <= min(waits) < max(waits) <= ceiling
    assert max(waits) - min(waits) > ceiling / 4, "without jitter all would come back at once"
