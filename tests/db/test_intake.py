"""The one way in: what is accepted is durable, what is known makes no twin, what fails leaves nothing."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from db import queue
from db.intake import Arrival, Origin, QueueFull, intake
from db.models import Batch, Job, JobEvent, Source
from db.objects import StoreFull
from db.states import JobState, Priority, Purpose
from db.types import utcnow

MODALITY = Origin("dimse", ae_title="CR_ROOM_1", called_ae_title="CXR_SR", address="192.0.2.7")
PERSON = Origin("upload", actor="radiologist")


@pytest.fixture
def arrive(database, store):
    """Bring bytes to the door."""

    def act(content=b"one", origin=MODALITY, *, max_waiting=100, **known):
        file = store.spool / f"arrival-{threading.get_ident()}"
        file.write_bytes(content)
        return intake(
            database, store, Arrival(file, "application/dicom", **known), origin, max_waiting=max_waiting
        )

    return act


def objects(store):
    return list(store.keys(datetime.now(UTC) + timedelta(hours=1)))


def test_what_is_accepted_lies_in_the_store_and_waits_in_the_queue(database, store, arrive):
    accepted = arrive(
        b"one",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
        sop_instance_uid="1.2.3",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        priority=Priority.STAT,
        requested={"scale": 2},
    )
    assert not accepted.resend
    with database.read() as session:
        job = session.get_one(Job, accepted.job_id)
        assert (job.state, job.priority, job.requested) == (JobState.QUEUED, Priority.STAT, {"scale": 2})
        source = session.get_one(Source, accepted.source_id)
        assert source is job.source
        assert store.digest(source.object_key) == source.sha256
        assert (
            source.sop_instance_uid,
            source.origin_ae_title,
            source.origin_address,
            source.size_bytes,
        ) == (
            "1.2.3",
            "CR_ROOM_1",
            "192.0.2.7",
            3,
        )


def test_the_same_bytes_again_make_neither_a_second_source_nor_a_second_job(database, store, arrive):
    first, again = arrive(), arrive()
    assert (again.source_id, again.job_id, again.resend) == (first.source_id, first.job_id, True)
    assert len(objects(store)) == 1
    with database.read() as session:
        assert session.get_one(Source, first.source_id).times_received == 2
        assert [e.kind for e in session.scalars(select(JobEvent).order_by(JobEvent.id))] == [
            "state",
            "resend",
        ]


def test_the_same_picture_uploaded_for_another_patient_is_another_source(database, store, arrive):
    anna = arrive(origin=PERSON, purpose=Purpose.MANUAL, demographics={"PatientName": "A", "PatientID": "1"})
    bert = arrive(origin=PERSON, purpose=Purpose.MANUAL, demographics={"PatientName": "B", "PatientID": "2"})
    again = arrive(origin=PERSON, purpose=Purpose.MANUAL, demographics={"PatientID": "1", "PatientName": "A"})
    assert bert.source_id != anna.source_id
    assert not bert.resend
    assert (again.source_id, again.job_id) == (anna.source_id, anna.job_id)
    assert len(objects(store)) == 2


def test_other_bytes_are_another_source(arrive):
    assert arrive(b"one").source_id != arrive(b"two").source_id


def test_an_upload_that_asks_for_something_else_gets_a_job_of_its_own(database, arrive):
    first = arrive(origin=PERSON, purpose=Purpose.MANUAL, requested={"scale": 2})
    same = arrive(origin=PERSON, purpose=Purpose.MANUAL, requested={"scale": 2})
    other = arrive(origin=PERSON, purpose=Purpose.MANUAL, requested={"scale": 4})
    assert same.job_id == first.job_id
    assert other.job_id != first.job_id
    assert other.source_id == first.source_id


def test_an_upload_after_one_that_was_given_up_gets_a_new_job(database, arrive):
    first = arrive(origin=PERSON, purpose=Purpose.MANUAL)
    with database.write() as session:
        queue.cancel(session, session.get_one(Job, first.job_id), actor="admin")
    assert arrive(origin=PERSON, purpose=Purpose.MANUAL).job_id != first.job_id


def test_what_was_uploaded_before_is_still_enhanced_for_the_modality_that_sends_it(database, arrive):
    upload = arrive(origin=PERSON, purpose=Purpose.MANUAL)
    sent = arrive()
    assert sent.source_id == upload.source_id
    assert sent.job_id != upload.job_id
    with database.read() as session:
        assert session.get_one(Job, sent.job_id).purpose == Purpose.CLINICAL


def test_what_retention_has_taken_comes_back_with_a_new_job(database, store, arrive):
    first = arrive()
    with database.write() as session:
        source = session.get_one(Source, first.source_id)
        store.delete(source.object_key)
        source.deleted_at = utcnow()
    again = arrive()
    assert again.source_id == first.source_id
    assert again.job_id != first.job_id
    with database.read() as session:
        source = session.get_one(Source, first.source_id)
        assert source.deleted_at is None
        assert store.digest(source.object_key) == source.sha256


def test_a_full_queue_refuses_and_leaves_nothing(database, store, arrive):
    arrive(b"one", max_waiting=1)
    with pytest.raises(QueueFull, match="1 jobs are waiting already"):
        arrive(b"two", max_waiting=1)
    assert len(objects(store)) == 1


def test_a_full_store_refuses_and_leaves_no_row(database, store, arrive):
    store.reserve_bytes = 1 << 62
    with pytest.raises(StoreFull):
        arrive()
    with database.read() as session:
        assert session.scalars(select(Source)).all() == []


def test_a_database_that_fails_leaves_no_object(database, store, arrive):
    @event.listens_for(database.engine, "before_cursor_execute")
    def broken(_connection, _cursor, statement, _parameters, _context, _many):
        if statement.startswith("INSERT INTO job_event"):
            raise OperationalError("disk I/O error", None, Exception("disk I/O error"))

    with pytest.raises(OperationalError):
        arrive()
    event.remove(database.engine, "before_cursor_execute", broken)
    assert objects(store) == []
    with database.read() as session:
        assert session.scalars(select(Source)).all() == []
    assert not arrive().resend


def test_the_same_bytes_by_two_doors_at_once_are_one_source_and_one_job(database, store, arrive):
    ready = threading.Barrier(4)
    accepted, failed = [], []

    def door():
        try:
            ready.wait(10)
            accepted.append(arrive())
        except Exception as error:
            failed.append(error)

    doors = [threading.Thread(target=door) for _ in range(4)]
    for thread in doors:
        thread.start()
    for thread in doors:
        thread.join(60)
    assert failed == []
    assert len({one.source_id for one in accepted}) == len({one.job_id for one in accepted}) == 1
    assert sorted(one.resend for one in accepted) == [False, True, True, True]
    assert len(objects(store)) == 1


def test_jobs_that_come_together_are_a_batch(database, arrive):
    with database.write() as session:
        batch = Batch(name="night")
        session.add(batch)
        session.flush()
    accepted = arrive(batch_id=batch.id)
    with database.read() as session:
        assert session.get_one(Job, accepted.job_id).batch_id == batch.id


def test_text_that_the_engine_cannot_keep_is_cleaned_and_cut(database, arrive):
    accepted = arrive(
        file_name="a\0b\ud800" + "x" * 400, demographics={"PatientName": "DOE\0^J", "n": ["\0"]}
    )
    with database.read() as session:
        source = session.get_one(Source, accepted.source_id)
        assert source.file_name == "ab?" + "x" * 253
        assert source.demographics == {"PatientName": "DOE^J", "n": [""]}
