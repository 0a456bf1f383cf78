"""Lines of the log that concern a job: kept in the background, and never at the cost of the work."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from db import joblog, retention
from db.desk import LogLine
from db.joblog import JobLog
from db.types import utcnow
from tests.db import builders


def kept(database, job):
    with database.read() as session:
        return joblog.lines(session, job)[0]


def test_lines_of_jobs_are_kept_with_their_values_and_others_are_not(database):
    [one, other] = builders.jobs(database, 2)
    with JobLog(database, "worker", every=0) as heard:
        heard(
            {
                "job": one,
                "event": "job enhanced",
                "level": "info",
                "role": "worker",
                "timestamp": "2026-01-02T03:04:05.5Z",
                "seconds": 1.5,
                "where": ["a:1", "b:2"],
                "odd": float("nan"),
                "_record": object(),
            }
        )
        heard({"event": "no job"})
        heard({"event": "not a number", "job": "seven"})
        heard({"event": "of another", "job": other})
        heard({"event": "of none that is there", "job": 99_999})
    [line] = kept(database, one)
    assert (line.event, line.level, line.role) == ("job enhanced", "info", "worker")
    assert line.at.isoformat() == "2026-01-02T03:04:05.500000+00:00"
    assert line.fields == {"seconds": 1.5, "where": "a:1, b:2", "odd": "nan"}
    assert [line.event for line in kept(database, other)] == ["of another"]
    with database.read() as session:
        assert len(session.scalars(select(LogLine)).all()) == 2


def test_a_line_is_there_soon_without_the_role_ending(database):
    [job] = builders.jobs(database, 1)
    with JobLog(database, "worker", every=0.01) as heard:
        heard({"event": "claimed", "job": job})
        deadline = time.monotonic() + 30
        while not kept(database, job) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert [line.event for line in kept(database, job)] == ["claimed"]


def test_a_page_of_lines_is_the_newest_and_goes_on_to_older_ones(database):
    [job] = builders.jobs(database, 1)
    with JobLog(database, "worker", every=0) as heard:
        for number in range(5):
            heard({"event": f"line {number}", "job": job})
    with database.read() as session:
        newest, before = joblog.lines(session, job, limit=2)
        older, rest = joblog.lines(session, job, limit=3, before=before)
    assert [line.event for line in newest] == ["line 3", "line 4"]
    assert [line.event for line in older] == ["line 0", "line 1", "line 2"]
    assert rest is None


class Broken:
    """A database that does not answer until it is mended."""

    def __init__(self, database):
        self.database, self.broken, self.tried = database, True, threading.Event()

    def write(self):
        if self.broken:
            self.tried.set()
            raise OperationalError("INSERT", {}, Exception("gone"))
        return self.database.write()


def test_lines_wait_for_a_database_that_comes_back(database):
    [job] = builders.jobs(database, 1)
    broken = Broken(database)
    with JobLog(broken, "worker", every=0.01) as heard:  # type: ignore[arg-type]
        heard({"event": "first", "job": job})
        assert broken.tried.wait(30)
        heard({"event": "second", "job": job})
        broken.broken = False
    assert [line.event for line in kept(database, job)] == ["first", "second"]
    assert heard.dropped == 0


def test_too_many_lines_cost_the_oldest_and_are_counted(database, monkeypatch):
    [job] = builders.jobs(database, 1)
    monkeypatch.setattr(joblog, "MAX_WAITING", 3)
    heard = JobLog(database, "worker", every=0)
    for number in range(5):
        heard({"event": f"line {number}", "job": job})
    assert heard.dropped == 2
    with heard:
        pass
    assert [line.event for line in kept(database, job)] == ["line 2", "line 3", "line 4"]


@pytest.mark.parametrize("age", [31, 1])
def test_lines_go_with_the_events_of_their_age(database, store, age):
    [job] = builders.jobs(database, 1)
    with JobLog(database, "worker", every=0) as heard:
        heard({"event": "claimed", "job": job})
    with database.write() as session:
        session.execute(update(LogLine).values(at=utcnow() - timedelta(days=age)))
    limit = utcnow() - timedelta(days=30)
    purged = retention.purge(database, store, sources_before=limit, results_before=limit, events_before=limit)
    assert purged.lines == (age > 30)
    assert len(kept(database, job)) == (age < 30)
