"""The audit trail only grows."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import DBAPIError

from db import audit
from db.audit import Filter
from db.models import AuditEvent
from db.types import utcnow


def test_an_entry_says_who_did_what_to_what_from_where_and_how_it_ended(database):
    with database.write() as session:
        audit.record(
            session,
            "anna",
            "job.release",
            object_type="job",
            object_id=7,
            address="192.0.2.1",
            outcome="refused",
            detail={"state": "done"},
        )
    with database.read() as session:
        entry = session.scalars(select(AuditEvent)).one()
    assert (entry.actor, entry.action, entry.object_type, entry.object_id) == (
        "anna",
        "job.release",
        "job",
        "7",
    )
    assert (entry.address, entry.outcome, entry.detail) == ("192.0.2.1", "refused", {"state": "done"})
    assert entry.at.tzinfo is not None


def test_an_entry_stands_or_falls_with_what_it_tells_of(database):
    with database.write() as session:
        audit.record(session, "anna", "job.retry")
        session.rollback()
    with database.read() as session:
        assert session.scalars(select(AuditEvent)).all() == []


@pytest.mark.parametrize(
    "change", [update(AuditEvent).values(actor="someone else"), delete(AuditEvent)], ids=str
)
def test_the_database_itself_refuses_to_change_or_remove_an_entry(database, change):
    with database.write() as session:
        audit.record(session, "anna", "login")
    with pytest.raises(DBAPIError, match="only added"), database.write() as session:
        session.execute(change)
    with database.read() as session:
        assert session.scalars(select(AuditEvent.actor)).all() == ["anna"]


@pytest.fixture
def trail(database):
    """Five entries of two people."""
    with database.write() as session:
        for actor, action, kind, number, outcome in (
            ("anna", "login", None, None, "success"),
            ("root", "user.add", "user", 3, "success"),
            ("anna", "job.retry", "job", 7, "success"),
            ("anna", "job.view", "job", 70, "success"),
            ("root", "login", None, None, "failure"),
        ):
            audit.record(session, actor, action, object_type=kind, object_id=number, outcome=outcome)


@pytest.mark.parametrize(
    ("wanted", "actions"),
    [
        (Filter(), ["login", "job.view", "job.retry", "user.add", "login"]),
        (Filter(actor="anna"), ["job.view", "job.retry", "login"]),
        (Filter(action="login"), ["login", "login"]),
        (Filter(action="job."), ["job.view", "job.retry"]),
        (Filter(object_type="job", object_id="7"), ["job.retry"]),
        (Filter(outcome="failure", action="login"), ["login"]),
        (Filter(until=utcnow() - timedelta(hours=1)), []),
        (Filter(since=utcnow() - timedelta(hours=1), actor="root"), ["login", "user.add"]),
    ],
)
def test_the_trail_is_read_by_what_its_entries_are_about(database, trail, wanted, actions):
    with database.read() as session:
        rows, more = audit.page(session, wanted)
    assert [row.action for row in rows] == actions
    assert more is None


def test_pages_of_the_trail_follow_each_other(database, trail):
    with database.read() as session:
        first, cursor = audit.page(session, Filter(), limit=2)
        second, cursor = audit.page(session, Filter(), limit=2, before=cursor)
        third, end = audit.page(session, Filter(), limit=2, before=cursor)
    assert [row.action for row in first + second + third] == [
        "login",
        "job.view",
        "job.retry",
        "user.add",
        "login",
    ]
    assert end is None


def test_everything_is_read_in_parts_and_what_comes_meanwhile_is_left_out(database, trail):
    found = []
    for row in audit.every(database, Filter(), at_once=2):
        with database.write() as session:
            audit.record(session, "late", "login")
        found.append(row.actor)
    assert found == ["root", "anna", "anna", "root", "anna"]


def test_what_was_searched_for_is_not_shown():
    assert audit.shown({"query": {"patient": "DOE"}, "role": "admin"}) == {"role": "admin"}


def test_the_actions_are_known_each_once(database, trail):
    with database.read() as session:
        assert audit.actions(session) == ["job.retry", "job.view", "login", "user.add"]
