"""Notes that take a result back: to whom they go, and when they do not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from db import deliveries, queue
from db.models import Delivery
from db.states import DeliveryState, IllegalTransition, JobState
from db.types import utcnow
from tests.db import builders
from tests.db.builders import OTHER, PACS

D = DeliveryState


def notes(session, job) -> list[Delivery]:
    session.flush()
    session.refresh(job)
    return [delivery for delivery in job.deliveries if delivery.what == "note"]


def test_a_note_goes_where_the_result_has_arrived_and_nowhere_else(database):
    with database.write() as session:
        job = builders.finished(session, PACS, OTHER)
        lease = deliveries.claim(session, "sender", "pacs", 60)
        deliveries.stored(session, lease, 0, actor="sender")
        queue.retract(session, job, reason="blurred", actor="anna")
        assert [(n.destination_name, n.state) for n in notes(session, job)] == [("pacs", D.WAITING)]
        assert deliveries.due_destinations(session) == ["pacs"]
        lease = deliveries.claim(session, "sender", "pacs", 60)
        assert deliveries.stored(session, lease, 0, actor="sender").what == "note"
        assert job.state is JobState.RETRACTED
        assert deliveries.due_destinations(session) == []


def test_a_result_that_arrives_while_it_is_taken_back_is_followed_by_a_note(database):
    with database.write() as session:
        job, lease = builders.sending(session)
        queue.retract(session, job, reason="blurred", actor="anna")
        assert [(n.state, n.ask_first) for n in notes(session, job)] == [(D.WAITING, True)]
        deliveries.stored(session, lease, 0, actor="sender")
        assert [(n.state, n.ask_first) for n in notes(session, job)] == [(D.WAITING, False)]


def test_a_note_that_seemed_needless_goes_when_the_result_has_arrived_after_all(database):
    with database.write() as session:
        job, lease = builders.sending(session)
        queue.retract(session, job, reason="blurred", actor="anna")
        asking = deliveries.claim(session, "another", "pacs", 60)
        deliveries.needless(session, asking, "not there", actor="another")
        assert [n.state for n in notes(session, job)] == [D.CANCELLED]
        with pytest.raises(IllegalTransition):
            queue.retry(session, job, actor="anna")
        deliveries.stored(session, lease, 0, actor="sender")
        assert [n.state for n in notes(session, job)] == [D.WAITING]


@pytest.mark.parametrize("silent", [False, True])
def test_a_destination_that_may_have_the_result_is_asked_before_it_is_sent_a_note(database, silent):
    with database.write() as session:
        job, lease = builders.sending(session)
        if silent:
            deliveries.expire(session, utcnow() + timedelta(minutes=5))
        else:
            deliveries.retry_later(
                session, lease, "no answer", perhaps_there=True, base=1, longest=1, actor="sender"
            )
        queue.retract(session, job, reason="blurred", actor="anna")
        assert [n.ask_first for n in notes(session, job)] == [True]


def test_a_destination_that_could_not_be_reached_is_sent_no_note(database):
    with database.write() as session:
        job, lease = builders.sending(session)
        deliveries.retry_later(session, lease, "no route", base=1, longest=1, actor="sender")
        queue.retract(session, job, reason="blurred", actor="anna")
        assert notes(session, job) == []


def test_a_note_asks_for_no_commitment_and_expires_like_any_delivery(database):
    address = deliveries.Address("pacs", {"storage_commitment": True}, timedelta(hours=1))
    with database.write() as session:
        job = builders.finished(session, address)
        deliveries.stored(session, deliveries.claim(session, "sender", "pacs", 60), 0, actor="sender")
        queue.retract(session, job, reason="blurred", actor="anna")
        (note,) = notes(session, job)
        assert not note.commitment
        deliveries.expire(session, utcnow() + timedelta(hours=2))
        assert [n.state for n in notes(session, job)] == [D.EXPIRED]
        assert job.state is JobState.RETRACTED


def test_a_retry_sends_a_lost_note_again_and_only_that(database):
    with database.write() as session:
        job = builders.finished(session, PACS, OTHER)
        deliveries.stored(session, deliveries.claim(session, "sender", "pacs", 60), 0, actor="sender")
        queue.retract(session, job, reason="blurred", actor="anna")
        with pytest.raises(IllegalTransition):
            queue.retry(session, job, actor="anna")
        lease = deliveries.claim(session, "sender", "pacs", 60)
        deliveries.fail(session, lease, "SOP class not supported", actor="sender")
        queue.retry(session, job, actor="anna")
        states = {(d.what, d.destination_name): d.state for d in job.deliveries}
        assert states[("note", "pacs")] is D.WAITING
        assert states[("result", "other")] is D.CANCELLED
        assert job.state is JobState.RETRACTED


@pytest.mark.parametrize(("why", "code"), queue.RETRACTIONS.items())
def test_the_job_keeps_why_its_result_was_taken_back(database, why, code):
    with database.write() as session:
        job = builders.finished(session, PACS)
        queue.retract(session, job, reason="blurred", actor="anna", why=why)
        assert job.reason_code == code


def test_jobs_that_share_a_result_are_retracted_together(database):
    with database.write() as session:
        one = builders.finished(session, PACS)
        other = builders.finished(session, OTHER)
        other.result_id = one.result_id
        deliveries.stored(session, deliveries.claim(session, "sender", "other", 60), 0, actor="sender")
        session.flush()
        queue.retract(session, one, reason="blurred", actor="anna", why="safety")
        assert (one.state, other.state) == (JobState.RETRACTED, JobState.RETRACTED)
        assert other.reason_code == "retracted-safety"
        assert [n.destination_name for n in notes(session, other)] == ["other"]
        assert notes(session, one) == []
