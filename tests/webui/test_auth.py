from __future__ import annotations

from datetime import timedelta

import pytest
from flask import Flask
from sqlalchemy import select
from werkzeug.routing import Rule

from config import Settings
from config.settings import WebSettings
from db import Database, people
from db.models import ApiToken, AuditEvent, User, WebSession
from db.types import utcnow
from tests.webui.conftest import PASSWORD, Person
from webui import auth
from webui.app import create_app


def _user(session, name: str) -> User:
    return session.scalars(select(User).where(User.name == name)).one()


def _address(app: Flask, rule: Rule) -> str:
    """An address of a route: where it takes one of several words, the first of them."""
    values = {}
    for name, converter in rule._converters.items():
        words: set[str] | None = getattr(converter, "items", None)
        values[name] = min(words) if words else "1"
    return app.url_map.bind("localhost").build(rule.endpoint, values)


def test_every_route_declares_who_may_use_it(app: Flask) -> None:
    undeclared = [
        rule.rule
        for rule in app.url_map.iter_rules()
        if auth.declared(app.view_functions[rule.endpoint]) is None
    ]
    assert undeclared == []


def test_only_these_routes_are_open_to_everybody(app: Flask) -> None:
    views = app.view_functions
    public = {
        rule.rule for rule in app.url_map.iter_rules() if auth.declared(views[rule.endpoint]) == auth.PUBLIC
    }
    assert public == {
        "/static/<path:filename>", "/login", "/login/oidc", "/login/oidc/back",
        "/healthz", "/readyz", "/metrics", "/api/openapi.json",
    }  # fmt: skip


def test_a_route_without_a_declaration_is_refused_even_to_an_administrator(app: Flask) -> None:
    app.add_url_rule("/api/forgotten", view_func=lambda: "open")
    root = Person(app.test_client())
    root.login("root")
    assert root.get("/api/forgotten").status_code == 403


def test_every_guarded_route_turns_a_visitor_away(app: Flask, visitor: Person) -> None:
    for rule in app.url_map.iter_rules():
        if auth.declared(app.view_functions[rule.endpoint]) == auth.PUBLIC:
            continue
        path = _address(app, rule)
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
            answer = visitor.client.open(path, method=method)
            if path.startswith(("/api", "/dicomweb")):
                assert answer.status_code == 401, (method, path)
                assert answer.headers["WWW-Authenticate"] == "Bearer"
            else:
                assert answer.status_code == 303, (method, path)
                assert answer.headers["Location"].startswith("/login")


def test_a_radiologist_may_not_do_what_needs_an_administrator(app: Flask, anna: Person) -> None:
    admin = [
        rule
        for rule in app.url_map.iter_rules()
        if auth.declared(app.view_functions[rule.endpoint]) == "admin"
    ]
    assert admin
    for rule in admin:
        path = _address(app, rule)
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}:
            answer = anna.client.open(path, method=method, headers={"X-CSRF-Token": anna.csrf})
            assert answer.status_code == 403, path


def test_a_login_opens_a_session_whose_cookie_scripts_cannot_read(visitor: Person) -> None:
    answer = visitor.login("anna", next="/queue")
    assert answer.headers["Location"] == "/queue"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    me = visitor.get("/api/v1/me").get_json()
    assert (me["name"], me["role"], me["by"]) == ("anna", "radiologist", "session")


def test_the_cookie_is_secure_when_browsers_reach_us_by_https(settings: Settings, database: Database) -> None:
    web = WebSettings(trusted_proxies=("127.0.0.1",))
    client = create_app(settings.model_copy(update={"web": web}), database).test_client()
    answer = client.post(
        "/login",
        data={"name": "anna", "password": PASSWORD},
        headers={"X-Forwarded-Proto": "https", "Origin": "https://localhost"},
    )
    assert answer.status_code == 303
    assert "Secure" in answer.headers["Set-Cookie"]
    assert answer.headers["Strict-Transport-Security"]


@pytest.mark.parametrize("name", ["anna", "nobody", "", "anna' OR 1=1"])
def test_a_wrong_password_is_refused_without_saying_what_was_wrong(visitor: Person, name: str) -> None:
    answer = visitor.login(name, "wrong")
    assert answer.status_code == 401
    assert "Set-Cookie" not in answer.headers
    assert "wrong" in answer.text
    assert "Traceback" not in answer.text


def test_after_five_failures_even_the_right_password_waits(visitor: Person, anna: Person) -> None:
    for _ in range(5):
        assert visitor.login("anna", "wrong").status_code == 401
    answer = visitor.login("anna", PASSWORD)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert anna.get("/api/v1/me").status_code == 200, "who is in stays in"
    assert visitor.login("root").status_code == 303, "another name is not held up"


def test_a_login_with_a_foreign_target_stays_here(visitor: Person) -> None:
    for target in ("https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)"):
        assert visitor.login("anna", next=target).headers["Location"] == "/"


def test_logging_out_ends_the_session_on_the_server(app: Flask, anna: Person) -> None:
    cookie = anna.client.get_cookie(auth.COOKIE)
    assert cookie is not None
    assert anna.post("/logout").status_code == 303
    thief = app.test_client()
    thief.set_cookie(auth.COOKIE, cookie.value)
    assert thief.get("/api/v1/me").status_code == 401


