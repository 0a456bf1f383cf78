"""Following the events: in order, none skipped, none twice."""

from __future__ import annotations

import pytest
from sqlalchemy import insert, text

from db import Database, events
from db.feed import Feed
from db.models import JobEvent
from tests.db import builders


@pytest.fixture
def happen(database):
    """Record an event in a transaction of its own; returns its message."""
    [job_id] = builders.jobs(database, 1)

    def act(message):
        with database.write() as session:
            events.record(session, job_id, "note", message=message)
        return message

    return act


def messages(found):
    return [event.message for event in found]


def test_the_first_call_marks_the_present_and_later_ones_bring_what_is_new(database, happen):
    happen("before")
    feed = Feed(database, JobEvent)
    assert feed.after(None) == []
    expected = [happen("one"), happen("two")]
    assert messages(feed.after(None)) == expected
    assert feed.after(None) == []
    assert feed.after(feed.position) == []


def test_a_feed_can_begin_at_an_event_that_someone_saw_last(database, happen):
    happen("one")
    with database.read() as session:
        last = session.scalar(text("SELECT max(id) FROM job_event"))
    happen("two")
    assert messages(Feed(database, JobEvent).after(last)) == ["two"]


def test_one_who_comes_back_gets_what_was_missed_and_the_feed_goes_on(database, happen):
    feed = Feed(database, JobEvent)
    feed.after(None)
    happen("one")
    [one] = feed.after(None)
    happen("two")
    feed.after(None)
    happen("three")
    assert messages(feed.after(one.id)) == ["two"]
    assert messages(feed.after(None)) == ["three"]


def test_what_was_rolled_back_never_comes_and_holds_nothing_up_for_long(database, happen):
    now = [0.0]
    feed = Feed(database, JobEvent, clock=lambda: now[0])
    feed.after(None)
    with database.write() as session:
        events.record(session, 1, "note", message="lost")
        session.flush()
        session.rollback()
    happen("kept")
    found = messages(feed.after(None))
    now[0] = 1.0
    assert found + messages(feed.after(None)) == ["kept"]


def test_many_events_come_in_parts(database, happen):
    feed = Feed(database, JobEvent)
    feed.after(None)
    with database.write() as session:
        for number in range(1500):
            events.record(session, 1, "note", message=str(number))
    got = messages(feed.after(None)) + messages(feed.after(None))
    assert got == [str(number) for number in range(1500)]


def test_an_id_is_not_given_again_after_retention_took_the_newest_event(database, happen):
    feed = Feed(database, JobEvent)
    happen("old")
    feed.after(None)
    with database.write() as session:
        session.execute(text("DELETE FROM job_event"))
    happen("new")
    assert messages(feed.after(None)) == ["new"]


class TestOutOfOrder:
    """PostgreSQL: a transaction that took its id first and commits last."""

    @pytest.fixture
    def engine_name(self):
        return "postgresql"

    @pytest.fixture
    def slow(self, database: Database):
        """An open transaction that has recorded an event."""
        [job_id] = builders.jobs(database, 1)
        with database.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

            def record():
                connection.execute(insert(JobEvent).values(job_id=job_id, kind="note", message="slow"))
                return connection

            yield record
            connection.rollback()

    def test_a_later_event_waits_for_one_that_commits_late_and_both_come_in_order(
        self, database, happen, slow
    ):
        feed = Feed(database, JobEvent)
        feed.after(None)
        connection = slow()
        happen("quick")
        assert feed.after(None) == []
        connection.commit()
        assert messages(feed.after(None)) == ["slow", "quick"]

    def test_one_that_commits_very_late_is_not_skipped_but_comes_out_of_order(self, database, happen, slow):
        now = [0.0]
        feed = Feed(database, JobEvent, patience=5, clock=lambda: now[0])
        feed.after(None)
        connection = slow()
        happen("quick")
        assert feed.after(None) == []
        now[0] = 6.0
        assert messages(feed.after(None)) == ["quick"]
        happen("next")
        assert messages(feed.after(None)) == ["next"]
        connection.commit()
        assert messages(feed.after(None)) == ["slow"]
        assert feed.after(None) == []

    def test_one_that_was_open_before_the_feed_began_is_not_skipped(self, database, happen, slow):
        connection = slow()
        happen("quick")
        feed = Feed(database, JobEvent)
        assert feed.after(None) == []
        connection.commit()
        assert messages(feed.after(None)) == ["slow"]

    def test_an_id_whose_transaction_is_over_is_waited_for_no_longer(self, database, happen, slow):
        now = [0.0]
        feed = Feed(database, JobEvent, patience=1000, clock=lambda: now[0])
        feed.after(None)
        connection = slow()
        happen("quick")
        assert feed.after(None) == []
        connection.rollback()
        now[0] = 1.0
        assert messages(feed.after(None)) == ["quick"]
        assert not feed._gaps
