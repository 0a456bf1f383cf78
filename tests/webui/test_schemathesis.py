"""schemathesis asks everything that the OpenAPI document allows and much that it does not, with a token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import schemathesis
from flask import Flask
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema

from config import Settings
from db import Database, people
from db.models import ApiToken, User
from tests.faults.sizes import LONG, size
from tests.webui import jobs
from tests.webui.conftest import PACS, Person, dicom, png
from webui.app import create_app
from webui.services import KEY

SEED = 8
EXAMPLES = size(2, 10)
"""Inputs tried of each operation beside those that the document's schemas are covered by."""
WHO = 4242
"""Number of the asking user and token: ones that random numbers do not shut out."""

UNTRIED = {
    "/api/v1/events": "an answer without an end; tests/webui/test_events.py reads it",
}
"""Addresses that are left out, and why."""

OTHERS_NEEDED = (
    "/readyz",
    "/api/v1/destinations/{name}/echo",
    "/api/v1/destinations/{name}/test-image",
    "/api/v1/archives/{name}/echo",
    "/api/v1/archives/{name}/search",
    "/api/v1/rules/test",
)
"""Addresses that ask another role, of which none runs here: 503 and 504 are documented answers."""


@pytest.fixture
def node(settings: Settings, database: Database) -> Iterator[Flask]:
    """A node where every kind of thing is there to be asked for, and no limit of requests."""
    web = settings.web.model_copy(update={"requests_per_minute": 0, "share_days": 7.0})
    made = create_app(settings.model_copy(update={"web": web}), database)
    made.testing = False
    here = made.extensions[KEY]
    _furnish(made, database, here.store)
    yield made
    here.broadcaster.close()


def _furnish(app: Flask, database: Database, store: Any) -> None:
    anna = Person(app.test_client())
    anna.login("anna")
    for number in range(1, 6):
        answer = anna.upload((f"{number}.dcm", dicom(f"1.2.{number}")))
        jobs.examine(database, store, answer.get_json()["jobs"][0]["id"])
    jobs.finish(database, store)
    jobs.finish(database, store, to=(PACS,))
    jobs.finish(database, store, release="review")
    jobs.fail(database)
    anna.upload(("6.png", png()))
    anna.post("/api/v1/jobs/1/judgement", json={"verdict": "good"})
    anna.post("/api/v1/jobs/1/share", json={})


def _token(database: Database) -> str:
    with database.write() as session:
        people.add_user(session, "schemathesis", "admin", "a long enough password")
        session.query(User).filter_by(name="schemathesis").update({"id": WHO})
        session.expire_all()
        raw, row = people.create_token(session, session.get_one(User, WHO), "fuzz")
        session.query(ApiToken).filter_by(id=row.id).update({"id": WHO})
    return raw


def _schema(app: Flask, raw: str) -> Any:
    config = SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "headers": {"Authorization": f"Bearer {raw}"},
            "generation": {
                "max-examples": EXAMPLES, "mode": "all", "deterministic": True, "database": "none",
                "no-shrink": True, "with-security-parameters": False,
            },
            "phases": {"stateful": {"enabled": False}, "coverage": {"enabled": LONG}},
            "checks": {
                "ignored_auth": {"enabled": False},  # tests/webui/test_routes.py does it for every route
                "positive_data_acceptance": {"enabled": False},  # a job's state may forbid it
            },
            "operations": [
                {
                    "include-path": list(OTHERS_NEEDED),
                    "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "4xx", 503, 504]}},
                }
            ],
            "cache": {"enabled": False},
        }
    )  # fmt: skip
    schema = schemathesis.openapi.from_wsgi("/api/openapi.json", app, config=config)
    return schema.exclude(path=list(UNTRIED))


@dataclass
class Outcome:
    """What was asked, how it was answered, and what was wrong with that."""

    requests: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    """Of each operation: `GET /api/v1/jobs 200`."""
    wrong: dict[str, set[str]] = field(default_factory=dict)


def _ask(app: Flask, raw: str) -> Outcome:
    found = Outcome()
    for said in from_schema(_schema(app, raw)).execute():
        if isinstance(said, events.NonFatalError | events.FatalError):
            found.wrong.setdefault(str(getattr(said, "label", "")), set()).add(str(said)[:500])
        if isinstance(said, events.ScenarioFinished | events.FuzzScenarioFinished):
            _note(found, said.recorder)
    return found


def _note(found: Outcome, recorder: Any) -> None:
    found.requests += len(recorder.interactions)
    for exchange in recorder.interactions.values():
        if exchange.response is not None:
            found.statuses[f"{recorder.label} {exchange.response.status_code}"] += 1
    for case, checks in recorder.checks.items():
        for check in checks:
            if check.status == Status.FAILURE:
                failure = check.failure_info.failure
                asked = recorder.cases[case].value.as_curl_command()[:600]
                words = f"{check.name}: {failure.title}. {' '.join(failure.message.split())[:300]} <- {asked}"
                found.wrong.setdefault(recorder.label, set()).add(words)


def test_schemathesis_finds_no_server_error_and_no_breach_of_the_document(
    node: Flask, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    found = _ask(node, _token(database))
    with capsys.disabled():
        print(f"\nschemathesis: {found.requests} requests")
    lines = [f"{asked}: {words}" for asked, told in sorted(found.wrong.items()) for words in sorted(told)]
    assert not lines, "\n".join(lines)
    refused = {asked for asked in found.statuses if asked.endswith((" 401", " 429"))}
    assert refused == set(), "the token stood to the end"
    successes = {asked.rpartition(" ")[0] for asked in found.statuses if asked[-3] == "2"}
    assert len(successes) > 50, "most operations were not only refused"
