"""The job queue: who gets a job, how long, and what becomes of it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from db import deliveries, queue
from db.leases import CancelRequested, LeaseLost
from db.models import Delivery, Job, JobEvent, Result
from db.states import DeliveryState, IllegalTransition, JobState, Priority
from db.types import utcnow
from tests import peers
from tests.db import builders

PROCESSES, JOBS = 4, 100


@pytest.mark.slow
def test_four_processes_claim_every_job_exactly_once(database):
    ids = builders.jobs(database, PROCESSES * JOBS)
    claimers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.db.claimers", database.url, f"worker-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=peers.ROOT,
            text=True,
        )
        for number in range(PROCESSES)
    ]
    for claimer in claimers:
        assert claimer.stdout is not None
        assert claimer.stdout.readline() == "ready\n"
    for claimer in claimers:
        assert claimer.stdin is not None
        claimer.stdin.write("go\n")
        claimer.stdin.flush()
    said = [claimer.communicate(timeout=80)[0] for claimer in claimers]
    claimed = [line.split() for text in said for line in text.splitlines()]
    assert Counter(int(number) for number, _ in claimed) == Counter(ids)
    assert {token for _, token in claimed} == {"1"}
    assert [claimer.returncode for claimer in claimers] == [0] * PROCESSES
    assert sum(bool(text) for text in said) > 1, "one process took all"


def test_an_empty_queue_gives_nothing(database):
    with database.write() as session:
        assert queue.claim(session, "worker", 60) is None


def test_stat_goes_before_routine_before_bulk_and_older_before_newer(database):
    with database.write() as session:
        order = [Priority.BULK, Priority.ROUTINE, Priority.STAT, Priority.ROUTINE]
        ids = [builders.job(session, priority=priority).id for priority in order]
    with database.write() as session:
        got = [builders.claim(session).id for _ in order]
    assert got == [ids[2], ids[1], ids[3], ids[0]]


def test_a_claim_takes_the_job_under_a_lease_and_counts_the_attempt(database):
    [job_id] = builders.jobs(database, 1)
    with database.write() as session:
        lease = queue.claim(session, "worker-7", 60)
    with database.read() as session:
        job = session.get_one(Job, job_id)
        assert (job.state, job.lease_owner, job.attempts, job.lease_token) == ("running", "worker-7", 1, 1)
        assert lease is not None
        assert job.lease_expires_at == lease.expires_at
        assert job.started_at is not None
        assert builders.story(session, job_id) == [(None, "queued"), ("queued", "running")]


def test_a_job_that_must_wait_is_not_claimed_before_its_time(database):
    [job_id] = builders.jobs(database, 1)
    with database.write() as session:
        session.get_one(Job, job_id).not_before = utcnow() + timedelta(hours=1)
    with database.write() as session:
        assert queue.claim(session, "worker", 60) is None


def test_a_late_worker_is_fenced_off_and_changes_nothing(database):
    builders.jobs(database, 1)
    with database.write() as session:
        late = builders.claim(session, "late", seconds=-1)
    with database.write() as session:
        assert queue.expire_leases(session, max_attempts=3) == 1
    with database.write() as session:
        quick = builders.claim(session, "quick")
    assert quick.id == late.id
    assert quick.token > late.token
    for commit in (
        lambda session: queue.finish(session, late, builders.result(), []),
        lambda session: queue.fail(session, late, "code", "reason"),
        lambda session: queue.skip(session, late, "code", "reason"),
        lambda session: queue.heartbeat(session, late, 60),
        lambda session: queue.give_back(session, late),
        lambda session: queue.honour_cancel(session, late),
        lambda session: queue.retry_later(session, late, "c", "r", max_attempts=3, base=1, longest=2),
    ):
        with pytest.raises(LeaseLost), database.write() as session:
            commit(session)
    with database.write() as session:
        queue.finish(session, quick, builders.result(), [])
    with database.read() as session:
        assert session.get_one(Job, quick.id).state == JobState.DONE
        assert len(session.scalars(select(Result)).all()) == 1


def test_a_worker_that_gives_signs_of_life_keeps_its_job(database):
    builders.jobs(database, 1)
    with database.write() as session:
        lease = builders.claim(session, seconds=-1)
    with database.write() as session:
        kept = queue.heartbeat(session, lease, 60, progress=0.5)
        assert kept.token == lease.token
        assert kept.expires_at > utcnow()
    with database.write() as session:
        assert queue.expire_leases(session, max_attempts=3) == 0
        assert session.get_one(Job, lease.id).progress == 0.5


def test_the_job_of_a_silent_worker_goes_back_until_its_attempts_are_used_up(database):
    [job_id] = builders.jobs(database, 1)
    for attempt in (1, 2):
        with database.write() as session:
            builders.claim(session, "worker-9", seconds=-1)
            session.flush()
            assert queue.expire_leases(session, max_attempts=2) == 1
        with database.read() as session:
            job = session.get_one(Job, job_id)
            assert job.attempts == attempt
            assert job.lease_owner is None
    assert (job.state, job.reason_code) == (JobState.FAILED, "worker-lost")
    assert job.reason == "the worker worker-9 fell silent"
    assert job.finished_at is not None


def test_a_failed_attempt_waits_longer_each_time_and_then_is_a_dead_letter_with_its_reason(database):
    [job_id] = builders.jobs(database, 1)
    waits = []
    for _ in range(3):
        with database.write() as session:
            session.execute(update(Job).values(not_before=utcnow()))
            lease = builders.claim(session)
        with database.write() as session:
            queue.retry_later(session, lease, "decode", "no memory", max_attempts=3, base=10, longest=1000)
        with database.read() as session:
            job = session.get_one(Job, job_id)
            waits.append((job.not_before - utcnow()).total_seconds())
    assert 4 < waits[0] <= 10 < waits[1] + 0.5 <= 20.5
    assert (job.state, job.reason_code, job.reason) == (JobState.FAILED, "decode", "no memory")


def test_giving_a_job_back_costs_no_attempt(database):
    builders.jobs(database, 1)
    with database.write() as session:
        lease = builders.claim(session)
        job = queue.give_back(session, lease, actor="worker")
        assert (job.state, job.attempts) == (JobState.QUEUED, 0)
        again = builders.claim(session)
    assert again.token == lease.token + 1


def test_a_result_with_nowhere_to_go_is_done(database):
    with database.write() as session:
        job = builders.finished(session)
        assert (job.state, job.progress) == (JobState.DONE, 1.0)
        assert job.result is not None


def test_a_result_goes_on_its_way_when_it_has_addresses(database):
    with database.write() as session:
        job = builders.finished(session, builders.PACS, builders.OTHER)
        assert job.state == JobState.DELIVERING
        assert sorted(deliveries.due_destinations(session)) == ["other", "pacs"]


def test_a_held_result_is_not_due_before_someone_releases_it_and_does_not_age(database):
    with database.write() as session:
        job = builders.finished(session, builders.PACS, review=True)
        assert job.state == JobState.HELD
        session.execute(update(Delivery).values(expires_at=utcnow() - timedelta(days=1)))
        assert deliveries.due_destinations(session) == []
        assert deliveries.claim(session, "sender", "pacs", 60) is None
        assert deliveries.expire(session) == 0
        queue.release(session, job, actor="radiologist")
        assert job.state == JobState.DELIVERING
        assert job.released_at is not None
        assert deliveries.claim(session, "sender", "pacs", 60) is not None


def test_a_held_result_with_nowhere_to_go_is_done_when_released(database):
    with database.write() as session:
        job = builders.finished(session, review=True)
        queue.release(session, job, actor="radiologist")
        assert job.state == JobState.DONE


@pytest.mark.parametrize("state", [state for state in JobState if state != JobState.HELD])
def test_only_a_held_result_can_be_released(database, state):
    with database.write() as session:
        job = builders.job_in(session, state)
        with pytest.raises(IllegalTransition, match="only a held one can be released"):
            queue.release(session, job, actor="radiologist")


def test_a_queued_job_is_cancelled_at_once(database):
    with database.write() as session:
        job = builders.job(session)
        queue.cancel(session, job, actor="admin")
        assert (job.state, job.reason_code) == (JobState.CANCELLED, "cancelled")
        assert queue.claim(session, "worker", 60) is None


def test_a_running_job_is_cancelled_at_its_next_sign_of_life(database):
    [job_id] = builders.jobs(database, 1)
    with database.write() as session:
        lease = builders.claim(session)
    with database.write() as session:
        queue.cancel(session, session.get_one(Job, job_id), actor="admin")
        queue.cancel(session, session.get_one(Job, job_id), actor="admin")
    with pytest.raises(CancelRequested), database.write() as session:
        queue.heartbeat(session, lease, 60)
    with pytest.raises(CancelRequested), database.write() as session:
        queue.finish(session, lease, builders.result(), [])
    with database.write() as session:
        assert queue.honour_cancel(session, lease, actor="worker")
    with database.read() as session:
        job = session.get_one(Job, job_id)
        assert (job.state, job.cancel_requested, job.result) == (JobState.CANCELLED, False, None)
        asked = session.scalars(select(JobEvent).where(JobEvent.kind == "cancel-requested")).all()
        assert [event.actor for event in asked] == ["admin"]


def test_a_job_whose_worker_dies_before_it_hears_of_the_cancel_is_cancelled_by_the_sweep(database):
    [job_id] = builders.jobs(database, 1)
    with database.write() as session:
        builders.claim(session, seconds=-1)
    with database.write() as session:
        queue.cancel(session, session.get_one(Job, job_id), actor="admin")
    with database.write() as session:
        queue.expire_leases(session, max_attempts=3)
        assert session.get_one(Job, job_id).state == JobState.CANCELLED


def test_a_cancel_is_not_undone_by_a_retry_of_the_attempt(database):
    with database.write() as session:
        job = builders.job(session)
        lease = builders.claim(session)
        queue.cancel(session, job, actor="admin")
        queue.retry_later(session, lease, "code", "reason", max_attempts=3, base=1, longest=2)
        assert job.state == JobState.CANCELLED


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.SKIPPED, JobState.CANCELLED])
def test_a_job_without_a_result_starts_afresh_when_retried(database, state):
    with database.write() as session:
        job = builders.job_in(session, state)
        queue.retry(session, job, actor="admin")
        assert (job.state, job.attempts, job.reason, job.finished_at) == (JobState.QUEUED, 0, None, None)
        assert builders.claim(session).id == job.id


def test_a_stored_result_is_sent_again_not_made_again(database):
    with database.write() as session:
        job, lease = builders.sending(session)
        deliveries.fail(session, lease, "refused", actor="sender")
        assert job.state == JobState.FAILED
        result_id = job.result_id
        queue.retry(session, job, actor="admin")
        assert (job.state, job.result_id) == (JobState.DELIVERING, result_id)
        again = deliveries.claim(session, "sender", "pacs", 60)
        assert again is not None
        deliveries.stored(session, again, 0, actor="sender")
        assert job.state == JobState.DONE


def test_a_cancelled_delivery_run_is_taken_up_again_by_a_retry(database):
    with database.write() as session:
        job = builders.finished(session, builders.PACS)
        queue.cancel(session, job, actor="admin")
        assert builders.only_delivery(session, job).state == DeliveryState.CANCELLED
        queue.retry(session, job, actor="admin")
        assert job.state == JobState.DELIVERING
        assert deliveries.due_destinations(session) == ["pacs"]


def test_a_retry_does_not_lead_past_the_review(database):
    with database.write() as session:
        job = builders.finished(session, builders.PACS, review=True)
        queue.cancel(session, job, actor="admin")
        queue.retry(session, job, actor="admin")
        assert job.state == JobState.HELD
        assert deliveries.due_destinations(session) == []


def test_a_cancelled_result_with_nowhere_to_go_is_done_when_retried(database):
    with database.write() as session:
        job = builders.finished(session, builders.PACS)
        queue.cancel(session, job, actor="admin")
        session.execute(update(JobEvent).values(delivery_id=None))
        session.delete(builders.only_delivery(session, job))
        session.flush()
        session.expire_all()
        queue.retry(session, job, actor="admin")
        assert job.state == JobState.DONE


@pytest.mark.parametrize("state", set(JobState) - {"failed", "skipped", "cancelled"})
def test_what_runs_waits_or_is_done_cannot_be_retried(database, state):
    with database.write() as session:
        job = builders.job_in(session, state)
        with pytest.raises(IllegalTransition):
            queue.retry(session, job, actor="admin")
        assert job.state == state


def test_a_retry_says_so_when_retention_has_taken_the_source(database):
    with database.write() as session:
        job = builders.job_in(session, JobState.FAILED)
        job.source.deleted_at = utcnow()
        with pytest.raises(IllegalTransition, match="its source is no longer kept"):
            queue.retry(session, job, actor="admin")


def test_a_result_that_retention_has_taken_is_made_again_while_its_source_is_there(database):
    with database.write() as session:
        job, lease = builders.sending(session)
        deliveries.fail(session, lease, "refused", actor="sender")
        assert job.result is not None
        sop_uid, job.result.deleted_at = job.result.sop_instance_uid, utcnow()
        queue.retry(session, job, actor="admin")
        assert job.state == JobState.QUEUED
        again = builders.claim(session)
        new = builders.result(sop_instance_uid=sop_uid)
        queue.finish(session, again, new, [])
        assert job.result.object_key == new.object_key
        assert job.result.deleted_at is None


def test_two_jobs_that_make_the_same_object_share_one_result(database):
    with database.write() as session:
        first = builders.finished(session)
        builders.job(session)
        lease = builders.claim(session)
        assert first.result is not None
        twin = builders.result(sop_instance_uid=first.result.sop_instance_uid)
        second = queue.finish(session, lease, twin, [])
        assert second.result is first.result
        assert second.result.object_key != twin.object_key
        assert {job.id for job in first.result.jobs} == {first.id, second.id}


def test_the_plan_keeps_the_uids_of_an_earlier_attempt_at_the_same_thing(database):
    with database.write() as session:
        model, other = builders.model(session), builders.model(session)
        builders.job(session)
        lease = builders.claim(session)

        def plan(model, scale, uid):
            return queue.note_plan(
                session,
                lease,
                rule="default",
                scale=scale,
                model=model,
                result_series_uid=f"{uid}.1",
                result_sop_uid=uid,
            ).result_sop_uid

        assert plan(model, 4, "1.2.3") == "1.2.3"
        assert plan(model, 4, "1.2.4") == "1.2.3"
        assert plan(model, 2, "1.2.5") == "1.2.5"
        assert plan(other, 2, "1.2.6") == "1.2.6"


def test_a_retracted_result_takes_its_open_deliveries_along(database):
    with database.write() as session:
        job = builders.finished(session, builders.PACS)
        queue.retract(session, job, reason="wrong patient", actor="admin")
        assert (job.state, job.reason) == (JobState.RETRACTED, "wrong patient")
        assert builders.only_delivery(session, job).state == DeliveryState.CANCELLED


def test_a_job_without_a_result_has_nothing_to_retract(database):
    with database.write() as session:
        job = builders.job_in(session, JobState.FAILED)
        with pytest.raises(IllegalTransition, match="it has no result"):
            queue.retract(session, job, reason="why", actor="admin")


def test_a_person_sees_the_state_as_it_is_not_as_it_was_loaded(database):
    [job_id] = builders.jobs(database, 1)
    with database.read() as session:
        stale = session.get_one(Job, job_id)
    with database.write() as session:
        builders.claim(session)
    with database.write() as session:
        stale = session.merge(stale, load=False)
        assert stale.state == JobState.QUEUED
        queue.cancel(session, stale, actor="admin")
        assert (stale.state, stale.cancel_requested) == (JobState.RUNNING, True)


def test_the_length_of_the_queue_counts_only_what_waits(database):
    with database.write() as session:
        for state in set(JobState) - {JobState.QUEUED}:
            builders.job_in(session, state)
        for _ in range(2):
            builders.job(session)
        assert queue.waiting(session) == 2
