"""Changing a state: only as the tables allow, and never without an event."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from db.models import JobEvent
from db.states import (
    DELIVERY_TRANSITIONS,
    JOB_FINISHED,
    JOB_TRANSITIONS,
    DeliveryState,
    IllegalTransition,
    JobState,
)
from db.transitions import move_delivery, move_job
from tests.db import builders


@pytest.mark.parametrize("before", JobState)
def test_a_job_moves_as_its_table_says_with_one_event_and_no_other_way(database, before):
    for after in JobState:
        with database.write() as session:
            job = builders.job_in(session, before)
            count = _events(session, job.id)
            if after in JOB_TRANSITIONS[before]:
                move_job(session, job, after, code="code", reason="why", actor="me")
                session.flush()
                assert job.state == after
                assert (job.finished_at is not None) == (after in JOB_FINISHED)
                assert job.lease_owner is None
                assert builders.story(session, job.id)[-1] == (before.value, after.value)
                assert _events(session, job.id) == count + 1
            else:
                with pytest.raises(IllegalTransition):
                    move_job(session, job, after)
                assert job.state == before
                assert _events(session, job.id) == count
            session.rollback()


@pytest.mark.parametrize("before", DeliveryState)
def test_a_delivery_moves_as_its_table_says_with_one_event_and_no_other_way(database, before):
    for after in DeliveryState:
        with database.write() as session:
            delivery = builders.delivery_in(session, before)
            assert delivery.state == before
            count = _events(session, delivery.job_id)
            if after in DELIVERY_TRANSITIONS[before]:
                move_delivery(session, delivery, after, comment="why", actor="me")
                assert delivery.state == after
                assert _events(session, delivery.job_id) == count + 1
            else:
                with pytest.raises(IllegalTransition):
                    move_delivery(session, delivery, after)
                assert delivery.state == before
                assert _events(session, delivery.job_id) == count
            session.rollback()


def _events(session, job_id):
    session.flush()
    return session.scalar(select(func.count()).select_from(JobEvent).where(JobEvent.job_id == job_id))
