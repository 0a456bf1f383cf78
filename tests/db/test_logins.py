"""What the trail knows of the last attempts to log in."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import event

from db import Database, audit, logins, schema
from db.types import utcnow

HERE = "192.0.2.1"


def note(
    database: Database, actor: str, address: str, outcome: str, *, ago: float = 0, action: str = "login"
):
    with database.write() as session:
        row = audit.record(session, actor, action, address=address, outcome=outcome)
        row.at = utcnow() - timedelta(seconds=ago)


def test_attempts_under_the_name_or_from_the_address_count_for_a_while(database):
    note(database, "anna", HERE, "failure", ago=301)
    note(database, "anna", HERE, "failure", ago=200)
    note(database, "anna", "198.51.100.7", "failure", ago=100)
    note(database, "unknown", HERE, "failure", ago=90)
    note(database, "anna", HERE, "throttled", ago=80)
    note(database, "anna", HERE, "success", ago=70, action="logout")
    note(database, "bert", "198.51.100.7", "failure", ago=60)
    note(database, "anna", HERE, "success", ago=50)
    with database.read() as session:
        found = logins.recent(session, name="anna", address=HERE, seconds=300)
    assert [(one.name, one.address == HERE, one.failed) for one in found] == [
        ("anna", True, False), ("unknown", True, True), ("anna", False, True), ("anna", True, True),
    ]  # fmt: skip
    assert [round(one.age, -1) for one in found] == [50, 90, 100, 200]


def test_a_login_of_years_ago_is_not_read_for_it(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'cxr-sr.db'}")
    schema.upgrade(database)
    plans = []

    def explain(connection, cursor, statement, values, *_):
        if statement.startswith("SELECT audit_event"):
            asked = connection.connection.cursor()
            plans.append(asked.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall())

    event.listen(database.engine, "before_cursor_execute", explain)
    with database.read() as session:
        logins.recent(session, name="anna", address=HERE, seconds=300)
    database.close()
    [plan] = plans
    assert "ix_audit_event_at" in str(plan)
