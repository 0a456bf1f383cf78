from __future__ import annotations

import pytest

from db import deliveries, queue, sending
from db.picks import NotPicked
from db.states import DeliveryState, IllegalTransition, JobState
from db.types import utcnow
from tests.db import builders


def test_a_done_result_can_be_sent_somewhere_else(database):
    with database.write() as session:
        job = builders.finished(session)
        sending.send(session, job, builders.OTHER, actor="radiologist")
        assert job.state == JobState.DELIVERING
        lease = deliveries.claim(session, "sender", "other", 60)
        assert lease is not None
        deliveries.stored(session, lease, 0, actor="sender")
        assert job.state == JobState.DONE
        session.flush()
        session.expire_all()
        with pytest.raises(IllegalTransition, match="other has it already"):
            sending.send(session, job, builders.OTHER, actor="radiologist")


def test_two_destinations_are_added_one_after_the_other(database):
    with database.write() as session:
        job = builders.finished(session)
        sending.send(session, job, builders.PACS, actor="anna")
        sending.send(session, job, builders.OTHER, actor="anna")
        assert {d.destination_name for d in deliveries.of_job(session, job)} == {"pacs", "other"}
        with pytest.raises(IllegalTransition, match="on its way to pacs already"):
            sending.send(session, job, builders.PACS, actor="anna")


def test_a_destination_that_was_not_reached_is_tried_again_with_its_settings_of_today(database):
    with database.write() as session:
        delivery = builders.delivery_in(session, DeliveryState.FAILED)
        assert delivery.job.state == JobState.FAILED
        now = deliveries.Address("pacs", {"name": "pacs", "port": 11113})
        sending.send(session, delivery.job, now, actor="anna")
        assert delivery.job.state == JobState.DELIVERING
        assert (delivery.state, delivery.attempts) == (DeliveryState.WAITING, 0)
        assert delivery.destination["port"] == 11113


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (JobState.HELD, "it waits for release"),
        (JobState.QUEUED, "only a finished result"),
        (JobState.CANCELLED, "only a finished result"),
        (JobState.RETRACTED, "only a finished result"),
        (JobState.FAILED, "no result any more"),
    ],
)
def test_what_the_state_does_not_allow_is_said_so(database, state, why):
    with database.write() as session:
        job = builders.job_in(session, state)
        with pytest.raises(IllegalTransition, match=why):
            sending.send(session, job, builders.OTHER, actor="anna")


def test_a_result_that_retention_has_taken_goes_nowhere(database):
    with database.write() as session:
        job = builders.finished(session)
        assert job.result is not None
        job.result.deleted_at = utcnow()
        with pytest.raises(IllegalTransition, match="no result any more"):
            sending.send(session, job, builders.OTHER, actor="anna")


def test_a_picture_whose_patient_nobody_picked_is_not_sent(database):
    with database.write() as session:
        picture = builders.source(session, media_type="image/png", origin_kind="upload")
        job = builders.job(session, of=picture)
        queue.finish(session, builders.claim(session), builders.result(), [])
        with pytest.raises(NotPicked):
            sending.send(session, job, builders.OTHER, actor="anna")
        session.rollback()
