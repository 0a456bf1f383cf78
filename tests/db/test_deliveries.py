"""Deliveries: each to its own destination, until it arrives, expires or is cancelled."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from db import deliveries, promises, queue
from db.deliveries import Address
from db.leases import CancelRequested, LeaseLost
from db.models import Delivery, Job, JobEvent
from db.states import DeliveryState, IllegalTransition, JobState, Priority
from db.types import utcnow
from tests.db import builders
from tests.db.builders import OTHER, PACS


def test_a_delivery_carries_a_copy_of_its_destination(database):
    settings = {"name": "pacs", "port": 104, "storage_commitment": True}
    with database.write() as session:
        address = Address("pacs", settings, timedelta(hours=1))
        job = builders.finished(session, address, priority=Priority.STAT)
        delivery = builders.only_delivery(session, job)
        assert delivery.destination == settings
        assert delivery.commitment
        assert delivery.priority == Priority.STAT
        assert abs(delivery.expires_at - delivery.created_at - timedelta(hours=1)) < timedelta(seconds=1)


def test_a_dead_destination_delays_only_its_own_deliveries(database):
    with database.write() as session:
        jobs = [builders.finished(session, PACS, OTHER) for _ in range(3)]
        for _ in jobs:
            lease = deliveries.claim(session, "sender", "pacs", 60)
            assert lease is not None
            deliveries.retry_later(session, lease, "no route", base=100, longest=900, actor="sender")
        assert deliveries.due_destinations(session) == ["other"]
        for _ in jobs:
            lease = deliveries.claim(session, "sender", "other", 60)
            assert lease is not None
            deliveries.stored(session, lease, 0, actor="sender")
        assert {job.state for job in jobs} == {JobState.DELIVERING}
        assert deliveries.open_count(session, "pacs") == 3
        assert deliveries.open_count(session, "other") == 0


def test_attempts_never_end_a_delivery_they_only_make_it_wait_longer(database):
    with database.write() as session:
        job = builders.finished(session, PACS)
        for attempt in range(1, 40):
            session.execute(update(Delivery).values(not_before=utcnow()))
            lease = deliveries.claim(session, "sender", "pacs", 60)
            assert lease is not None
            delivery = deliveries.retry_later(
                session, lease, "busy", status_code=0xA700, base=5, longest=900, actor="sender"
            )
            assert (delivery.attempts, delivery.status_code, delivery.comment) == (attempt, 0xA700, "busy")
        assert 440 < (delivery.not_before - utcnow()).total_seconds() <= 900
        assert job.state == JobState.DELIVERING


def test_the_job_is_done_when_the_last_delivery_has_arrived(database):
    with database.write() as session:
        job = builders.finished(session, PACS, OTHER)
        for name, expected in (("pacs", JobState.DELIVERING), ("other", JobState.DONE)):
            lease = deliveries.claim(session, "sender", name, 60)
            assert lease is not None
            delivery = deliveries.stored(session, lease, 0xB000, "coerced", actor="sender")
            assert (delivery.state, delivery.status_code, delivery.comment) == ("stored", 0xB000, "coerced")
            assert delivery.stored_at is not None
            assert job.state == expected


def test_the_job_fails_with_the_reason_when_one_destination_refuses_and_the_rest_have_it(database):
    with database.write() as session:
        job = builders.finished(session, PACS, OTHER)
        lease = deliveries.claim(session, "sender", "pacs", 60)
        assert lease is not None
        deliveries.fail(session, lease, "0122 SOP class not supported", status_code=0x0122, actor="sender")
        assert job.state == JobState.DELIVERING
        lease = deliveries.claim(session, "sender", "other", 60)
        assert lease is not None
        deliveries.stored(session, lease, 0, actor="sender")
        assert (job.state, job.reason_code) == (JobState.FAILED, "delivery")
        assert job.reason == "not delivered to pacs: 0122 SOP class not supported"


def test_two_senders_that_finish_at_once_still_finish_the_job(database):
    with database.write() as session:
        job_id = builders.finished(session, PACS, OTHER).id
    with database.write() as session:
        leases = [deliveries.claim(session, "sender", name, 60) for name in ("pacs", "other")]
    both = threading.Barrier(2)
    failed: list[Exception] = []

    def arrive(lease):
        try:
            both.wait(10)
            with database.write() as session:
                deliveries.stored(session, lease, 0, actor="sender")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=arrive, args=(lease,)) for lease in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failed == []
    with database.read() as session:
        assert session.get_one(Job, job_id).state == JobState.DONE


def test_cancelling_while_senders_work_ends_without_a_deadlock(database):
    with database.write() as session:
        ids = [builders.finished(session, PACS, OTHER).id for _ in range(20)]
    failed: list[Exception] = []

    def send(name):
        try:
            while True:
                with database.write() as session:
                    lease = deliveries.claim(session, name, name, 60)
                if lease is None:
                    return
                with database.write() as session:
                    deliveries.stored(session, lease, 0, actor=name)
        except Exception as error:
            failed.append(error)

    def cancel():
        for job_id in ids:
            try:
                with database.write() as session:
                    job = session.get_one(Job, job_id)
                    queue.cancel(session, job, actor="admin")
            except IllegalTransition:  # it was done already
                continue
            except Exception as error:
                failed.append(error)

    threads = [threading.Thread(target=send, args=(name,)) for name in ("pacs", "other")]
    threads.append(threading.Thread(target=cancel))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    with database.read() as session:
        states = set(session.scalars(select(Job.state)))
        assert states <= {JobState.DONE, JobState.CANCELLED}
        assert DeliveryState.SENDING not in set(session.scalars(select(Delivery.state)))


def test_an_undelivered_result_expires_and_the_job_says_why(database):
    with database.write() as session:
        job = builders.finished(session, PACS)
        lease = deliveries.claim(session, "sender", "pacs", 60)
        assert lease is not None
        deliveries.retry_later(session, lease, "connection refused", base=1, longest=1, actor="sender")
        assert deliveries.expire(session, utcnow() + timedelta(days=8)) == 1
        assert builders.only_delivery(session, job).state == DeliveryState.EXPIRED
        assert (job.state, job.reason) == (JobState.FAILED, "not delivered to pacs: connection refused")


def test_a_retry_gives_an_expired_delivery_its_whole_life_again(database):
    with database.write() as session:
        job = builders.finished(session, Address("pacs", {}, timedelta(hours=2)))
        for _ in range(3):
            deliveries.expire(session, utcnow() + timedelta(hours=3))
            queue.retry(session, job, actor="admin")
            delivery = builders.only_delivery(session, job)
            assert 7100 < (delivery.expires_at - utcnow()).total_seconds() <= 7200
            assert delivery.attempts == 0


def test_the_delivery_of_a_silent_sender_goes_back_to_the_queue(database):
    with database.write() as session:
        builders.finished(session, PACS)
        late = deliveries.claim(session, "sender", "pacs", -1)
        assert late is not None
        assert deliveries.expire(session) == 1
        quick = deliveries.claim(session, "sender", "pacs", 60)
        assert quick is not None
    for act in (
        lambda session: deliveries.stored(session, late, 0, actor="sender"),
        lambda session: deliveries.fail(session, late, "no", actor="sender"),
        lambda session: deliveries.heartbeat(session, late, 60),
        lambda session: deliveries.give_back(session, late, actor="sender"),
    ):
        with pytest.raises(LeaseLost), database.write() as session:
            act(session)


def test_a_sender_that_gives_signs_of_life_keeps_its_delivery(database):
    with database.write() as session:
        _, lease = builders.sending(session)
        kept = deliveries.heartbeat(session, lease, 600)
        assert kept.token == lease.token
        assert deliveries.expire(session, utcnow() + timedelta(seconds=300)) == 0


def test_giving_a_delivery_back_costs_no_attempt(database):
    with database.write() as session:
        job, lease = builders.sending(session)
        deliveries.give_back(session, lease, actor="sender")
        delivery = builders.only_delivery(session, job)
        assert (delivery.state, delivery.attempts) == (DeliveryState.WAITING, 0)


def test_what_was_cancelled_on_its_way_and_arrived_all_the_same_is_noted(database):
    with database.write() as session:
        job, lease = builders.sending(session)
        queue.cancel(session, job, actor="admin")
        with pytest.raises(CancelRequested):
            deliveries.heartbeat(session, lease, 60)
        with pytest.raises(CancelRequested):
            deliveries.fail(session, lease, "aborted", actor="sender")
        deliveries.stored(session, lease, 0, actor="sender")
        assert builders.only_delivery(session, job).state == DeliveryState.STORED
        assert job.state == JobState.CANCELLED
        queue.retract(session, job, reason="it must not stay there", actor="admin")


def test_a_done_job_is_committed_later(database):
    with database.write() as session:
        job, lease = builders.sending(session)
        deliveries.stored(session, lease, 0, actor="sender")
        assert job.state == JobState.DONE
        delivery = promises.committed(session, lease.id, actor="sender")
        assert (delivery.state, job.state) == (DeliveryState.COMMITTED, JobState.DONE)
        assert delivery.committed_at is not None
        with pytest.raises(IllegalTransition):
            promises.committed(session, lease.id, actor="sender")


def test_a_refused_commitment_sends_the_object_once_more(database):
    with database.write() as session:
        job, lease = builders.sending(session)
        deliveries.stored(session, lease, 0, actor="sender")
        promises.not_committed(session, lease.id, "no such object instance", actor="sender")
        assert job.state == JobState.DELIVERING
        again = deliveries.claim(session, "sender", "pacs", 60)
        assert again is not None
        deliveries.stored(session, again, 0, actor="sender")
        assert job.state == JobState.DONE


def test_a_refused_commitment_of_a_retracted_result_sends_nothing(database):
    with database.write() as session:
        job, lease = builders.sending(session)
        deliveries.stored(session, lease, 0, actor="sender")
        queue.retract(session, job, reason="wrong patient", actor="admin")
        delivery = promises.not_committed(session, lease.id, "no such object instance", actor="sender")
        assert (delivery.state, job.state) == (DeliveryState.FAILED, JobState.RETRACTED)
        assert deliveries.due_destinations(session) == []


def test_originals_and_results_are_deliveries_of_their_own(database):
    with database.write() as session:
        builders.job(session)
        lease = builders.claim(session)
        job = queue.finish(session, lease, builders.result(), [PACS], forward_original_to=[PACS])
        session.expire_all()
        sent = [(delivery.what, delivery.destination_name) for delivery in job.deliveries]
        assert sent == [("result", "pacs"), ("original", "pacs")]


def test_urgent_deliveries_go_first(database):
    with database.write() as session:
        slow = builders.finished(session, PACS, priority=Priority.BULK)
        quick = builders.finished(session, PACS, priority=Priority.STAT)
        order = []
        while (lease := deliveries.claim(session, "sender", "pacs", 60)) is not None:
            order.append(session.get_one(Delivery, lease.id).job_id)
        assert order == [quick.id, slow.id]


def test_each_step_of_a_delivery_is_an_event_that_names_the_destination(database):
    with database.write() as session:
        job, lease = builders.sending(session)
        deliveries.stored(session, lease, 0xB007, "data set does not match", actor="sender")
        query = select(JobEvent).where(JobEvent.job_id == job.id, JobEvent.kind == "delivery")
        steps = [
            (e.before, e.after, e.message, e.delivery_id)
            for e in session.scalars(query.order_by(JobEvent.id))
        ]
        assert steps == [
            (None, "waiting", "pacs", lease.id),
            ("waiting", "sending", "pacs", lease.id),
            ("sending", "stored", "pacs: data set does not match", lease.id),
        ]
