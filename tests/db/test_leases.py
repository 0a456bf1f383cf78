"""Waits between attempts."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from db import deliveries, queue
from db.leases import backoff, is_dead, owner_here
from db.models import Delivery, Job
from db.states import DeliveryState, JobState
from tests.db import builders


@pytest.mark.parametrize(("attempt", "ceiling"), [(1, 5), (2, 10), (3, 20), (8, 640), (9, 900), (500, 900)])
def test_the_wait_doubles_to_its_longest_and_lies_in_the_upper_half(attempt, ceiling):
    waits = [backoff(attempt, 5, 900, random.Random(seed)).total_seconds() for seed in range(200)]
    assert ceiling / 2 <= min(waits) < max(waits) <= ceiling
    assert max(waits) - min(waits) > ceiling / 4, "without jitter all would come back at once"


def owner_that_died(role: str) -> str:
    """The name of an owner whose process was here and is gone."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return owner_here(role).replace(f":{os.getpid()}:", f":{ended.pid}:")


def test_a_process_that_is_gone_is_known_to_be_dead_and_no_other():
    dead = owner_that_died("worker")
    assert is_dead(dead)
    assert not is_dead(owner_here("worker"))
    assert not is_dead(dead.replace("@", "@another-")), "nobody sees the processes of another machine"
    assert not is_dead("worker-7")
    assert not is_dead(None)
    assert len(owner_here("receiver")) <= 128, "the width of the column"


@pytest.mark.parametrize(
    ("attempts", "state", "code"),
    [(3, JobState.QUEUED, "worker-lost"), (1, JobState.FAILED, "worker-lost")],
)
def test_the_job_of_a_dead_worker_does_not_wait_until_its_lease_ends(database, attempts, state, code):
    [job_id] = builders.jobs(database, 1)
    with database.write() as session:
        assert queue.claim(session, owner_that_died("worker"), 3600) is not None
    with database.write() as session:
        assert queue.expire_leases(session, max_attempts=attempts) == 1
    with database.read() as session:
        job = session.get_one(Job, job_id)
        assert (job.state, job.reason_code, job.lease_owner) == (state, code, None)


def test_the_job_of_a_living_worker_stays_its_own(database):
    builders.jobs(database, 1)
    with database.write() as session:
        assert queue.claim(session, owner_here("worker"), 3600) is not None
        assert queue.expire_leases(session, max_attempts=3) == 0


def test_the_delivery_of_a_dead_sender_does_not_wait_until_its_lease_ends(database):
    with database.write() as session:
        job = builders.finished(session, builders.PACS)
        assert deliveries.claim(session, owner_that_died("sender"), "pacs", 3600) is not None
    with database.write() as session:
        assert deliveries.expire(session) == 1
        delivery = builders.only_delivery(session, job)
        assert delivery.state == DeliveryState.WAITING
        assert delivery.perhaps_there, "it may have arrived before the sender died"
    with database.write() as session:
        assert deliveries.claim(session, owner_here("sender"), "pacs", 3600) is not None
        assert deliveries.expire(session) == 0
        assert session.query(Delivery).one().state == DeliveryState.SENDING
