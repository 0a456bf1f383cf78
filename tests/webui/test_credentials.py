"""Logins over the whole way: what counts in every process, behind proxies, and what is kept of it."""

from __future__ import annotations

from argon2 import PasswordHasher
from flask import Flask
from sqlalchemy import func, select

from config import Settings
from config.settings import WebSettings
from db import Database, people
from db.models import AuditEvent
from tests.webui.conftest import PASSWORD, Person
from webui.app import create_app


def test_failures_count_in_every_process_and_after_a_restart(
    settings: Settings, database: Database, visitor: Person
) -> None:
    for _ in range(5):
        assert visitor.login("anna", "wrong").status_code == 401
    elsewhere = Person(create_app(settings, database).test_client())
    answer = elsewhere.login("anna", PASSWORD)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["Retry-After"]) <= 300
    assert elsewhere.login("root").status_code == 303, "another name is not held up"


def test_a_login_that_goes_well_forgives_in_every_process(
    settings: Settings, database: Database, visitor: Person
) -> None:
    for _ in range(4):
        visitor.login("anna", "wrong")
    assert visitor.login("anna").status_code == 303
    elsewhere = Person(create_app(settings, database).test_client())
    assert elsewhere.login("anna", "wrong").status_code == 401
    assert elsewhere.login("anna").status_code == 303


def test_knocking_while_one_has_to_wait_does_not_fill_the_trail(visitor: Person, database: Database) -> None:
    for _ in range(5):
        visitor.login("anna", "wrong")
    for _ in range(20):
        assert visitor.login("anna", "wrong").status_code == 429
    with database.read() as session:
        count = select(func.count()).where(AuditEvent.outcome == "throttled")
        assert session.scalar(count) == 1


def test_nobody_slips_through_under_another_address_that_they_claim(visitor: Person) -> None:
    for number in range(5):
        headers = {"X-Forwarded-For": f"10.0.0.{number}"}
        form = {"name": "anna", "password": "wrong"}
        assert visitor.client.post("/login", data=form, headers=headers).status_code == 401
    assert visitor.login("anna").status_code == 429


def test_behind_a_trusted_proxy_each_address_counts_for_itself(
    settings: Settings, database: Database
) -> None:
    web = WebSettings(trusted_proxies=("127.0.0.1",))
    client = create_app(settings.model_copy(update={"web": web}), database).test_client()

    def attempt(address: str, password: str) -> int:
        headers = {"X-Forwarded-For": f"192.0.2.99, {address}", "X-Forwarded-Proto": "https"}
        form = {"name": "anna", "password": password}
        return client.post("/login", data=form, headers=headers).status_code

    assert [attempt("10.0.0.1", "wrong") for _ in range(5)] == [401] * 5
    assert attempt("10.0.0.1", PASSWORD) == 429
    assert attempt("10.0.0.2", PASSWORD) == 303, "the neighbour is not held up"
    with database.read() as session:
        assert set(session.scalars(select(AuditEvent.address))) == {"10.0.0.1", "10.0.0.2"}


def test_a_login_keeps_the_password_by_the_parameters_of_today(
    visitor: Person, database: Database, monkeypatch
) -> None:
    monkeypatch.setattr(people, "_hasher", PasswordHasher(time_cost=2, memory_cost=128, parallelism=1))
    assert visitor.login("anna").status_code == 303
    with database.read() as session:
        user = people.named(session, "anna")
        assert user is not None
        assert "m=128,t=2,p=1" in (user.password_hash or "")
    assert visitor.get("/api/v1/me").status_code == 200
    assert visitor.login("anna").status_code == 303


def test_the_shortest_password_is_the_one_that_is_configured(settings: Settings, database: Database) -> None:
    web = WebSettings(password_min_length=20)
    anna = Person(create_app(settings.model_copy(update={"web": web}), database).test_client())
    anna.login("anna")
    assert 'minlength="20"' in anna.get("/account").text
    form = {"current": PASSWORD, "new": "not quite so long", "repeat": "not quite so long"}
    answer = anna.post("/account", data=form)
    assert answer.status_code == 422
    assert "at least 20 characters" in answer.text


def test_a_password_that_is_guessed_first_is_refused_with_the_reason(anna: Person) -> None:
    for new, word in (
        ("Password1234", "most common"),
        ("abcdefghijkl", "sequence"),
        ("my-cxr-sr-login", "service"),
    ):
        answer = anna.post("/account", data={"current": PASSWORD, "new": new, "repeat": new})
        assert answer.status_code == 422
        assert word in answer.text
        assert new not in answer.text


def test_another_role_a_new_password_and_being_shut_out_end_logins_at_once(
    app: Flask, database: Database, root: Person
) -> None:
    with database.write() as session:
        bob = people.add_user(session, "bob", "radiologist", PASSWORD).id
    for path, body in (
        ("role", {"role": "admin"}), ("sessions/end", None), ("password", None), ("disable", None),
    ):  # fmt: skip
        with database.write() as session:
            people.set_password(session, people.named(session, "bob"), PASSWORD)
        person = Person(app.test_client())
        assert person.login("bob").status_code == 303
        assert person.get("/api/v1/me").status_code == 200
        assert root.post(f"/api/v1/users/{bob}/{path}", json=body).status_code == 200
        assert person.get("/api/v1/me").status_code == 401, path