def test_logging_in_anew_ends_the_browsers_session_before(app: Flask, anna: Person) -> None:
    before = anna.client.get_cookie(auth.COOKIE)
    assert before is not None
    anna.login("root")
    thief = app.test_client()
    thief.set_cookie(auth.COOKIE, before.value)
    assert thief.get("/api/v1/me").status_code == 401


def test_a_revoked_session_and_a_disabled_user_are_out_at_once(
    database: Database, anna: Person, root: Person
) -> None:
    with database.write() as session:
        row = session.scalars(select(WebSession).join(User).where(User.name == "anna")).one()
        people.revoke_session(session, row)
    assert anna.get("/api/v1/me").status_code == 401
    with database.write() as session:
        people.add_user(session, "other", "admin", PASSWORD)  # the last administrator cannot be shut out
        people.disable(session, _user(session, "root"))
    assert root.get("/api/v1/me").status_code == 401


def test_a_session_ends_after_silence_and_after_its_time(
    settings: Settings, database: Database, anna: Person
) -> None:
    with database.write() as session:
        row = session.scalars(select(WebSession)).one()
        row.last_seen_at = utcnow() - timedelta(minutes=settings.web.session_idle_minutes + 1)
    assert anna.get("/api/v1/me").status_code == 401
    anna.login("anna")
    with database.write() as session:
        for row in session.scalars(select(WebSession)):
            row.expires_at = utcnow() - timedelta(seconds=1)
    assert anna.get("/api/v1/me").status_code == 401


def test_a_program_comes_in_by_token_without_csrf(database: Database, visitor: Person) -> None:
    with database.write() as session:
        raw, _row = people.create_token(session, _user(session, "root"), "script", role="radiologist")
    bearer = {"Authorization": f"Bearer {raw}"}
    me = visitor.client.get("/api/v1/me", headers=bearer).get_json()
    assert (me["by"], me["role"], me["csrf_token"]) == ("token", "radiologist", None)
    assert visitor.client.post("/api/v1/jobs/search", json={}, headers=bearer).status_code == 200
    with database.read() as session:
        assert session.scalars(select(ApiToken)).one().last_used_at is not None
    refused = visitor.client.post("/api/v1/jobs/1/retract", json={"reason": "wrong"}, headers=bearer)
    assert refused.status_code == 403, "the token is weaker than its owner"


@pytest.mark.parametrize("header", ["Bearer", "Bearer nonsense", "Basic cm9vdDpyb290", "Bearer cxrsr_0000"])
def test_a_bad_token_is_refused_even_beside_a_good_cookie(anna: Person, header: str) -> None:
    assert anna.get("/api/v1/me", headers={"Authorization": header}).status_code == 401


def test_a_revoked_token_is_refused(database: Database, visitor: Person) -> None:
    with database.write() as session:
        raw, row = people.create_token(session, _user(session, "anna"), "script")
        people.revoke_token(session, row)
    assert visitor.get("/api/v1/me", headers={"Authorization": f"Bearer {raw}"}).status_code == 401


def test_whoever_got_a_password_must_first_choose_one(database: Database, visitor: Person) -> None:
    with database.write() as session:
        people.add_user(session, "first", "admin", PASSWORD, must_change=True)
    assert visitor.login("first").headers["Location"] == "/account"
    assert visitor.get("/queue").headers["Location"] == "/account"
    problem = visitor.get("/api/v1/jobs")
    assert problem.status_code == 403
    assert problem.get_json()["type"] == "urn:cxr-sr:problem:password-change-required"
    change = {"current": PASSWORD, "new": "another long one"}
    assert visitor.post("/api/v1/me/password", json=change).status_code == 204
    assert visitor.get("/api/v1/jobs").status_code == 200


def test_a_new_password_ends_the_other_sessions(app: Flask, anna: Person) -> None:
    other = Person(app.test_client())
    other.login("anna")
    form = {"current": PASSWORD, "new": "another long one", "repeat": "another long one"}
    assert anna.post("/account", data=form).status_code == 303
    assert anna.get("/api/v1/me").status_code == 200
    assert other.get("/api/v1/me").status_code == 401
    assert other.login("anna").status_code == 401
    assert other.login("anna", "another long one").status_code == 303


@pytest.mark.parametrize(
    ("current", "new", "repeat"),
    [
        (PASSWORD, "short", "short"),
        (PASSWORD, "another long one", "another long two"),
        (PASSWORD, PASSWORD, PASSWORD),
        (PASSWORD, "i am anna of old", "i am anna of old"),
        ("not the current", "another long one", "another long one"),
    ],
)
def test_a_poor_new_password_is_refused(anna: Person, current: str, new: str, repeat: str) -> None:
    answer = anna.post("/account", data={"current": current, "new": new, "repeat": repeat})
    assert answer.status_code == 422
    assert anna.login("anna").status_code == 303


def test_logins_are_in_the_audit_trail_and_strange_names_are_not(database: Database, visitor: Person) -> None:
    visitor.login("anna")
    visitor.login("anna", "wrong")
    visitor.login("my secret password", "x")
    with database.read() as session:
        found = {
            (row.actor, row.outcome) for row in session.scalars(select(AuditEvent)) if row.action == "login"
        }
    assert found == {("anna", "success"), ("anna", "failure"), ("unknown", "failure")}
