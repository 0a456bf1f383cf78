"""A running job keeps its lease while it lives, and hears when it must end."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy.exc import OperationalError

from db import queue
from db.leases import CancelRequested, LeaseLost
from pacs_node.leasekeeper import LeaseKeeper, Stopping
from tests import dicom_variants as variants
from tests.pacs_node.clinic import open_clinic


@pytest.fixture
def clinic(tmp_path):
    with open_clinic(tmp_path) as clinic:
        yield clinic


@pytest.fixture
def lease(clinic):
    clinic.receive(variants.cr())
    with clinic.database.write() as session:
        return queue.claim(session, "me", 0.4)


def wait_for(keeper, error):
    """Until a sign of life raises `error`."""

    def work():
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            keeper.progress(0.5)
            time.sleep(0.02)

    with pytest.raises(error):
        work()


def test_the_lease_outlives_its_first_term_and_the_progress_is_told(clinic, lease):
    with LeaseKeeper(clinic.database, lease, 0.4, threading.Event()) as keeper:
        keeper.progress(0.25)
        time.sleep(1)
        job = clinic.job(lease.id)

    assert job.lease_expires_at > lease.expires_at
    assert job.progress == 0.25


def test_a_cancelled_job_hears_of_it(clinic, lease):
    with LeaseKeeper(clinic.database, lease, 0.4, threading.Event()) as keeper:
        with clinic.database.write() as session:
            queue.cancel(session, queue.get(session, lease.id), actor="person")
        wait_for(keeper, CancelRequested)


def test_a_job_that_another_took_hears_of_it(clinic, lease):
    with LeaseKeeper(clinic.database, lease, 0.4, threading.Event()) as keeper:
        with clinic.database.write() as session:
            job = queue.get(session, lease.id, lock=True)
            assert job is not None
            job.lease_token += 1
        wait_for(keeper, LeaseLost)


def test_a_worker_that_is_to_stop_hears_of_it_at_once(clinic, lease):
    stop = threading.Event()
    with LeaseKeeper(clinic.database, lease, 0.4, stop) as keeper:
        keeper.check()
        stop.set()
        with pytest.raises(Stopping):
            keeper.check()


def test_a_beat_that_the_database_does_not_take_is_tried_again(clinic, lease, monkeypatch):
    beats = []
    real = queue.heartbeat

    def failing_first(*args):
        beats.append(1)
        if len(beats) == 1:
            raise OperationalError("", {}, Exception("locked"))
        return real(*args)

    monkeypatch.setattr(queue, "heartbeat", failing_first)
    with LeaseKeeper(clinic.database, lease, 0.4, threading.Event()) as keeper:
        deadline = time.monotonic() + 10
        while len(beats) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        keeper.check()

    assert len(beats) >= 3
