"""Promises in the state: those that we ask for, those that are asked of us; on both engines."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db import commitment_requests, commitments, deliveries, queue, retention
from db.commitment_requests import Kept, Taken
from db.commitments import Refusal, Remedy
from db.deliveries import Address
from db.exchange import Commitment, CommitmentRequest
from db.models import Delivery, Job
from db.states import DeliveryState, JobState, Relation
from db.types import utcnow
from tests.db import builders

CR = "1.2.840.10008.5.1.4.1.1.1"
PACS = Address("pacs", {"name": "pacs", "storage_commitment": True, "commitment_hours": 2})
MISSING = Refusal(0x0112, "0x0112 No such object instance", Remedy.RESEND)
HOURS = timedelta(hours=1)


def stored(session: Session, *, what: str = "result", uid: str = "1.2") -> tuple[Job, Delivery]:
    """A delivery that has arrived and is to be promised."""
    source = builders.source(session, sop_class_uid=CR, sop_instance_uid=uid)
    job = builders.job(session, of=source)
    lease = builders.claim(session)
    originals, results = ([PACS], []) if what == "original" else ([], [PACS])
    queue.finish(session, lease, builders.result(), results, forward_original_to=originals)
    return job, arrive(session, job, uid)


def arrive(session: Session, job: Job, uid: str = "1.2") -> Delivery:
    """Send what is due and note that it is to be promised."""
    lease = deliveries.claim(session, "sender", "pacs", 60)
    assert lease is not None
    delivery = deliveries.stored(session, lease, 0, actor="sender")
    commitments.want(session, delivery, CR, uid)
    session.flush()
    return delivery


def ask(session: Session) -> Commitment:
    (row,) = commitments.claim(session, "pacs", 60)
    commitments.asked(session, row.id)
    return row


def answer(session: Session, row: Commitment, refusal: Refusal | None = None, **more: Any) -> bool:
    return commitments.answered(
        session, row.transaction_uid, {row.sop_instance_uid: refusal}, actor="pacs", **more
    )


def test_the_question_is_written_down_with_the_arrival_and_asked_once(database):
    with database.write() as session:
        stored(session)
        assert commitments.due_destinations(session) == ["pacs"]
        assert [row.state for row in commitments.claim(session, "pacs", 60)] == ["waiting"]
        assert commitments.claim(session, "pacs", 60) == [], "another sender asks something else"
        assert commitments.due_destinations(session) == []


def test_a_question_that_a_dead_sender_took_is_asked_by_another(database):
    with database.write() as session:
        stored(session)
        commitments.claim(session, "pacs", -1)
        assert len(commitments.claim(session, "pacs", 60)) == 1


def test_the_time_to_answer_begins_when_the_question_was_taken(database):
    with database.write() as session:
        stored(session)
        row = ask(session)
        assert 0 < (row.due_at - utcnow() - HOURS).total_seconds() <= 3600
        assert commitments.expire(session, now=utcnow() + HOURS) == 0
        assert commitments.expire(session, now=utcnow() + 3 * HOURS) == 1
        assert commitments.expire(session, now=utcnow() + 3 * HOURS) == 0


def test_a_question_that_nobody_could_put_in_time_sends_the_object_again(database):
    with database.write() as session:
        job, delivery = stored(session)
        (row,) = commitments.claim(session, "pacs", 60)
        commitments.ask_later(session, row.id, "connection refused", base=1, longest=1)
        assert delivery.comment == "storage commitment is still to be asked for: connection refused"
        commitments.expire(session, now=utcnow() + 3 * HOURS)
        assert (delivery.state, job.state) == (DeliveryState.WAITING, JobState.DELIVERING)


def test_a_delivery_is_not_sent_and_asked_for_without_end(database):
    with database.write() as session:
        job, delivery = stored(session)
        for left in reversed(range(commitments.MOST_ROUNDS)):
            assert answer(session, ask(session), MISSING)
            if left:
                arrive(session, job)
        assert (delivery.state, job.state) == (DeliveryState.FAILED, JobState.FAILED)
        assert "0x0112 No such object instance" in (job.reason or "")
        queue.retry(session, job, actor="anna")
        arrive(session, job)
        answer(session, ask(session), MISSING)
        assert delivery.state == DeliveryState.WAITING, "a person's retry begins to count anew"


def test_an_archive_that_has_lost_the_object_gets_it_after_a_pause(database):
    with database.write() as session:
        stored(session)
        answer(session, ask(session), MISSING, pause=timedelta(minutes=15))
        assert deliveries.due_destinations(session) == []


def test_two_answers_at_once_are_one(database):
    with database.write() as session:
        stored(session)
        row = ask(session)
    both, failed = threading.Barrier(2), []

    def hear() -> None:
        try:
            both.wait(30)
            with database.write() as session:
                answer(session, row)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=hear) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    with database.read() as session:
        assert session.scalars(select(Delivery.state)).one() == DeliveryState.COMMITTED


def test_a_promise_after_a_resend_had_begun_counts_when_the_object_is_there(database):
    with database.write() as session:
        _, delivery = stored(session)
        late = ask(session)
        commitments.expire(session, now=utcnow() + 3 * HOURS)
        assert deliveries.claim(session, "sender", "pacs", 60) is not None
        assert answer(session, late)
        assert delivery.state == DeliveryState.SENDING, "it is on its way: that will be asked about"


def test_of_a_cancelled_job_nothing_is_sent_again(database):
    with database.write() as session:
        job, delivery = stored(session)
        row = ask(session)
        queue.retract(session, job, reason="wrong patient", actor="anna")
        commitments.expire(session, now=utcnow() + 3 * HOURS)
        assert (delivery.state, job.state) == (DeliveryState.FAILED, JobState.RETRACTED)
        assert row.state == "ended"


def test_a_destination_that_speaks_dicomweb_is_not_asked(database):
    web = Address("web", {"name": "web", "kind": "dicomweb", "storage_commitment": True})
    with database.write() as session:
        job = builders.finished(session, web)
        assert builders.only_delivery(session, job).commitment is False


def take(session: Session, *uids: str, transaction: str = "2.25.7") -> tuple[Taken, int]:
    return commitment_requests.take(
        session,
        transaction_uid=transaction,
        calling="MODALITY",
        called="CXR_SR",
        address="127.0.0.1",
        instances=[(CR, uid) for uid in uids],
        patience=HOURS,
    )


def test_a_request_is_one_however_often_it_comes(database):
    with database.write() as session:
        assert take(session, "1.2")[0] is Taken.NEW
        assert take(session, "1.2")[0] is Taken.AGAIN
        assert take(session, "1.3")[0] is Taken.CLASH
        assert take(session, "1.3", transaction="2.25.8")[0] is Taken.NEW
        assert commitment_requests.due_callers(session) == ["MODALITY"]


def test_a_request_that_was_answered_and_comes_again_is_answered_again(database):
    with database.write() as session:
        _, number = take(session, "1.2")
        assert commitment_requests.claim(session, "MODALITY", 60) is not None
        assert commitment_requests.claim(session, "MODALITY", 60) is None
        commitment_requests.answered(session, number)
        assert commitment_requests.due_callers(session) == []
        take(session, "1.2")
        again = commitment_requests.claim(session, "MODALITY", 60)
        assert again is not None
        assert (again.id, again.state) == (number, "waiting")


def test_a_request_is_looked_at_later_and_later(database):
    with database.write() as session:
        _, number = take(session, "1.2")
        commitment_requests.tell_later(session, number, "nobody there", base=100, longest=100)
        assert commitment_requests.due_callers(session) == []
        row = session.get_one(CommitmentRequest, number)
        assert (row.attempts, row.comment) == (1, "nobody there")


def test_only_an_archives_promise_of_the_original_is_a_yes(database):
    with database.write() as session:
        stored(session, what="original")
        assert commitment_requests.kept(session, CR, "1.2") is Kept.OPEN
        answer(session, ask(session))
        assert commitment_requests.kept(session, CR, "1.2") is Kept.PROMISED
        assert commitment_requests.kept(session, "1.9", "1.2") is Kept.CONFLICT
        assert commitment_requests.kept(session, CR, "1.3") is Kept.MISSING


def test_a_result_that_was_committed_promises_nothing_of_its_original(database):
    with database.write() as session:
        stored(session)
        answer(session, ask(session))
        assert commitment_requests.kept(session, CR, "1.2") is Kept.NEVER


@pytest.mark.parametrize("state", ["queued", "running"])
def test_what_is_still_to_be_examined_may_be_promised_yet(database, state):
    with database.write() as session:
        job = builders.job_in(session, JobState(state))
        job.source.sop_class_uid, job.source.sop_instance_uid = CR, "1.2"
        session.flush()
        assert commitment_requests.kept(session, CR, "1.2") is Kept.OPEN


def test_an_original_that_could_not_be_delivered_is_a_no(database):
    with database.write() as session:
        stored(session, what="original")
        answer(session, ask(session), Refusal(0x0122, "no", Remedy.GIVE_UP))
        assert commitment_requests.kept(session, CR, "1.2") is Kept.NEVER


def test_other_pixels_under_the_same_name_are_not_promised(database):
    with database.write() as session:
        stored(session, what="original")
        answer(session, ask(session))
        other = builders.source(session, sop_class_uid=CR, sop_instance_uid="1.2", relation=Relation.CONFLICT)
        assert commitment_requests.kept(session, CR, "1.2") is Kept.NEVER
        other.relation = Relation.RESEND
        session.flush()
        assert commitment_requests.kept(session, CR, "1.2") is Kept.PROMISED


def test_old_answers_and_requests_go_with_the_events_and_open_ones_stay(database, store):
    then = utcnow() - timedelta(days=400)
    with database.write() as session:
        stored(session)
        row = ask(session)
        answer(session, row)
        row.asked_at = then
        stored(session, uid="1.3")
        ask(session).asked_at = then
        for transaction in ("2.25.1", "2.25.2"):
            _, number = take(session, "1.2", transaction=transaction)
            session.get_one(CommitmentRequest, number).received_at = then
        commitment_requests.answered(session, number)
    before = utcnow() - timedelta(days=365)
    done = retention.purge(
        database, store, sources_before=before, results_before=before, events_before=before
    )
    assert done.leftovers == 2
    with database.read() as session:
        assert session.scalars(select(Commitment.state)).all() == ["asked"]
        assert session.scalars(select(CommitmentRequest.state)).all() == ["waiting"]
