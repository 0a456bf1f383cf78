"""People, logins and tokens."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from db import people
from db.models import ApiToken, User, WebSession
from db.people import PersonRefused
from db.types import utcnow

PASSWORD = "correct horse battery"


@pytest.fixture
def anna(database) -> User:
    with database.write() as session:
        return people.add_user(session, "anna", "radiologist", PASSWORD)


@pytest.fixture
def admin(database) -> User:
    with database.write() as session:
        return people.add_user(session, "root", "admin", PASSWORD)


def test_a_password_is_kept_as_an_argon2_hash(database, anna):
    with database.read() as session:
        kept = session.get_one(User, anna.id).password_hash
    assert kept is not None
    assert kept.startswith("$argon2id$")
    assert PASSWORD not in kept


def test_the_right_password_opens_and_a_wrong_one_does_not(database, anna):
    with database.read() as session:
        found = people.verify(session, "anna", PASSWORD)
        assert found is not None
        assert found.id == anna.id
        assert people.verify(session, "anna", PASSWORD + "!") is None
        assert people.verify(session, "anna", "") is None
        assert people.verify(session, "anna", "x" * 5000) is None


def test_an_unknown_name_costs_the_same_work_as_a_wrong_password(database, anna, monkeypatch):
    hashes = []
    real = people._hasher

    class Counting:
        def verify(self, known, password):
            hashes.append(known)
            return real.verify(known, password)

        def hash(self, password):
            return real.hash(password)

    monkeypatch.setattr(people, "_hasher", Counting())
    with database.read() as session:
        assert people.verify(session, "nobody", PASSWORD) is None
        assert people.verify(session, "anna", "wrong") is None
    assert len(hashes) == 2
    assert {kept.split("$")[1:4][2] for kept in hashes} == {"m=65536,t=3,p=4"}


@pytest.mark.parametrize(
    ("name", "role", "password", "why"),
    [
        ("", "admin", PASSWORD, "1 to 64"),
        ("x" * 65, "admin", PASSWORD, "1 to 64"),
        ("a\nb", "admin", PASSWORD, "printable"),
        ("anna", "admin", PASSWORD, "already"),
        ("bert", "king", PASSWORD, "radiologist and admin"),
        ("bert", "admin", "short", "at least 8"),
        ("bert", "admin", "x" * 2000, "at most 1024"),
    ],
)
def test_who_cannot_be_taken_is_told_why(database, anna, name, role, password, why):
    with pytest.raises(PersonRefused, match=why), database.write() as session:
        people.add_user(session, name, role, password)


def test_a_login_is_known_by_its_cookie_and_the_cookie_is_not_kept(database, anna):
    with database.write() as session:
        raw, row = people.open_session(session, session.get_one(User, anna.id), hours=1, address="192.0.2.1")
        assert raw not in (row.token_sha256, row.csrf_token)
    with database.read() as session:
        found = people.session_for(session, raw, idle_minutes=5)
        assert found is not None
        assert (found.user.name, found.address) == ("anna", "192.0.2.1")
        assert found.user.last_login_at is not None
        assert people.session_for(session, raw + "x", idle_minutes=5) is None


def test_a_login_ends_by_the_clock_by_idleness_and_by_revocation(database, anna):
    def opened():
        with database.write() as session:
            return people.open_session(session, session.get_one(User, anna.id), hours=1, address=None)

    def known(raw):
        with database.read() as session:
            return people.session_for(session, raw, idle_minutes=5) is not None

    for change in ({"expires_at": utcnow()}, {"last_seen_at": utcnow() - timedelta(minutes=6)}):
        raw, row = opened()
        assert known(raw)
        with database.write() as session:
            session.execute(update(WebSession).where(WebSession.id == row.id).values(**change))
        assert not known(raw)
    raw, row = opened()
    with database.write() as session:
        people.revoke_session(session, row)
    assert not known(raw)
    with database.write() as session:
        people.touch(session, row)
    assert not known(raw)


def test_a_sign_of_life_keeps_a_login_from_idling(database, anna):
    with database.write() as session:
        raw, row = people.open_session(session, session.get_one(User, anna.id), hours=1, address=None)
        assert not people.stale(row)
        row.last_seen_at = utcnow() - timedelta(minutes=4)
        session.flush()
        assert people.stale(row)
        people.touch(session, row)
    with database.read() as session:
        found = people.session_for(session, raw, idle_minutes=1)
        assert found is not None
        assert not people.stale(found)


def test_disabling_ends_logins_and_tokens_and_refuses_the_password(database, anna):
    with database.write() as session:
        user = session.get_one(User, anna.id)
        cookie, _ = people.open_session(session, user, hours=1, address=None)
        raw, _ = people.create_token(session, user, "script")
        people.disable(session, user)
    with database.read() as session:
        assert people.verify(session, "anna", PASSWORD) is None
        assert people.session_for(session, cookie, idle_minutes=5) is None
        assert people.token_for(session, raw) is None
        assert session.scalars(select(ApiToken.revoked_at)).one() is not None


def test_a_new_password_ends_every_login(database, anna):
    with database.write() as session:
        user = session.get_one(User, anna.id)
        cookie, _ = people.open_session(session, user, hours=1, address=None)
        people.set_password(session, user, "another good one")
    with database.read() as session:
        assert people.session_for(session, cookie, idle_minutes=5) is None
        assert people.verify(session, "anna", "another good one") is not None
        assert people.verify(session, "anna", PASSWORD) is None


def test_a_token_is_shown_once_and_opens_until_it_ends(database, anna):
    with database.write() as session:
        user = session.get_one(User, anna.id)
        raw, row = people.create_token(session, user, "script", days=1)
        assert raw.startswith("cxrsr_")
        assert raw not in str(vars(row).values())
    with database.read() as session:
        found = people.token_for(session, raw)
        assert found is not None
        assert (found.user.name, found.role) == ("anna", "radiologist")
        assert people.token_for(session, raw.removeprefix("cxrsr_")) is None
        assert people.token_for(session, "cxrsr_wrong") is None
    with database.write() as session:
        session.get_one(ApiToken, row.id).expires_at = utcnow()
    with database.read() as session:
        assert people.token_for(session, raw) is None


def test_a_revoked_token_opens_nothing(database, anna):
    with database.write() as session:
        raw, row = people.create_token(session, session.get_one(User, anna.id), "script")
        people.revoke_token(session, row)
    with database.read() as session:
        assert people.token_for(session, raw) is None


def test_a_token_is_never_more_than_its_user(database, anna, admin):
    with database.write() as session:
        with pytest.raises(PersonRefused, match="anna is no admin"):
            people.create_token(session, session.get_one(User, anna.id), "script", role="admin")
        user = session.get_one(User, admin.id)
        raw, _ = people.create_token(session, user, "script")
        _, less = people.create_token(session, user, "reader", role="radiologist")
        assert less.role == "radiologist"
        user.role = "radiologist"
    with database.read() as session:
        assert people.token_for(session, raw) is None


def test_the_first_administrator_is_made_once_and_must_change_the_password(database):
    told = people.first_administrator(database)
    assert told is not None
    name, password = told
    with database.read() as session:
        user = people.verify(session, name, password)
        assert user is not None
        assert (user.role, user.must_change_password) == ("admin", True)
    assert people.first_administrator(database) is None


def test_processes_that_start_at_once_make_one_first_administrator(database):
    told: list[object] = []
    ready = threading.Barrier(3)

    def start():
        ready.wait(10)
        told.append(people.first_administrator(database))

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(told) == 3
    assert sum(one is not None for one in told) == 1


def test_nobody_is_made_administrator_where_there_are_people(database, anna):
    assert people.first_administrator(database) is None


def test_the_last_administrator_cannot_be_shut_out_or_demoted(database, anna, admin):
    for change in (people.disable, lambda s, u: people.set_role(s, u, "radiologist")):
        with pytest.raises(PersonRefused, match="last administrator"), database.write() as session:
            change(session, session.get_one(User, admin.id))
    with database.write() as session:
        people.set_role(session, session.get_one(User, anna.id), "admin")
        people.disable(session, session.get_one(User, admin.id))
    with pytest.raises(PersonRefused, match="last administrator"), database.write() as session:
        people.disable(session, session.get_one(User, anna.id))


def test_two_administrators_do_not_shut_out_each_other(database, anna, admin):
    with database.write() as session:
        people.set_role(session, session.get_one(User, anna.id), "admin")
    refused = []

    def shut_out(number):
        try:
            with database.write() as session:
                people.disable(session, session.get_one(User, number))
        except PersonRefused:
            refused.append(number)

    threads = [threading.Thread(target=shut_out, args=(number,)) for number in (anna.id, admin.id)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(refused) == 1


def test_another_role_ends_the_logins_and_a_disabled_user_may_come_back(database, anna, admin):
    with database.write() as session:
        raw, _ = people.open_session(session, anna, hours=1, address=None)
    with database.write() as session:
        people.set_role(session, session.get_one(User, anna.id), "admin")
    with database.read() as session:
        assert people.session_for(session, raw, idle_minutes=60) is None
    with database.write() as session:
        person = session.get_one(User, anna.id)
        people.disable(session, person)
        people.enable(person)
    with database.read() as session:
        assert people.verify(session, "anna", PASSWORD) is not None


def test_sessions_are_listed_that_still_open_something(database, anna, admin):
    with database.write() as session:
        people.open_session(session, anna, hours=1, address="192.0.2.1")
        _, ended = people.open_session(session, anna, hours=1, address=None)
        people.revoke_session(session, ended)
        _, idle = people.open_session(session, admin, hours=1, address=None)
        idle.last_seen_at = utcnow() - timedelta(minutes=61)
        people.open_session(session, admin, hours=1, address="192.0.2.2")
    with database.read() as session:
        assert sorted(s.address for s in people.sessions(session, idle_minutes=60)) == [
            "192.0.2.1",
            "192.0.2.2",
        ]
        [own] = people.sessions(session, idle_minutes=60, user_id=anna.id)
        assert own.user.name == "anna"
    with database.write() as session:
        people.end_sessions(session, session.get_one(User, anna.id))
    with database.read() as session:
        assert people.sessions(session, idle_minutes=60, user_id=anna.id) == []


def test_a_token_says_whether_it_opens_anything(database, admin, anna):
    with database.write() as session:
        people.create_token(session, admin, "night", days=1)
        people.create_token(session, admin, "old", days=-1)
        _, revoked = people.create_token(session, admin, "lost")
        people.revoke_token(session, revoked)
    with database.read() as session:
        said = {token.name: people.token_state(token) for token in people.tokens(session)}
        assert people.tokens(session, user_id=anna.id) == []
    assert said == {"night": "valid", "old": "expired", "lost": "revoked"}
    with pytest.raises(PersonRefused), database.write() as session:
        people.create_token(session, session.get_one(User, admin.id), "  ")


def test_a_hash_by_parameters_of_yesterday_is_made_anew_and_logins_stand(database, anna, monkeypatch):
    from argon2 import PasswordHasher

    with database.write() as session:
        raw, _ = people.open_session(session, anna, hours=1, address=None)
        assert not people.hash_again(session, anna, PASSWORD), "there is no need to"
    monkeypatch.setattr(people, "_hasher", PasswordHasher(time_cost=2, memory_cost=128, parallelism=1))
    with database.write() as session:
        person = session.get_one(User, anna.id)
        assert people.hash_again(session, person, PASSWORD)
    with database.read() as session:
        person = people.verify(session, "anna", PASSWORD)
        assert person is not None
        assert "m=128,t=2,p=1" in (person.password_hash or "")
        assert people.session_for(session, raw, idle_minutes=60) is not None


def test_a_password_changed_meanwhile_is_not_undone_by_the_new_hash_of_the_old(database, anna, monkeypatch):
    from argon2 import PasswordHasher

    with database.read() as session:
        before = session.get_one(User, anna.id)
    monkeypatch.setattr(people, "_hasher", PasswordHasher(time_cost=2, memory_cost=128, parallelism=1))
    with database.write() as session:
        people.set_password(session, session.get_one(User, anna.id), "another good one")
    with database.write() as session:
        people.hash_again(session, before, PASSWORD)
    with database.read() as session:
        assert people.verify(session, "anna", PASSWORD) is None
        assert people.verify(session, "anna", "another good one") is not None


def test_a_password_that_is_guessed_first_is_refused_wherever_it_is_set(database, anna):
    for poor in ("password1234", "i am anna of old", "123456789012"):
        with pytest.raises(PersonRefused), database.write() as session:
            people.set_password(session, session.get_one(User, anna.id), poor)
        with pytest.raises(PersonRefused), database.write() as session:
            people.add_user(session, "anna2" if "anna" not in poor else "anna of", "admin", poor)
    with pytest.raises(PersonRefused, match="at least 20"), database.write() as session:
        people.add_user(session, "bob", "admin", "not quite so long", shortest=20)
