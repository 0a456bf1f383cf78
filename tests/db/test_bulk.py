"""The same change to many jobs."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from db import bulk, queue
from db.browse import Search
from db.bulk import Action
from db.models import AuditEvent, Job, JobEvent
from db.states import JobState, NotNow, Priority
from tests.db import builders


def state(database, number):
    with database.read() as session:
        return session.get_one(Job, number).state


def test_what_can_be_done_is_done_and_the_rest_is_told_with_its_reason(database):
    with database.write() as session:
        failed = builders.job_in(session, JobState.FAILED).id
        done = builders.job_in(session, JobState.DONE).id
    outcome = bulk.change(database, Action.RETRY, [failed, done, 999], actor="root", address="10.0.0.1")
    assert outcome.done == [failed]
    assert [(one.id, one.reason) for one in outcome.refused] == [
        (done, "the job is done and cannot become queued"),
        (999, "there is no such job"),
    ]
    assert state(database, failed) == JobState.QUEUED
    with database.read() as session:
        entries = session.scalars(select(AuditEvent).where(AuditEvent.action == "job.retry")).all()
        assert [(e.actor, e.object_id, e.address) for e in entries] == [("root", str(failed), "10.0.0.1")]


def test_a_refused_change_leaves_no_trace_of_what_it_began(database):
    with database.write() as session:
        job = builders.job_in(session, JobState.FAILED)
        job.cancel_requested = True
        job.source.deleted_at = job.created_at
    outcome = bulk.change(database, Action.RETRY, [job.id], actor="root")
    assert "no longer kept" in outcome.refused[0].reason
    with database.read() as session:
        assert session.get_one(Job, job.id).cancel_requested


def test_all_that_match_a_filter_are_changed_over_several_requests(database, monkeypatch):
    monkeypatch.setattr(bulk, "MOST", 4)
    monkeypatch.setattr(bulk, "_AT_ONCE", 2)
    upload = {"origin_kind": "upload"}
    with database.write() as session:
        mine = [builders.job(session, of=builders.source(session, **upload)).id for _ in range(6)]
        other = builders.job(session).id
    search, cursor = Search(origin_kind="upload"), None
    done: list[int] = []
    for expected in (4, 2):
        outcome = bulk.change_matching(database, Action.CANCEL, search=search, after=cursor, actor="root")
        assert len(outcome.done) == expected
        done, cursor = done + outcome.done, outcome.next_cursor
    assert cursor is None
    assert sorted(done) == mine
    assert state(database, other) == JobState.QUEUED
    assert all(state(database, number) == JobState.CANCELLED for number in mine)


def test_of_a_filter_only_jobs_that_the_action_is_for_are_taken(database):
    with database.write() as session:
        for each in (JobState.DONE, JobState.FAILED, JobState.CANCELLED):
            builders.job_in(session, each)
    outcome = bulk.change_matching(database, Action.RETRY, states=None, actor="root")
    assert (len(outcome.done), outcome.refused) == (2, [])
    none = bulk.change_matching(database, Action.RETRY, states=[JobState.DONE], actor="root")
    assert (none.done, none.refused) == ([], [])


def test_a_reprioritised_job_goes_first_and_says_who_wanted_it(database):
    first, second = builders.jobs(database, 2)
    outcome = bulk.change(database, Action.PRIORITY, [second], actor="ada", priority=Priority.STAT)
    assert outcome.done == [second]
    with database.write() as session:
        assert builders.claim(session).id == second
        event = session.scalars(select(JobEvent).where(JobEvent.kind == "priority")).one()
        assert (event.job_id, event.message, event.actor) == (second, "routine to stat", "ada")
    assert first != second


def test_a_rule_does_not_undo_the_priority_that_a_person_chose(database):
    with database.write() as session:
        chosen, other = builders.job(session), builders.job(session)
        queue.reprioritise(session, chosen, Priority.STAT, actor="ada")
        model = builders.model(session)
        for job in (chosen, other):
            lease = builders.claim(session)
            assert lease.id == job.id
            queue.note_plan(
                session, lease, rule="r", scale=2, model=model, result_series_uid=f"1.{job.id}",
                result_sop_uid=f"2.{job.id}", priority=Priority.BULK,
            )  # fmt: skip
        assert (chosen.priority, other.priority) == (Priority.STAT, Priority.BULK)


def test_deliveries_go_with_the_priority_of_their_job(database):
    with database.write() as session:
        job = builders.finished(session, builders.PACS)
        queue.reprioritise(session, job, Priority.STAT, actor="ada")
        session.flush()
        assert builders.only_delivery(session, job).priority == Priority.STAT


def test_the_priority_of_what_has_ended_stays(database):
    with database.write() as session:
        job = builders.job_in(session, JobState.DONE)
        with pytest.raises(NotNow, match="the job is done: its priority matters no more"):
            queue.reprioritise(session, job, Priority.STAT, actor="ada")
