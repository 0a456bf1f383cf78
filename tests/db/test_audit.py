"""The audit trail only grows."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import DBAPIError

from db import audit
from db.models import AuditEvent


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
