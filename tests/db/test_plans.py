"""How the databases answer what the pages ask of a long queue: by their indexes, whatever is asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from db import Database, browse, deliveries, queue, schema
from db.browse import Cursor, Search, Sort
from db.models import Base
from db.states import JobState, Priority
from db.types import utcnow
from tests.db.conftest import ENGINES
from tools import filling

LONG = ("job", "source", "patient", "study", "series", "result", "delivery", "job_event", "patient_word")
JOBS = {"sqlite": 3000, "postgresql": 30_000}
"""SQLite plans without looking at the rows; PostgreSQL by what its statistics say of them."""


@pytest.fixture(scope="module", params=ENGINES)
def long_queue(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """A database that many jobs have gone through."""
    name = str(request.param)
    if name == "sqlite":
        database = Database(f"sqlite:///{tmp_path_factory.mktemp('long') / 'cxr-sr.db'}")
        schema.upgrade(database)
    else:
        database = Database(request.getfixturevalue("_postgres_upgraded"))
        names = ", ".join(table for table in Base.metadata.tables if table != "installation")
        with database.write() as session:
            session.execute(text("SET LOCAL session_replication_role = replica"))  # the trail refuses it else
            session.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))
    filling.fill(database, JOBS[name])
    yield database
    database.close()


def scans(database: Database, ask: Any) -> list[str]:
    """The steps of the plans of what `ask` selects that read a long table from end to end."""
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "WITH", "SET")):
            asked.append((statement, values))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        with database.read() as session:
            ask(session)
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    assert asked
    found = []
    with database.engine.connect() as connection:
        for statement, values in asked:
            if statement.startswith("SET"):
                connection.exec_driver_sql(statement)
            elif database.sqlite:
                rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
                found += [row[-1] for row in rows if _long_scan(row[-1])]
            else:
                plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", values).scalar()
                found += _sequential((json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"])
    return found


def _long_scan(step: str) -> bool:
    """Whether a step of SQLite reads a long table (or its alias) from end to end."""
    match = re.match(r"SCAN (\w+?)(_\d+)?(?: |$)", step)
    return match is not None and match[1] in LONG


def _sequential(node: dict[str, Any]) -> list[str]:
    """Sequential scans of long tables in a plan of PostgreSQL."""
    here = []
    if node["Node Type"] == "Seq Scan" and node["Relation Name"] in LONG:
        here.append(f"{node['Node Type']} {node['Relation Name']} {node.get('Filter', '')}")
    return here + [scan for child in node.get("Plans", ()) for scan in _sequential(child)]


NOW = utcnow()
DAY = f"{NOW - timedelta(days=3):%Y%m%d}"
ASKED: dict[str, dict[str, Any]] = {
    "the first page": {},
    "a page far down": {"after": Cursor(500)},
    "oldest first": {"sort": Sort.OLDEST},
    "by priority": {"sort": Sort.PRIORITY},
    "by priority, further on": {"sort": Sort.PRIORITY, "after": Cursor(1007, 10)},
    "a large state": {"states": [JobState.DONE]},
    "a small state": {"states": [JobState.FAILED]},
    "an empty state": {"states": [JobState.RUNNING]},
    "the order of processing": {"states": [JobState.QUEUED], "sort": Sort.PRIORITY},
    "several states": {"states": [JobState.FAILED, JobState.DONE, JobState.SKIPPED]},
    "a name": {"search": Search(text="zimmermann")},
    "a name and a given name": {"search": Search(text="smith ada")},
    "the beginning of a name in a state": {"search": Search(text="zi"), "states": [JobState.DONE]},
    "nobody's name": {"search": Search(text="qqqq")},
    "a patient's ID": {"search": Search(patient="P100007")},
    "an accession number": {"search": Search(accession_number="A500123")},
    "a UID": {"search": Search(uid="1.2.826.9.77")},
    "study dates": {"search": Search(study_date_from=DAY)},
    "days of arrival": {
        "search": Search(received_from=NOW - timedelta(days=90), received_to=NOW - timedelta(days=89))
    },
    "a rare rule": {"search": Search(rule="portable")},
    "a rule and a state": {"search": Search(rule="frontal chest"), "states": [JobState.FAILED]},
    "a model": {"search": Search(model="srresnet")},
    "a rare destination": {"search": Search(destination="teaching")},
    "a priority": {"search": Search(priority=Priority.STAT)},
    "an origin": {"search": Search(origin_kind="upload")},
}


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED.keys())
def test_a_page_of_the_queue_reads_no_table_from_end_to_end(
    long_queue: Database, asked: dict[str, Any]
) -> None:
    assert scans(long_queue, lambda session: browse.jobs(session, **asked)) == []
    if "sort" not in asked and "after" not in asked:
        assert scans(long_queue, lambda session: browse.count(session, **asked)) == []


def test_a_name_that_many_have_is_met_by_walking_from_the_newest(
    long_queue: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("db.criteria.FEW", 10)
    with long_queue.read() as session:
        found = browse.jobs(session, search=Search(text="a")).jobs
    names = [job.source.series.study.patient.name for job in found if job.source.series]
    assert len(names) == 50
    assert all(re.search(r"(^|\^)A", name) for name in names)
    assert [job.id for job in found] == sorted((job.id for job in found), reverse=True)
    assert scans(long_queue, lambda session: browse.jobs(session, search=Search(text="a"))) == []


def test_a_job_with_its_story_is_found_by_its_keys(long_queue: Database) -> None:
    assert scans(long_queue, lambda session: browse.job(session, 77)) == []


def test_states_are_counted_in_their_index(long_queue: Database) -> None:
    if long_queue.sqlite:
        steps = scans(long_queue, browse.counts)
        assert [step.partition(" USING ")[2].split()[0] for step in steps] == ["COVERING"]
    with long_queue.read() as session:
        assert sum(browse.counts(session).values()) == JOBS["sqlite" if long_queue.sqlite else "postgresql"]


def test_work_is_looked_for_without_reading_what_is_done(long_queue: Database) -> None:
    assert scans(long_queue, queue.waiting) == []
    assert scans(long_queue, deliveries.due_destinations) == []
    with long_queue.write() as session:
        lease = queue.claim(session, "worker", 60)
        assert lease is not None
        assert queue.get(session, lease.id).priority == Priority.STAT
        session.rollback()
