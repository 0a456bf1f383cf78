"""People whom others vouch for."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from db import outsiders, people
from db.models import AuditEvent, User
from db.outsiders import Refusal, Visitor
from db.people import PersonRefused
from tests.db.test_people import PASSWORD

ANNA = Visitor("oidc", "https://id.example\nsubject-1", "anna", "radiologist")


def admit(database, visitor: Visitor = ANNA) -> Any:
    with database.write() as session:
        return outsiders.admit(session, visitor, address="192.0.2.7")


def test_an_account_is_made_at_the_first_time_and_found_at_the_next(database):
    first, again = admit(database), admit(database)
    assert isinstance(first, User)
    assert isinstance(again, User)
    assert (first.id, first.name, first.role) == (again.id, "anna", "radiologist")
    assert outsiders.source(first) == "oidc"
    assert first.password_hash is None
    assert not first.must_change_password
    with database.read() as session:
        [row] = session.scalars(select(AuditEvent))
    assert (row.action, row.actor, row.detail) == ("user.add", "anna", {"role": "radiologist", "by": "oidc"})


def test_an_account_follows_its_subject_whatever_it_is_called_there(database):
    first = admit(database)
    renamed = admit(database, Visitor("oidc", ANNA.subject, "anna.married", "radiologist"))
    assert (renamed.id, renamed.name) == (first.id, "anna")
    assert (
        admit(database, Visitor("oidc", "https://id.example\nsubject-2", "anna", "admin"))
        is Refusal.NAME_TAKEN
    )
    assert admit(database, Visitor("ldap", ANNA.subject, "anna", "admin")) is Refusal.NAME_TAKEN


@pytest.mark.parametrize("name", ["anna", "ANNA", " anna ", "ａｎｎａ"])
def test_an_account_with_a_password_here_is_never_taken_over(database, name):
    with database.write() as session:
        mine = people.add_user(session, "anna", "radiologist", PASSWORD).id
    assert admit(database, Visitor("oidc", "x", name, "admin")) is Refusal.NAME_TAKEN
    with database.read() as session:
        user = session.get_one(User, mine)
        assert (user.role, user.outside_identity) == ("radiologist", None)
        assert session.query(User).count() == 1


@pytest.mark.parametrize("name", ["", "   ", "x" * 65, "an\nna"])
def test_a_name_that_is_none_is_refused(database, name):
    assert admit(database, Visitor("oidc", "x", name, "admin")) is Refusal.NO_NAME


def test_the_role_follows_the_other_side_and_another_one_ends_the_logins(database):
    user = admit(database, Visitor("ldap", "guid 1", "bob", "admin"))
    with database.write() as session:
        raw, _ = people.open_session(session, user, hours=1, address=None)
    assert admit(database, Visitor("ldap", "guid 1", "bob", "admin")).role == "admin"
    with database.read() as session:
        assert people.session_for(session, raw, idle_minutes=60) is not None
    assert admit(database, Visitor("ldap", "guid 1", "bob", "radiologist")).role == "radiologist"
    with database.read() as session:
        assert people.session_for(session, raw, idle_minutes=60) is None


def test_whoever_has_no_role_any_more_is_refused_and_their_logins_end(database):
    user = admit(database)
    with database.write() as session:
        raw, _ = people.open_session(session, user, hours=1, address=None)
    assert admit(database, Visitor("oidc", ANNA.subject, "anna", None)) is Refusal.NO_ROLE
    with database.read() as session:
        assert people.session_for(session, raw, idle_minutes=60) is None
    assert admit(database, Visitor("oidc", "stranger", "eve", None)) is Refusal.NO_ROLE
    with database.read() as session:
        assert people.named(session, "eve") is None


def test_a_disabled_account_stays_out(database):
    user = admit(database)
    with database.write() as session:
        people.disable(session, session.get_one(User, user.id))
    assert admit(database) is Refusal.SHUT_OUT
    with database.write() as session:
        people.enable(session.get_one(User, user.id))
    assert isinstance(admit(database), User)


def test_what_belongs_to_the_other_side_is_not_changed_here(database):
    user = admit(database)
    for change in (
        lambda session, person: people.set_password(session, person, "another good one"),
        lambda session, person: people.set_role(session, person, "admin"),
        lambda session, person: people.create_token(session, person, "outlives the account"),
    ):
        with pytest.raises(PersonRefused, match="signs in by others"), database.write() as session:
            change(session, session.get_one(User, user.id))
    with database.read() as session:
        assert people.verify(session, "anna", "") is None
        assert people.verify(session, "anna", "another good one") is None


def test_somebody_from_outside_is_not_the_administrator_who_must_remain(database):
    with database.write() as session:
        root = people.add_user(session, "root", "admin", PASSWORD).id
    chief = admit(database, Visitor("oidc", "chief", "chief", "admin"))
    with pytest.raises(PersonRefused, match="last administrator"), database.write() as session:
        people.disable(session, session.get_one(User, root))
    with database.write() as session:
        people.disable(session, session.get_one(User, chief.id))
