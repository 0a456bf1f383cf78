"""Figures of this web process for Prometheus: requests by route, never by address or person."""

from __future__ import annotations

import time

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram

from webui.services import services


class Metrics:
    """A registry of its own, so that two applications in one process do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "cxr_sr_http_requests", "Answers by route, method and status.", ("route", "method", "status"),
            registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "cxr_sr_http_request_seconds", "Seconds until the answer began.", ("route",),
            buckets=(0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30), registry=self.registry,
        )  # fmt: skip
        self.limited = Counter(
            "cxr_sr_http_limited", "Requests of programs that came faster than their token allows.",
            registry=self.registry,
        )  # fmt: skip


def register(app: Flask) -> None:
    """Count every answer."""

    @app.before_request
    def _start() -> None:
        g.started = time.perf_counter()

    @app.after_request
    def _count(response: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "none"
        figures = services().metrics
        figures.requests.labels(route, _method(), str(response.status_code)).inc()
        figures.seconds.labels(route).observe(time.perf_counter() - g.get("started", time.perf_counter()))
        return response


def _method() -> str:
    known = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
    return request.method if request.method in known else "other"
