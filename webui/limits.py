"""How many requests a program may make: a bucket of tokens for each API token.

The buckets lie in memory. That is enough because the web role is one process with many threads (see
`webui.server`); several web hosts behind a proxy each allow the whole number. People with a session are not
counted: what slows down guesses at their passwords is `webui.throttle`.

Answers carry the fields of the IETF's draft "RateLimit header fields for HTTP": `RateLimit-Policy` says what
is allowed, `RateLimit` how much of it is left and after how many seconds all of it is there again.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

from flask import Flask, Response, current_app, g, request

from webui import auth
from webui.errors import TooMany
from webui.services import services

WINDOW_SECONDS = 60
MAX_BUCKETS = 10_000
"""Tokens that are remembered; the one that was silent longest is forgotten first, which only helps it."""


@dataclass(frozen=True)
class Allowance:
    """What a token may still do: `left` requests now, all of them after `full_in` seconds.

    `wait` is above zero when the request came too early: the seconds until one is allowed.
    """

    limit: int
    left: int
    full_in: float
    wait: float = 0.0


class Limiter:
    """A bucket for each key, filled evenly over a minute; safe to share between threads."""

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self._clock, self._lock = per_minute, clock, Lock()
        self._buckets: OrderedDict[int, tuple[float, float]] = OrderedDict()
        """Key to how much was left, and when that was."""

    def take(self, key: int) -> Allowance:
        """Count a request; one that is refused costs nothing."""
        limit, rate = self.per_minute, self.per_minute / WINDOW_SECONDS
        with self._lock:
            now = self._clock()
            left, then = self._buckets.pop(key, (float(limit), now))
            left = min(float(limit), left + (now - then) * rate)
            wait = max(0.0, (1 - left) / rate)
            left = left if wait else left - 1
            self._buckets[key] = (left, now)
            while len(self._buckets) > MAX_BUCKETS:
                self._buckets.popitem(last=False)
        return Allowance(limit, int(left), (limit - left) / rate, wait)


def headers(allowed: Allowance) -> dict[str, str]:
    """The fields that tell a program where it stands."""
    return {
        "RateLimit-Policy": f'"token";q={allowed.limit};w={WINDOW_SECONDS}',
        "RateLimit": f'"token";r={allowed.left};t={math.ceil(allowed.full_in)}',
    }


def register(app: Flask) -> None:
    """Count the requests of programs, also those that the guard of :mod:`webui.auth` will refuse."""
    per_minute = app.extensions["cxr_sr"].settings.web.requests_per_minute
    if not per_minute:
        return
    limiter = Limiter(per_minute)

    @app.before_request
    def _count() -> None:
        if request.endpoint is None:
            return
        if auth.declared(current_app.view_functions[request.endpoint]) == auth.PUBLIC:
            return  # what is open to everybody asks nobody who they are
        who = auth.current()
        if who is None or who.token_id is None:
            return
        g.allowance = allowed = limiter.take(who.token_id)
        if allowed.wait:
            services().metrics.limited.inc()
            raise TooMany(
                f"This token may make {allowed.limit} requests in a minute; slow down.",
                kind="rate-limit",
                retry_after=math.ceil(allowed.wait),
            )

    @app.after_request
    def _tell(response: Response) -> Response:
        allowed: Allowance | None = g.get("allowance")
        if allowed is not None:
            response.headers.update(headers(allowed))
        return response
