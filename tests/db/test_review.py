from __future__ import annotations

import pytest

from db import queue, review
from db.states import DeliveryState, IllegalTransition, JobState, Priority
from tests.db import builders


def held(session, **more):
    return builders.finished(session, builders.PACS, review=True, **more)


def test_urgent_ones_come_first_then_the_oldest(database):
    with database.write() as session:
        assert review.following(session) is None
        first, second = held(session), held(session)
        urgent = held(session, priority=Priority.STAT)
        builders.finished(session)
        assert review.waiting(session) == 3
        assert review.following(session) == urgent.id
        assert review.following(session, urgent.id) == first.id
        assert review.following(session, first.id) == second.id
        assert review.following(session, second.id) == urgent.id


def test_one_that_was_decided_is_followed_by_the_next(database):
    with database.write() as session:
        first, second = held(session), held(session)
        queue.release(session, first, actor="anna")
        session.flush()
        assert review.following(session, first.id) == second.id
        assert review.following(session, 4_000_000) == second.id


def test_a_rejected_one_goes_nowhere_and_says_why(database):
    with database.write() as session:
        job = held(session)
        review.reject(session, job, reason="invented detail", actor="anna")
        assert (job.state, job.reason_code) == (JobState.CANCELLED, review.REJECTED)
        assert job.reason == "rejected: invented detail"
        assert builders.only_delivery(session, job).state == DeliveryState.CANCELLED
        assert review.following(session) is None
        queue.retry(session, job, actor="anna")
        assert job.state == JobState.HELD


@pytest.mark.parametrize("state", [JobState.DONE, JobState.QUEUED, JobState.CANCELLED])
def test_only_a_held_one_is_rejected(database, state):
    with database.write() as session:
        job = builders.job_in(session, state)
        with pytest.raises(IllegalTransition):
            review.reject(session, job, reason="bad", actor="anna")
