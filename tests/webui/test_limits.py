from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from config import Settings
from db import Database, people
from tests.webui.conftest import Person
from webui import limits
from webui.app import create_app
from webui.services import KEY


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_what_a_minute_allows_at_once_and_fills_evenly() -> None:
    clock = Clock()
    limiter = limits.Limiter(60, clock=clock)
    assert [limiter.take(1).left for _ in range(60)] == list(range(59, -1, -1))
    refused = limiter.take(1)
    assert refused.wait == pytest.approx(1.0)
    assert refused.left == 0
    clock.now += 1.0
    assert limiter.take(1).wait == 0
    assert limiter.take(1).wait > 0
    clock.now += 3600
    assert limiter.take(1).left == 59


def test_a_refused_request_costs_nothing() -> None:
    clock = Clock()
    limiter = limits.Limiter(6, clock=clock)
    for _ in range(100):
        limiter.take(1)
    clock.now += 10
    assert limiter.take(1).wait == 0


def test_tokens_do_not_share_a_bucket_and_the_longest_silent_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "MAX_BUCKETS", 3)
    limiter = limits.Limiter(2, clock=Clock())
    for key in range(5):
        assert limiter.take(key).left == 1
    assert len(limiter._buckets) == 3
    assert limiter.take(4).left == 0
    assert limiter.take(4).wait > 0
    assert limiter.take(3).left == 0


def test_the_fields_say_what_is_allowed_and_what_is_left() -> None:
    told = limits.headers(limits.Allowance(600, 12, 58.8))
    assert told == {"RateLimit-Policy": '"token";q=600;w=60', "RateLimit": '"token";r=12;t=59'}


@pytest.fixture
def slow(settings: Settings, database: Database) -> Iterator[Flask]:
    """A node whose programs may ask three times in a minute."""
    web = settings.web.model_copy(update={"requests_per_minute": 3})
    app = create_app(settings.model_copy(update={"web": web}), database)
    yield app
    app.extensions[KEY].broadcaster.close()


def _program(app: Flask, database: Database, name: str = "pacs-robot") -> FlaskClient:
    with database.write() as session:
        user = people.named(session, "anna")
        assert user is not None
        raw, _row = people.create_token(session, user, name=name, role="radiologist")
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {raw}"
    return client


def test_a_program_that_asks_too_often_is_told_when_to_come_back(slow: Flask, database: Database) -> None:
    program, other = _program(slow, database), _program(slow, database, "another")
    answers = [program.get("/api/v1/me") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0].headers["RateLimit-Policy"] == '"token";q=3;w=60'
    assert answers[0].headers["RateLimit"].startswith('"token";r=2;t=')
    problem = answers[3]
    assert problem.mimetype == "application/problem+json"
    assert problem.get_json()["type"] == "urn:cxr-sr:problem:rate-limit"
    assert 1 <= int(problem.headers["Retry-After"]) <= 20
    assert problem.headers["RateLimit"].startswith('"token";r=0;t=')
    assert other.get("/api/v1/me").status_code == 200
    figures = slow.test_client().get("/metrics").text
    assert "cxr_sr_http_limited_total 1.0" in figures


def test_refused_requests_count_too(slow: Flask, database: Database) -> None:
    program = _program(slow, database)
    statuses = [program.get("/api/v1/webhooks").status_code for _ in range(4)]
    assert statuses == [403, 403, 403, 429]


def test_people_and_probes_are_not_counted(slow: Flask, database: Database) -> None:
    person = Person(slow.test_client())
    person.login("anna")
    answers = [person.get("/api/v1/me") for _ in range(6)]
    assert {answer.status_code for answer in answers} == {200}
    assert "RateLimit" not in answers[0].headers
    program = _program(slow, database)
    assert {program.get("/healthz").status_code for _ in range(6)} == {200}


def test_zero_means_any_number(settings: Settings, database: Database) -> None:
    web = settings.web.model_copy(update={"requests_per_minute": 0})
    app = create_app(settings.model_copy(update={"web": web}), database)
    program = _program(app, database)
    answer = program.get("/api/v1/me")
    assert answer.status_code == 200
    assert "RateLimit" not in answer.headers
    app.extensions[KEY].broadcaster.close()
