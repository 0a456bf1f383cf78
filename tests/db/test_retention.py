"""What is let go of, and what never is."""

from __future__ import annotations

import os
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from db import deliveries, judgements, people, promises, queue, retention, shares
from db.deliveries import Address
from db.desk import ShareLink
from db.exchange import LabelledResult, RejectionNote
from db.models import Command, Job, JobEvent, Result, RoleInstance, Source, WebSession
from db.retention import Purged
from db.states import JobState
from db.types import utcnow
from tests.db import builders

AGO = timedelta(days=31)
COMMITTING = Address("pacs", {"storage_commitment": True})


@pytest.fixture
def kept(store):
    """An object in the store; returns its key."""

    def put(kind="sources"):
        file = store.spool / "arrival"
        file.write_bytes(b"x")
        return store.put(file, kind).key

    return put


def purge(database, store, days=30.0):
    limit = utcnow() - timedelta(days=days)
    return retention.purge(database, store, sources_before=limit, results_before=limit, events_before=limit)


def age(session, by=AGO):
    """Let everything have happened long ago."""
    session.flush()
    then = utcnow() - by
    session.execute(update(Source).values(received_at=then, last_received_at=then))
    session.execute(update(Result).values(created_at=then))
    session.execute(update(Job).where(Job.finished_at.is_not(None)).values(finished_at=then))
    session.execute(update(JobEvent).values(at=then))


def lies(store, key):
    return (store.root / key).exists()


def test_old_finished_sources_and_results_lose_their_objects_and_keep_their_rows(database, store, kept):
    with database.write() as session:
        source = builders.source(session, object_key=kept(), preview_key=kept("previews"))
        job = builders.finished(session, of=source)
        assert job.result is not None
        job.result.object_key, job.result.preview_key = kept("results"), kept("previews")
        keys = [source.object_key, source.preview_key, job.result.object_key, job.result.preview_key]
        age(session)
    done = purge(database, store)
    assert (done.sources, done.results) == (1, 1)
    assert not any(lies(store, key) for key in keys if key)
    with database.read() as session:
        gone = session.scalars(select(Source)).one()
        assert gone.deleted_at is not None
        assert gone.preview_key is None
        assert session.scalars(select(Result.deleted_at)).one() is not None
        assert session.scalars(select(Job.state)).one() == JobState.DONE
    assert purge(database, store).sources == 0


def test_what_is_young_stays(database, store, kept):
    with database.write() as session:
        source = builders.source(session, object_key=kept())
        builders.finished(session, of=source)
        age(session, timedelta(days=29))
    assert purge(database, store) == Purged()
    assert lies(store, source.object_key)


@pytest.mark.parametrize("state", ["queued", "running", "held", "delivering"])
def test_what_an_open_job_needs_stays_however_old(database, store, kept, state):
    with database.write() as session:
        job = builders.job_in(session, JobState(state))
        job.source.object_key = kept()
        if job.result is not None:
            job.result.object_key = kept("results")
        age(session)
    assert purge(database, store) == Purged()
    assert lies(store, job.source.object_key)


def test_a_source_stays_while_one_of_its_jobs_is_open_or_young(database, store):
    with database.write() as session:
        source = builders.source(session)
        builders.finished(session, of=source)
        age(session)
        again = builders.job(session, of=source)
    assert purge(database, store).sources == 0
    with database.write() as session:
        queue.cancel(session, session.get_one(Job, again.id), actor="admin")
    assert purge(database, store).sources == 0


def test_a_result_stays_until_its_commitment_has_come(database, store):
    with database.write() as session:
        _, lease = builders.sending(session, COMMITTING)
        deliveries.stored(session, lease, 0, actor="sender")
        age(session)
    assert purge(database, store).results == 0
    with database.write() as session:
        promises.committed(session, lease.id, actor="sender")
        age(session)
    assert purge(database, store).results == 1


def labelled(session, job, key):
    row = LabelledResult(
        result_id=job.result_id, label="burned", object_key=key, sha256="0" * 64, size_bytes=1,
        sop_instance_uid="1.2.3", series_instance_uid="1.2.4",
    )  # fmt: skip
    session.add(row)
    return row


def note_of(session, job, key):
    row = RejectionNote(
        job_id=job.id, label="none", object_key=key, sha256="0" * 64, size_bytes=1,
        sop_instance_uid="1.2.5", series_instance_uid="1.2.6", created_at=utcnow() - AGO,
    )  # fmt: skip
    session.add(row)
    return row


def test_a_copy_with_a_label_goes_with_its_result_and_not_before(database, store, kept):
    with database.write() as session:
        job, lease = builders.sending(session, builders.PACS)
        job.result.object_key = kept("results")
        copy = labelled(session, job, kept("labelled"))
        age(session)
    purge(database, store)
    assert lies(store, copy.object_key)
    with database.write() as session:
        deliveries.stored(session, lease, 0, actor="sender")
        age(session)
    assert purge(database, store).results == 1
    assert not lies(store, copy.object_key)
    with database.read() as session:
        assert session.scalars(select(LabelledResult)).all() == []


