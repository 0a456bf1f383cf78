"""What a claim hands out, and what happens to one who holds it too long."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta


class LeaseLost(Exception):
    """Another worker holds the lease now, or the work is over: drop what you have, commit nothing."""


class CancelRequested(LeaseLost):
    """The lease stands, but someone wants the work cancelled: drop it and say so."""


@dataclass(frozen=True)
class Lease:
    """The right to finish one job or delivery.

    It ends when the work is given to another, which may happen from `expires_at` on unless a heartbeat moves
    that further. What counts is `token`: it grows with each claim and fences off whoever held it before.
    """

    id: int
    token: int
    expires_at: datetime


def backoff(attempt: int, base: float, longest: float, rng: random.Random | None = None) -> timedelta:
    """Wait before the next attempt: doubling from `base` seconds up to `longest`, with jitter of one half.

    `attempt` is the number of attempts already made, from 1.
    """
    ceiling = min(longest, base * 2.0 ** min(attempt - 1, 32))
    return timedelta(seconds=ceiling * (rng or random).uniform(0.5, 1.0))
