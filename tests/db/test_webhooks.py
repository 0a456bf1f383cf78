"""Addresses and calls as rows."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from db import queue, webhooks
from db.desk import WebhookCall
from db.models import JobEvent
from db.states import JobState
from db.types import utcnow
from db.webhooks import WebhookRefused
from tests.db import builders

ALL = list(webhooks.STATES)


def made(session, name="ris", states=ALL):
    return webhooks.create(session, name, f"https://{name}.example.org/hook", states, created_by=None)


def events(session):
    return list(session.scalars(select(JobEvent).order_by(JobEvent.id)))


def waiting(session):
    return list(session.scalars(select(WebhookCall).order_by(WebhookCall.id)))


@pytest.fixture
def noted(database):
    """Two addresses that are to hear of three failed jobs; the first is told of those alone that are done."""
    with database.write() as session:
        deaf, hook = made(session, "deaf", [JobState.DONE]), made(session)
    ids = builders.jobs(database, 3)
    for _ in ids:
        with database.write() as session:
            queue.fail(session, builders.claim(session), "decode", "it is broken", actor="worker")
    with database.write() as session:
        assert webhooks.note(session, events(session)) == 3
        assert webhooks.note(session, events(session)) == 0
    assert deaf.id != hook.id
    return hook.id


def test_calls_are_made_of_the_states_that_an_address_is_told(database, noted):
    with database.read() as session:
        assert [(call.webhook_id, call.job_state) for call in waiting(session)] == [(noted, "failed")] * 3
        assert webhooks.due(session) == [noted]


def test_calls_are_due_in_their_order_and_once(database, noted):
    seen = []
    while True:
        with database.write() as session:
            call = webhooks.next_due(session, noted)
            if call is None:
                break
            seen.append(call.id)
            webhooks.ended(session, call.id, 204)
    assert seen == sorted(seen)
    assert len(seen) == 3
    with database.read() as session:
        assert {(call.state, call.attempts, call.status_code) for call in waiting(session)} == {
            ("done", 1, 204)
        }
        assert webhooks.due(session) == []


def test_an_answer_that_is_no_success_puts_off_that_call_alone(database, noted):
    later = utcnow() + timedelta(minutes=1)
    with database.write() as session:
        first = webhooks.next_due(session, noted)
        webhooks.put_off(session, first, later, 500, "it answered HTTP 500")
    with database.read() as session:
        assert [call.not_before == later for call in waiting(session)] == [True, False, False]
        assert webhooks.next_due(session, noted).id != first.id


def test_nobody_there_puts_off_all_that_waits_for_that_address(database, noted):
    later = utcnow() + timedelta(minutes=1)
    with database.write() as session:
        webhooks.put_off(session, webhooks.next_due(session, noted), later, None, "it cannot be reached")
    with database.read() as session:
        assert webhooks.due(session) == []
        assert [call.attempts for call in waiting(session)] == [1, 0, 0]


def test_after_a_day_a_call_is_given_up(database, noted):
    with database.write() as session:
        call = webhooks.next_due(session, noted)
        webhooks.put_off(session, call, call.created_at + timedelta(hours=25), 500, "it answered HTTP 500")
        assert session.get_one(WebhookCall, call.id, populate_existing=True).state == "failed"
        session.execute(update(WebhookCall).values(created_at=utcnow() - timedelta(hours=25)))
    assert webhooks.expire(database) == 2
    assert webhooks.expire(database) == 0


def test_an_outcome_that_comes_late_changes_nothing(database, noted):
    with database.write() as session:
        call = webhooks.next_due(session, noted)
        hook = next(row for row in webhooks.listing(session) if row.id == noted)
        webhooks.disable(session, hook)
        webhooks.ended(session, call.id, 204)
    with database.read() as session:
        assert {(row.state, row.message) for row in waiting(session)} == {
            ("failed", "the webhook was switched off")
        }
    with database.write() as session:
        webhooks.remove(session, next(row for row in webhooks.listing(session) if row.id == noted))
        webhooks.ended(session, call.id, 204)
        assert waiting(session) == []


def test_there_is_an_end_to_addresses(database, monkeypatch):
    monkeypatch.setattr(webhooks, "MAX_WEBHOOKS", 2)
    with database.write() as session:
        made(session, "one")
        made(session, "two")
        with pytest.raises(WebhookRefused, match="already"):
            made(session, "three")
