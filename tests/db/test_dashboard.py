"""How the node stands: the oldest, the failed, the deliveries, what ends soon, and how it went."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, update

from db import dashboard, deliveries, people, queue, tallies
from db.models import Delivery, JobEvent, PeerStatus
from db.states import JobState, Priority
from db.types import utcnow
from tests.db import builders
from tests.db.builders import OTHER, PACS


def ago(**time: float):
    return utcnow() - timedelta(**time)


def entered_queue(session, job, at):
    session.execute(update(JobEvent).where(JobEvent.job_id == job.id).values(at=at))


def test_the_job_that_waits_longest_is_found_whatever_its_priority(database):
    with database.write() as session:
        first, second = builders.job(session), builders.job(session, priority=Priority.BULK)
        entered_queue(session, first, ago(minutes=5))
        entered_queue(session, second, ago(minutes=50))
    with database.read() as session:
        assert dashboard.oldest_waiting(session).job_id == second.id
        found = dashboard.oldest_waiting(session, (Priority.STAT, Priority.ROUTINE))
        assert (found.job_id, found.priority) == (first.id, Priority.ROUTINE)
        assert timedelta(minutes=4) < utcnow() - found.since < timedelta(minutes=6)


def test_a_job_that_is_retried_waits_since_its_retry(database):
    with database.write() as session:
        old = builders.job_in(session, JobState.FAILED)
        entered_queue(session, old, ago(days=30))
        queue.retry(session, old, actor="root")
        young = builders.job(session)
        entered_queue(session, young, ago(minutes=5))
    with database.read() as session:
        assert dashboard.oldest_waiting(session).job_id == young.id


def test_nothing_waits_where_nothing_is_queued(database):
    with database.write() as session:
        builders.job_in(session, JobState.DONE)
    with database.read() as session:
        assert dashboard.oldest_waiting(session) is None


def test_failures_are_grouped_by_reason_with_the_newest_sentence(database):
    with database.write() as session:
        for code, reason in (("decode", "no pixels"), ("decode", "cut short"), ("model", "NaN")):
            builders.job(session)
            queue.fail(session, builders.claim(session), code, reason)
        builders.job_in(session, JobState.SKIPPED)
    with database.read() as session:
        groups = [(g.code, g.count, g.sentence) for g in dashboard.failures(session)]
        assert groups == [("decode", 2, "cut short"), ("model", 1, "NaN")]
        first, second = dashboard.failed_jobs(session, "decode")
        assert dashboard.failed_jobs(session, "decode", after=first) == [second]
        assert dashboard.failed_jobs(session, "decode", limit=1) == [first]
        assert dashboard.failed_jobs(session, "") == []


def test_deliveries_are_told_by_destination(database):
    with database.write() as session:
        done, lease = builders.sending(session)
        deliveries.stored(session, lease, 0, actor="sender")
        builders.sending(session)
        _job, lease = builders.sending(session, OTHER)
        deliveries.fail(session, lease, "refused", actor="sender")
        waiting = builders.finished(session, PACS)
        builders.finished(session, PACS, review=True)  # waits for a person, not for the archive
        session.execute(
            update(Delivery).where(Delivery.job_id == waiting.id).values(created_at=ago(minutes=30))
        )
        session.add(PeerStatus(name="pacs", reachable=True, message="stored"))
    with database.read() as session:
        pacs, quiet, other = dashboard.traffic(session, ["pacs", "quiet"])
        stored = builders.only_delivery(session, done).stored_at
    assert (pacs.waiting, pacs.sending, pacs.failed, pacs.last_success_at) == (1, 1, 0, stored)
    assert timedelta(minutes=29) < utcnow() - pacs.oldest_at < timedelta(minutes=31)
    assert pacs.peer.reachable
    assert (quiet.destination, quiet.waiting, quiet.last_success_at, quiet.peer) == ("quiet", 0, None, None)
    assert (other.destination, other.failed, other.oldest_at) == ("other", 1, None)


def test_what_was_held_waits_from_its_release_on(database):
    with database.write() as session:
        held = builders.finished(session, PACS, review=True)
        session.execute(update(Delivery).values(created_at=ago(days=9)))
        queue.release(session, held, actor="ada")
    with database.read() as session:
        (pacs,) = dashboard.traffic(session, ["pacs"])
    assert pacs.waiting == 1
    assert utcnow() - pacs.oldest_at < timedelta(minutes=5)


def test_tokens_are_told_of_before_they_end_and_a_while_after(database):
    with database.write() as session:
        user = people.add_user(session, "ada", "admin", "a long password")
        ends = {"soon": 5, "later": 50, "over": -2, "forgotten": -20}
        for name, days in ends.items():
            _raw, token = people.create_token(session, user, name, days=1)
            token.expires_at = utcnow() + timedelta(days=days)
        _raw, token = people.create_token(session, user, "revoked", days=1)
        token.revoked_at = utcnow()
    with database.read() as session:
        found = dashboard.expiring_tokens(session, 21)
    assert [(token.name, token.user) for token in found] == [("over", "ada"), ("soon", "ada")]


def test_the_position_in_the_queue_goes_by_priority(database):
    with database.write() as session:
        first, second = builders.job(session), builders.job(session)
        stat = builders.job(session, priority=Priority.STAT)
        builders.job(session, priority=Priority.BULK)
    with database.read() as session:
        order = [dashboard.before_in_queue(session, job) for job in (stat, first, second)]
        assert order == [0, 1, 2]
        assert dashboard.unexamined(session) == 4


@pytest.mark.parametrize("name", list(dashboard.SPANS))
def test_a_span_shows_what_happened_in_equal_parts_up_to_now(database, name):
    span = dashboard.SPANS[name]
    with database.write() as session:
        builders.job_in(session, JobState.DONE)
        builders.job_in(session, JobState.FAILED)
    tallies.keep(database)
    now = utcnow()
    with database.read() as session:
        parts = dashboard.history(session, span, now).parts
    assert len(parts) == span.parts
    assert {b.at - a.at for a, b in itertools.pairwise(parts)} == {span.part}
    assert parts[-1].at <= now < parts[-1].at + span.part
    recent = parts[-2:]  # a minute may have ended meanwhile
    assert sum(part.done for part in recent) == sum(part.failed for part in recent) == 1
    assert sum(part.received for part in parts) == 2
    waits = [part.wait_longest for part in recent if part.wait_longest is not None]
    assert waits
    assert max(waits) < 60
    assert parts[0].wait_mean is None


PLANS: dict[str, Any] = {
    "ix_job_reason": dashboard.failures,
    "ix_delivery_claim": lambda session: dashboard.traffic(session, ["pacs"]),
    "ix_job_claim": dashboard.oldest_waiting,
}


def test_counting_reads_indexes_and_no_whole_table(database, engine_name):
    """The planner of a small table may choose otherwise, so SQLite is asked, which goes by its rules."""
    if engine_name != "sqlite":
        pytest.skip("PostgreSQL scans a table of a few rows whatever its indexes")
    seen: list[str] = []
    with database.read() as session:

        def explain(_connection, cursor, statement, parameters, _context, _many):
            if statement.startswith("SELECT"):
                plan = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
                seen.extend(row[-1] for row in plan.fetchall())

        event.listen(database.engine, "before_cursor_execute", explain)
        for ask in PLANS.values():
            ask(session)
        event.remove(database.engine, "before_cursor_execute", explain)
    scans = [line for line in seen if line.startswith("SCAN") and "CONSTANT" not in line]
    assert [line for line in scans if " job" in line or "delivery" in line] == []
    for index in PLANS:
        assert any(index in line for line in seen), index
