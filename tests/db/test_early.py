"""What goes early when the disk is almost full, and what stays whatever the disk says."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from db import audit, deliveries, early, queue
from db.deliveries import Address
from db.exchange import CommitmentRequest
from db.models import AuditEvent, Job, JobEvent
from db.states import JobState
from db.types import utcnow
from tests.db import builders
from tests.db.test_retention import age, labelled

COMMITTING = Address("pacs", {"storage_commitment": True})
DAY = timedelta(days=1)


@pytest.fixture
def filed(store):
    """An object of some bytes in the store; returns its key."""

    def put(kind="sources"):
        file = store.spool / "arrival"
        file.write_bytes(b"x" * 100)
        return store.put(file, kind).key

    return put


@pytest.fixture
def delivered(database, filed):
    """A function that makes a job whose result has arrived, with objects; returns its id."""

    def make(address: Address = builders.PACS) -> int:
        with database.write() as session:
            job, lease = builders.sending(session, address)
            job.source.object_key, job.source.preview_key = filed(), filed("previews")
            job.result.object_key, job.result.preview_key = filed("results"), filed("previews")
            deliveries.stored(session, lease, 0, actor="sender")
            return job.id

    return make


def clear(database, store, enough=lambda: False, before=None):
    return early.make_room(database, store, before=before or utcnow() - DAY, enough=enough)


def objects(store):
    return sorted(p for p in store.root.rglob("*") if p.is_file())


def test_what_has_arrived_goes_with_its_previews_and_says_so(database, store, delivered):
    job_id = delivered()
    with database.write() as session:
        labelled(session, session.get_one(Job, job_id), "labelled/00/" + "0" * 32)
        age(session, 2 * DAY)
    done = clear(database, store)
    assert (done.sources, done.results) == (1, 1)
    assert objects(store) == []
    with database.read() as session:
        job = session.get_one(Job, job_id)
        assert job.state is JobState.DONE
        assert job.source.deleted_at is not None
        assert job.result.deleted_at is not None
        said = session.scalars(
            select(JobEvent.message).where(JobEvent.job_id == job_id, JobEvent.kind == "purged-early")
        )
        assert sorted(said) == [
            f"the {what} was removed before its time: the disk was almost full"
            for what in ("result", "source")
        ]
        (told,) = audit.page(session, audit.Filter(action=early.ACTION))[0]
        assert (told.detail["sources"], told.detail["results"]) == (1, 1)


def test_the_oldest_go_first_and_no_more_than_needed(database, store, delivered):
    jobs = [delivered() for _ in range(25)]
    with database.write() as session:
        age(session, 2 * DAY)
    looks = iter([False, True])
    done = clear(database, store, enough=lambda: next(looks))
    assert (done.sources, done.results) == (10, 10)
    with database.read() as session:
        left = [job.id for job in session.scalars(select(Job)) if job.source.deleted_at is None]
    assert left == jobs[10:]
    assert not clear(database, store, enough=lambda: True)


def test_what_finished_lately_stays(database, store, delivered):
    delivered()
    with database.write() as session:
        age(session, timedelta(hours=23))
    assert not clear(database, store)


@pytest.mark.parametrize("state", ["queued", "running", "held", "delivering", "failed", "done"])
def test_what_a_promise_or_a_person_needs_stays(database, store, state):
    """`done` is one with nowhere to go: its result is nowhere else."""
    with database.write() as session:
        builders.job_in(session, JobState(state))
        age(session, 90 * DAY)
    assert not clear(database, store)


def test_a_job_whose_delivery_failed_keeps_its_result_and_its_source(database, store):
    with database.write() as session:
        _job, lease = builders.sending(session)
        deliveries.fail(session, lease, "refused", actor="sender")
        age(session, 90 * DAY)
    assert not clear(database, store)


def test_an_awaited_commitment_keeps_what_it_is_about(database, store, delivered):
    delivered(COMMITTING)
    with database.write() as session:
        age(session, 90 * DAY)
    done = clear(database, store)
    assert done.results == 0


def test_sources_stay_while_somebody_waits_for_our_own_promise(database, store, delivered):
    delivered()
    with database.write() as session:
        session.add(
            CommitmentRequest(
                transaction_uid="1.2", calling_ae_title="MODALITY", called_ae_title="CXR_SR", address="::1",
                instances=[], expires_at=utcnow() + DAY,
            )
        )  # fmt: skip
        age(session, 90 * DAY)
    assert (clear(database, store).sources, len(objects(store))) == (0, 2)


def test_a_skipped_image_goes_and_a_retried_one_stays(database, store, filed):
    with database.write() as session:
        jobs = [builders.job_in(session, JobState.SKIPPED) for _ in range(2)]
        for job in jobs:
            job.source.object_key = filed()
        age(session, 2 * DAY)
        queue.retry(session, jobs[1], actor="anna")
    assert clear(database, store).sources == 1
    with database.read() as session:
        gone = [session.get_one(Job, job.id).source.deleted_at is not None for job in jobs]
        assert gone == [True, False]
        assert session.scalar(select(AuditEvent.id).where(AuditEvent.action == early.ACTION)) is not None
