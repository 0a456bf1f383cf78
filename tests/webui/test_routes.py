"""Every route there is, by the map of addresses: who may use it, what guards it, and that reading changes
nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import event
from werkzeug.routing import Rule

from db import Database, people
from db.objects import ObjectStore
from tests.webui import jobs
from tests.webui.conftest import PACS, PASSWORD, Person, dicom, png
from webui import auth, csrf

UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})
NOTED = frozenset({"audit_event", "web_session", "api_token"})
"""Tables that reading may write: who saw what, and that a session or token is alive."""


def addresses(app: Flask, **values: Any) -> Iterator[tuple[Rule, str, str]]:
    """Every route, a method and an address of it."""
    adapter = app.url_map.bind("localhost")
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: (rule.rule, rule.endpoint)):
        known = {}
        for name, converter in rule._converters.items():
            words: set[str] | None = getattr(converter, "items", None)
            known[name] = min(words) if words else values.get(name, "1")
        path = adapter.build(rule.endpoint, known)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            yield rule, method, path


@pytest.fixture
def bare(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """The application with its guards, and behind each route nothing but the word that it was reached."""
    for endpoint, view in list(app.view_functions.items()):
        declared = auth.declared(view)

        def reached(**_values: Any) -> str:
            return "reached"

        monkeypatch.setitem(
            app.view_functions, endpoint, auth._declare(reached, declared) if declared else reached
        )
    return app


def _bearer(database: Database, name: str, **more: Any) -> dict[str, str]:
    with database.write() as session:
        user = people.named(session, name)
        assert user is not None
        return {"Authorization": f"Bearer {people.create_token(session, user, 'walker', **more)[0]}"}


def test_each_route_is_reached_by_whom_it_says_and_by_nobody_else(bare: Flask, database: Database) -> None:
    stranger = bare.test_client()
    bearers = {
        "radiologist": _bearer(database, "root", role="radiologist"),  # weaker than its owner
        "admin": _bearer(database, "root"),
        "expired": _bearer(database, "root", days=-1),
    }
    wrong = []
    walked = 0
    for rule, method, path in addresses(bare):
        needed = auth.declared(bare.view_functions[rule.endpoint])
        assert needed in {auth.PUBLIC, *auth.ROLES}, f"{rule.rule} states no role"
        open_to = {
            "nobody": needed == auth.PUBLIC,
            "radiologist": needed != "admin",
            "admin": True,
            "expired": needed == auth.PUBLIC,
        }
        for who, may in open_to.items():
            answer = stranger.open(path, method=method, headers=bearers.get(who, {}))
            walked += 1
            reached = answer.text == "reached"
            refusal = {401, 303} if who in {"nobody", "expired"} else {403}
            if reached is not may or (not may and answer.status_code not in refusal):
                wrong.append((who, method, rule.rule, answer.status_code))
    assert wrong == []
    assert walked > 400


@pytest.mark.parametrize("name", ["anna", "root"])
def test_each_route_is_reached_by_the_people_it_says(bare: Flask, database: Database, name: str) -> None:
    with database.write() as session:
        user = people.named(session, name)
        assert user is not None
        raw, row = people.open_session(session, user, hours=1, address=None)
        headers = {csrf.HEADER: row.csrf_token}
        role = user.role
    client = bare.test_client()
    client.set_cookie(auth.COOKIE, raw)
    for rule, method, path in addresses(bare):
        may = auth.declared(bare.view_functions[rule.endpoint]) in {auth.PUBLIC, "radiologist", role}
        answer = client.open(path, method=method, headers=headers)
        assert (answer.text == "reached") is may, (method, rule.rule)
        assert may or answer.status_code == 403, (method, rule.rule)


def test_no_change_is_made_by_a_cookie_without_the_sessions_token(bare: Flask, database: Database) -> None:
    with database.write() as session:
        user = people.named(session, "root")
        assert user is not None
        raw, _row = people.open_session(session, user, hours=1, address=None)
    client = bare.test_client()
    client.set_cookie(auth.COOKIE, raw)
    walked = 0
    for rule, method, path in addresses(bare):
        if method not in UNSAFE:
            continue
        walked += 1
        if auth.declared(bare.view_functions[rule.endpoint]) == auth.PUBLIC:
            answer = client.open(path, method=method, headers={"Origin": "https://evil.example"})
            assert answer.status_code == 403, (method, rule.rule)
            continue
        for headers in ({}, {csrf.HEADER: "guessed"}, {"Origin": "https://evil.example"}):
            answer = client.open(path, method=method, headers=headers, data={csrf.FIELD: "guessed"})
            assert answer.status_code == 403, (method, rule.rule)
            assert answer.text != "reached"
    assert walked > 60


def test_no_other_method_and_no_overridden_one_reaches_a_route(bare: Flask, database: Database) -> None:
    headers = _bearer(database, "root")
    client = bare.test_client()
    taken: dict[str, set[str]] = {}
    for _rule, method, path in addresses(bare):
        taken.setdefault(path, set()).add(method)
    for path, methods in taken.items():
        for method in ({"GET", "TRACE", "PROPFIND"} | UNSAFE) - methods:
            answer = client.open(path, method=method, headers=headers)
            assert answer.status_code == 405, (method, path)
            assert methods <= set(answer.headers["Allow"].split(", ")), (method, path)
    overrides = {"X-HTTP-Method-Override": "DELETE", "X-HTTP-Method": "DELETE", "X-Method-Override": "DELETE"}
    answer = client.post("/api/v1/webhooks/1?_method=DELETE", headers=headers | overrides)
    assert answer.status_code == 405


@pytest.fixture
def full(anna: Person, database: Database, store: ObjectStore) -> int:
    """A job with a result, and others; returns its number."""
    for number in range(4):
        anna.upload((f"{number}.dcm", dicom(f"1.2.{number}")))
        jobs.examine(database, store, number + 1)
    anna.upload(("4.png", png()))
    jobs.finish(database, store, to=(PACS,))
    jobs.finish(database, store, release="review")
    jobs.fail(database)
    return 1


def test_reading_changes_nothing(app: Flask, root: Person, database: Database, full: int) -> None:
    """Whatever a GET writes could be done by any page that shows a picture of our address."""
    written: list[str] = []

    def note(_conn: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        word, *rest = statement.split()
        if word.upper() in {"INSERT", "UPDATE", "DELETE", "CREATE", "DROP", "REPLACE"}:
            table = next(name.strip('"(') for name in rest if name.upper() not in {"INTO", "FROM", "OR"})
            written.append(table)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        for _rule, method, path in addresses(app, job_id=full, name="pacs"):
            if method != "GET" or path == "/api/v1/events":
                continue
            written.clear()
            answer = root.get(path)
            assert answer.status_code < 500 or path in {"/readyz"}, path
            answer.close()
            assert set(written) <= NOTED, path
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def test_a_link_to_a_result_needs_a_login_like_everything_else(
    app: Flask, anna: Person, visitor: Person, full: int
) -> None:
    link = anna.post(f"/api/v1/jobs/{full}/share", json={}).get_json()["url"]
    path = "/" + link.split("/", 3)[3]
    answer = visitor.get(path)
    assert answer.status_code == 303
    assert answer.headers["Location"].startswith("/login")
    assert anna.get(path).status_code in {200, 302, 303}


ELSEWHERE = (
    "https://evil.example/", "//evil.example", "/\\evil.example", "\\\\evil.example", "/\t/evil.example",
    "/\n/evil.example", "///evil.example", "javascript:alert(1)", "http:evil.example",
    "/%0d%0aX-Evil: 1\r\n", " //evil.example", "/.//evil.example\r\nX: y", "\u2028//evil.example",
    "//evil.example/%2e%2e",
)  # fmt: skip


def test_no_login_leads_to_another_site(visitor: Person) -> None:
    for target in ELSEWHERE:
        answer = visitor.client.post("/login", data={"name": "anna", "password": PASSWORD, "next": target})
        assert (answer.status_code, answer.headers["Location"]) == (303, "/"), target
        page = visitor.client.get("/login", query_string={"next": target})
        assert "evil.example" not in page.headers.get("Location", ""), target


PATHS = (
    "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/dist/%2e%2e/%2e%2e/app.py",
    "/static//etc/passwd", "/static/dist/..%5c..%5capp.py", "/static/%00", "/static/dist/.built", "/static/.",
    "/static/dist/", "/static/dist/assets/", "/static/....//....//app.py",
    "/dicomweb/studies/..%2f..%2fvar/series/1/instances/1", "/dicomweb/studies/%2e%2e/metadata",
    "/api/v1/jobs/1%2f..%2f2", "/api/v1/jobs/../../var/cxr-sr.db", "/jobs/..%2fadmin",
)  # fmt: skip


def test_no_path_leads_out_of_its_folder(root: Person) -> None:
    for path in PATHS:
        answer = root.get(path)
        assert answer.status_code in {404, 400, 308}, path
        assert "create_app" not in answer.text, path
        assert "root:" not in answer.text, path
