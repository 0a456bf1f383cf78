from __future__ import annotations

from datetime import timedelta

import pytest

from db import judgements, people, queue
from db.judgements import Filter, NotJudged, Rectangle
from db.states import JobState
from db.types import utcnow
from tests.db import builders


@pytest.fixture
def readers(database):
    with database.write() as session:
        return [
            people.add_user(session, name, "radiologist", "a long password").id for name in ("ada", "bob")
        ]


def judge(session, job, reader, verdict="good", **more):
    return judgements.put(session, job, user_id=reader, actor=f"reader {reader}", verdict=verdict, **more)


def modelled(session, name="srgan"):
    """A finished job that says which model made its result."""
    job = builders.job(session)
    lease = builders.claim(session)
    model = builders.model(session)
    model.name = name
    queue.note_plan(
        session, lease, rule="r", scale=2, model=model, result_series_uid="1", result_sop_uid=f"1.{job.id}"
    )
    return queue.finish(session, lease, builders.result(), [])


def test_a_reader_has_one_judgement_of_a_job_and_can_change_it(database, readers):
    with database.write() as session:
        job = builders.finished(session)
        judge(session, job, readers[0], "good", note="sharp", rectangle=Rectangle(0, 0, 4, 4))
        judge(session, job, readers[0], "invented", note="a rib twice")
        judge(session, job, readers[1])
        found = judgements.of_job(session, job.id)
        assert [(row.verdict, row.note, row.rectangle) for row in found] == [
            ("invented", "a rib twice", None),
            ("good", "", None),
        ]


def test_a_judgement_is_withdrawn_by_its_reader_alone(database, readers):
    with database.write() as session:
        job = builders.finished(session)
        judge(session, job, readers[0])
        assert not judgements.withdraw(session, job.id, readers[1])
        assert judgements.withdraw(session, job.id, readers[0])
        assert judgements.of_job(session, job.id) == []


@pytest.mark.parametrize("region", [(-1, 0, 2, 2), (0, 0, 5, 1), (3, 3, 1, 2), (0, 0, 0, 1)])
def test_a_rectangle_outside_of_the_result_is_refused(database, readers, region):
    with database.write() as session:
        job = builders.finished(session)
        with pytest.raises(NotJudged, match="4 × 4"):
            judge(session, job, readers[0], rectangle=Rectangle(*region))


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.FAILED, JobState.RETRACTED])
def test_there_must_be_a_result(database, readers, state):
    with database.write() as session:
        job = builders.job_in(session, state)
        with pytest.raises(NotJudged):
            judge(session, job, readers[0])


def test_what_was_judged_stays_known_when_the_job_is_done_anew(database, readers):
    with database.write() as session:
        job = modelled(session, "first")
        judge(session, job, readers[0], "bad")
        job.model_version_id, job.scale = builders.model(session).id, 4
        [found], _ = judgements.page(session, Filter())
        assert found.model is not None
        assert (found.model.name, found.judgement.scale) == ("first", 2)
        assert found.result.id == job.result_id


def test_they_are_filtered_by_verdict_model_and_time(database, readers):
    with database.write() as session:
        jobs = [modelled(session, name) for name in ("old", "new")]
        for job, verdict in zip(jobs, ("good", "bad"), strict=True):
            judge(session, job, readers[0], verdict)
        now = utcnow()

        def ids(**wanted):
            return [one.judgement.job_id for one in judgements.every(session, Filter(**wanted))]

        assert ids() == [jobs[1].id, jobs[0].id]
        assert ids(verdict="good") == [jobs[0].id]
        assert ids(model="new") == ids(model="new 1") == [jobs[1].id]
        assert ids(since=now + timedelta(hours=1)) == ids(until=now - timedelta(hours=1)) == []
        assert len(ids(since=now - timedelta(hours=1), until=now + timedelta(hours=1))) == 2
        assert [model.name for model in judgements.models(session)] == ["new", "old"]


def test_pages_follow_each_other_and_none_comes_twice(database, readers):
    with database.write() as session:
        for _ in range(5):
            judge(session, builders.finished(session), readers[0])
        seen, cursor = [], None
        while True:
            some, cursor = judgements.page(session, Filter(), limit=2, before=cursor)
            seen += [one.judgement.id for one in some]
            if cursor is None:
                break
        assert seen == sorted(set(seen), reverse=True)
        assert len(seen) == 5
