"""What a claim hands out, and what happens to one who holds it too long."""

from __future__ import annotations

import os
import random
import re
import socket
import uuid
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


_OWNER = re.compile(r"[a-z]+@(?P<host>.*):(?P<pid>[0-9]+):[0-9a-f]{6}")


def owner_here(role: str) -> str:
    """What a role of this process calls itself as the owner of leases: no two are called the same."""
    return f"{role}@{socket.gethostname()[:80]}:{os.getpid()}:{uuid.uuid4().hex[:6]}"


def is_dead(owner: str | None) -> bool:
    """Whether the owner of a lease was a process of this machine and runs no more; then nobody needs to wait
    until its lease ends.

    Said of one that still lives (of the same host name, where its process cannot be seen from here) it costs
    a repetition and nothing else: the token fences off whoever comes second.
    """
    found = _OWNER.fullmatch(owner or "")
    if found is None or found["host"] != socket.gethostname()[:80]:
        return False
    try:
        os.kill(int(found["pid"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    return False