def test_a_rejection_note_stays_until_it_has_arrived(database, store, kept):
    with database.write() as session:
        job, lease = builders.sending(session, builders.PACS)
        deliveries.stored(session, lease, 0, actor="sender")
        queue.retract(session, job, reason="blurred", actor="anna")
        note = note_of(session, job, kept("notes"))
        age(session)
    assert purge(database, store).notes == 0
    assert lies(store, note.object_key)
    with database.write() as session:
        on_its_way = deliveries.claim(session, "sender", "pacs", 60)
        deliveries.stored(session, on_its_way, 0, actor="sender")
    assert purge(database, store).notes == 1
    assert not lies(store, note.object_key)


def test_the_sweep_of_orphans_leaves_labelled_copies_and_notes(database, store, kept):
    with database.write() as session:
        job, lease = builders.sending(session, builders.PACS)
        deliveries.stored(session, lease, 0, actor="sender")
        queue.retract(session, job, reason="blurred", actor="anna")
        rows = [labelled(session, job, kept("labelled")), note_of(session, job, kept("notes"))]
    orphan = kept("notes")
    assert retention.sweep_orphans(database, store, utcnow() + timedelta(hours=1)) == 1
    assert not lies(store, orphan)
    assert all(lies(store, row.object_key) for row in rows)


def test_an_original_stays_until_it_has_arrived(database, store):
    with database.write() as session:
        builders.job(session)
        lease = builders.claim(session)
        queue.finish(session, lease, builders.result(), [], forward_original_to=[COMMITTING])
        sent = deliveries.claim(session, "sender", "pacs", 60)
        assert sent is not None
        age(session)
    assert purge(database, store).sources == 0
    with database.write() as session:
        deliveries.stored(session, sent, 0, actor="sender")
        age(session)
    done = purge(database, store)
    assert (done.sources, done.results) == (0, 1)


def test_a_result_that_two_jobs_share_stays_while_one_of_them_is_open(database, store):
    with database.write() as session:
        first = builders.finished(session)
        assert first.result is not None
        builders.job(session)
        lease = builders.claim(session)
        same = builders.result(sop_instance_uid=first.result.sop_instance_uid)
        second = queue.finish(session, lease, same, [builders.PACS])
        assert second.state == JobState.DELIVERING
        age(session)
    assert purge(database, store).results == 0


def test_the_story_of_an_open_job_stays_and_that_of_an_old_one_goes(database, store):
    with database.write() as session:
        old = builders.finished(session)
        builders.job(session)
        age(session)
    assert purge(database, store).events == 3
    with database.read() as session:
        assert old.id not in session.scalars(select(JobEvent.job_id)).all()


def test_ended_logins_answered_commands_and_dead_processes_go_with_the_events(database, store):
    then = utcnow() - AGO
    with database.write() as session:
        session.add(RoleInstance(id="x", role="worker", host="h", pid=1, beat_at=then))
        session.add(Command(role="sender", kind="echo", created_at=then))
        session.add(Command(role="sender", kind="echo"))
    assert purge(database, store).leftovers == 2
    with database.read() as session:
        assert session.scalars(select(WebSession)).all() == []
        assert len(session.scalars(select(Command)).all()) == 1


def test_a_judgement_outlives_its_result_and_a_link_does_not(database, store, kept):
    with database.write() as session:
        reader = people.add_user(session, "ada", "radiologist", "a long password").id
        job = builders.finished(session)
        assert job.result is not None
        job.result.object_key = kept("results")
        judgements.put(session, job, user_id=reader, actor="ada", verdict="bad")
        token, _ = shares.create(session, job, user_id=reader, life=timedelta(days=7))
        shares.create(session, job, user_id=reader, life=-timedelta(days=60))
        age(session)
    purge(database, store)
    with database.read() as session:
        [found], _ = judgements.page(session, judgements.Filter())
        assert found.judgement.verdict == "bad"
        [link] = session.scalars(select(ShareLink)).all()
        assert shares.find(session, token) is link
        assert shares.standing(session, link) == shares.Standing.GONE


def test_more_than_one_transaction_holds_is_purged_too(database, store, monkeypatch):
    monkeypatch.setattr(retention, "_AT_ONCE", 2)
    with database.write() as session:
        for _ in range(5):
            builders.finished(session)
        age(session)
    done = purge(database, store)
    assert (done.sources, done.results, done.events) == (5, 5, 15)


def test_orphans_are_swept_and_what_a_row_names_is_not(database, store, kept):
    with database.write() as session:
        source = builders.source(session, object_key=kept(), preview_key=kept("previews"))
        job = builders.finished(session, of=source)
        assert job.result is not None
        job.result.object_key = kept("results")
        named = [source.object_key, source.preview_key, job.result.object_key]
    orphan = kept()
    assert retention.sweep_orphans(database, store, utcnow() - timedelta(hours=1)) == 0
    assert retention.sweep_orphans(database, store, utcnow() + timedelta(hours=1)) == 1
    assert not lies(store, orphan)
    assert all(lies(store, key) for key in named if key)


def test_an_object_that_a_crash_left_after_its_row_let_go_is_swept(database, store, kept):
    with database.write() as session:
        source = builders.source(session, object_key=kept())
        source.deleted_at = utcnow()
    assert retention.sweep_orphans(database, store, utcnow() + timedelta(hours=1)) == 1
    assert not lies(store, source.object_key)


def test_the_spool_is_left_to_those_who_write_there(database, store):
    lock = store.spool / "dimse.lock"
    lock.touch()
    os.utime(lock, (0, 0))
    assert retention.sweep_orphans(database, store, utcnow()) == 0
    assert lock.exists()
