"""Whatever workers, senders, people and the clock do in whatever order: the state makes sense."""

from __future__ import annotations

import contextlib
import random
from datetime import timedelta

import pytest
from sqlalchemy import select

from db import deliveries, promises, queue, sending
from db.leases import LeaseLost
from db.models import Delivery, Job, JobEvent
from db.states import (
    DELIVERY_ARRIVED,
    DELIVERY_OPEN,
    JOB_FINISHED,
    DeliveryState,
    IllegalTransition,
    JobState,
)
from db.types import utcnow
from tests.db import builders

STEPS = 200
LATER = timedelta(days=30)


class House:
    """Everybody who changes the state, each step by lot; leases are tried beyond their end too."""

    def __init__(self, session, rng):
        self.session, self.rng = session, rng
        self.at_work, self.on_the_way = [], []

    def step(self):
        act = self.rng.choice(
            (
                *(self.arrive, self.work, self.work, self.finish, self.give_up, self.send, self.send),
                *(self.answer, self.person, self.commit, self.clock),
            )
        )
        with contextlib.suppress(IllegalTransition, LeaseLost):
            act()
        self.session.flush()

    def arrive(self):
        builders.job(self.session)

    def work(self):
        lease = queue.claim(self.session, "worker", self.rng.choice([-1, 60]))
        if lease is not None:
            self.at_work.append(lease)
            queue.held(self.session, lease).release = self.rng.choice(["auto", "review"])

    def finish(self):
        if self.at_work:
            lease = self.rng.choice(self.at_work)
            addresses = self.rng.sample([builders.PACS, builders.OTHER], self.rng.randrange(3))
            queue.finish(self.session, lease, builders.result(), addresses)

    def give_up(self):
        if self.at_work:
            lease = self.rng.choice(self.at_work)
            self.rng.choice(
                [
                    lambda: queue.fail(self.session, lease, "code", "reason"),
                    lambda: queue.skip(self.session, lease, "code", "reason"),
                    lambda: queue.give_back(self.session, lease),
                    lambda: queue.honour_cancel(self.session, lease),
                    lambda: queue.heartbeat(self.session, lease, 60),
                    lambda: queue.retry_later(
                        self.session, lease, "c", "r", max_attempts=2, base=1e-6, longest=1
                    ),
                ]
            )()

    def send(self):
        for name in deliveries.due_destinations(self.session):
            lease = deliveries.claim(self.session, "sender", name, self.rng.choice([-1, 60]))
            assert lease is not None
            self.on_the_way.append(lease)

    def answer(self):
        if self.on_the_way:
            lease = self.rng.choice(self.on_the_way)
            self.rng.choice(
                [
                    lambda: deliveries.stored(self.session, lease, 0, actor="sender"),
                    lambda: deliveries.fail(self.session, lease, "refused", actor="sender"),
                    lambda: deliveries.give_back(self.session, lease, actor="sender"),
                    lambda: deliveries.retry_later(
                        self.session, lease, "busy", base=1e-6, longest=1, actor="sender"
                    ),
                ]
            )()

    def commit(self):
        some = self.session.scalars(select(Delivery.id)).all()
        if some:
            number = self.rng.choice(some)
            if self.rng.random() < 0.5:
                promises.committed(self.session, number, actor="sender")
            else:
                promises.not_committed(self.session, number, "not there", actor="sender")

    def person(self):
        some = self.session.scalars(select(Job)).all()
        if some:
            job = self.rng.choice(some)
            self.rng.choice(
                [
                    lambda: queue.retry(self.session, job, actor="anna"),
                    lambda: queue.cancel(self.session, job, actor="anna"),
                    lambda: queue.release(self.session, job, actor="anna"),
                    lambda: queue.retract(self.session, job, reason="wrong", actor="anna"),
                    lambda: sending.send(self.session, job, builders.OTHER, actor="anna"),
                ]
            )()

    def clock(self):
        queue.expire_leases(self.session, max_attempts=2)
        deliveries.expire(self.session, utcnow() + self.rng.choice([timedelta(), LATER]))


def check(session):
    session.expire_all()
    events = session.scalars(select(JobEvent).order_by(JobEvent.id)).all()
    for job in session.scalars(select(Job)):
        states = [delivery.state for delivery in job.deliveries if delivery.what != "note"]
        notes = [delivery for delivery in job.deliveries if delivery.what == "note"]
        assert not notes or job.state == JobState.RETRACTED, "a note about a result that stands"
        is_open = any(state in DELIVERY_OPEN for state in states)
        assert (job.finished_at is not None) == (job.state in JOB_FINISHED)
        assert (job.lease_owner is not None) == (job.state == JobState.RUNNING)
        assert (job.state == JobState.DELIVERING) <= is_open, "it waits for nothing"
        assert is_open <= (job.state in {JobState.DELIVERING, JobState.HELD}), "nobody waits for it"
        if job.state == JobState.DONE:
            assert job.result is not None
            assert all(state in DELIVERY_ARRIVED for state in states)
        if job.state == JobState.HELD:
            assert (job.release, job.released_at) == ("review", None)
        if job.state in {JobState.FAILED, JobState.SKIPPED, JobState.CANCELLED, JobState.RETRACTED}:
            assert job.reason
        if job.release == "review" and job.released_at is None:
            assert not set(states) & (DELIVERY_ARRIVED | {DeliveryState.SENDING}), "it went out unseen"
        _told(job, [event for event in events if event.job_id == job.id and event.kind == "state"])
        for delivery in job.deliveries:
            assert (delivery.lease_owner is not None) == (delivery.state == DeliveryState.SENDING)
            _told(delivery, [event for event in events if event.delivery_id == delivery.id])


def _told(row, events):
    """The events are one unbroken story that ends in the state that is."""
    assert events[0].before is None
    assert [event.before for event in events[1:]] == [event.after for event in events[:-1]]
    assert events[-1].after == row.state


@pytest.mark.parametrize("seed", range(3))
def test_the_state_makes_sense_whatever_happens(database, seed):
    with database.write() as session:
        house = House(session, random.Random(seed))
        for number in range(STEPS):
            house.step()
            if number % 20 == 0:
                check(session)
        check(session)
        seen = set(session.scalars(select(JobEvent.after)))
        assert len(seen & set(JobState)) >= 7, "the walk went nowhere"
        session.rollback()
