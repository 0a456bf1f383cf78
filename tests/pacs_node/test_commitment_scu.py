"""The promises that we ask of archives: asked, answered on either association, refused, never answered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from config import Destination
from db import commitments, queue
from db.exchange import Commitment
from db.models import Delivery, Job
from db.objects import LocalStore
from db.states import DeliveryState, JobState
from db.types import utcnow
from pacs_node import commitment, commitment_scu, scu, statuses
from tests import dicom_variants
from tests.pacs_node import nodes
from tests.pacs_node.archives import Promiser, on_the_same, promising
from tests.pacs_node.nodes import associated, eventually, make_database, make_object, make_settings, receiving
from tests.pacs_node.office import Office

S = DeliveryState
PROMISES = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104, storage_commitment=True)


@pytest.fixture
def office(tmp_path) -> Iterator[Callable[..., Office]]:
    opened: list[Office] = []

    def open_office(**options: Any) -> Office:
        options.setdefault("dicom", nodes.PATIENT)
        settings = make_settings(tmp_path / "node", **options)
        office = Office(settings, make_database(settings), LocalStore(settings.data_dir / "objects"))
        opened.append(office)
        return office

    yield open_office
    for one in opened:
        one.stop.set()
        one.sender.drain(30)
        one.database.close()


@pytest.fixture(autouse=True)
def short_linger(monkeypatch):
    monkeypatch.setattr(commitment_scu, "LINGER_SECONDS", 0.3)


@pytest.fixture
def receiver_port(tmp_path) -> Iterator[int]:
    """The port of a receiver on the same database that expects answers."""
    settings = make_settings(tmp_path / "node", dicom=nodes.PATIENT, destinations=(PROMISES,))
    with receiving(settings) as node:
        yield node.port


def questions(office: Office) -> list[Commitment]:
    with office.database.read() as session:
        return list(session.scalars(select(Commitment).order_by(Commitment.id)))


def delivery(office: Office) -> Delivery:
    (one,) = office.deliveries()
    return one


def asked(office: Office, times: int = 1) -> bool:
    return office.work(
        lambda: [q.state for q in questions(office)].count("asked") == 1 and len(questions(office)) == times
    )


def test_a_promise_on_the_same_association_commits_the_delivery(office):
    office = office()
    with promising(reply=on_the_same) as archive:
        job_id = office.post(make_object(), archive.destination)
        assert office.work(lambda: delivery(office).state == S.COMMITTED)
        assert eventually(lambda: archive.told == [0]), "an answer is owed"
        assert len(archive.stored) == len(archive.asked) == 1
    assert office.job(job_id).state == JobState.DONE
    assert delivery(office).committed_at is not None


def test_a_promise_on_a_new_association_commits_the_delivery(office, receiver_port):
    office = office()
    with promising() as archive:
        job_id = office.post(make_object(), archive.destination)
        assert asked(office)
        assert (delivery(office).state, office.job(job_id).state) == (S.STORED, JobState.DONE)
        assert archive.report(receiver_port, *archive.verdicts()) == statuses.SUCCESS
    assert delivery(office).state == S.COMMITTED


def test_an_archive_that_proposes_no_role_is_heard_too(office, receiver_port):
    office = office()
    with promising() as archive:
        office.post(make_object(), archive.destination)
        assert asked(office)
        assert archive.report(receiver_port, *archive.verdicts(), role=False) == statuses.SUCCESS
    assert delivery(office).state == S.COMMITTED


def test_the_same_answer_twice_changes_nothing_and_is_answered_twice(office, receiver_port):
    office = office()
    with promising() as archive:
        office.post(make_object(), archive.destination)
        assert asked(office)
        archive.report(receiver_port, *archive.verdicts())
        archive.report(receiver_port, *archive.verdicts())
        archive.report(receiver_port, *archive.verdicts(reason=0x0112))
        assert archive.told == [0, 0, 0]
    assert delivery(office).state == S.COMMITTED


def test_an_answer_about_a_transaction_that_we_do_not_know_is_answered(office, receiver_port):
    office = office()
    archive = Promiser()
    assert archive.report(receiver_port, "2.25.1", {(nodes.CR, "1.2.3"): None}) == statuses.INVALID_ARGUMENT


def test_an_answer_about_another_object_promises_nothing(office, receiver_port):
    office = office()
    with promising() as archive:
        office.post(make_object(), archive.destination)
        assert asked(office)
        transaction, _ = archive.verdicts()
        told = archive.report(receiver_port, transaction, {(nodes.CR, "1.2.3"): None})
        assert told == statuses.INVALID_ARGUMENT
    assert delivery(office).state == S.STORED


def test_a_missing_object_is_sent_again_and_asked_for_again(office, receiver_port):
    """The archive said success and does not have it: success is not archival."""
    office = office()
    with promising() as archive:
        job_id = office.post(make_object(), archive.destination)
        assert asked(office)
        archive.report(receiver_port, *archive.verdicts(reason=0x0112))
        assert delivery(office).state == S.WAITING
        assert delivery(office).comment.endswith("0x0112 No such object instance")
        assert office.job(job_id).state == JobState.DELIVERING
        assert asked(office, 2)
        assert archive.stored[0] == archive.stored[1]
        assert archive.asked[0][0] != archive.asked[1][0], "each question has a name of its own"
        archive.report(receiver_port, *archive.verdicts())
    assert (delivery(office).state, office.job(job_id).state) == (S.COMMITTED, JobState.DONE)


def test_an_archive_that_never_keeps_it_fails_the_job_with_the_reason(office, receiver_port):
    office = office(queue={"retry_max_seconds": 0.3})
    with promising() as archive:
        job_id = office.post(make_object(), archive.destination)
        for times in range(1, commitments.MOST_ROUNDS + 1):
            assert asked(office, times)
            archive.report(receiver_port, *archive.verdicts(reason=0x0112))
        assert len(archive.stored) == commitments.MOST_ROUNDS
    job = office.job(job_id)
    assert (delivery(office).state, job.state) == (S.FAILED, JobState.FAILED)
    assert job.reason == (
        "not delivered to pacs: stored, but storage commitment was not given: 0x0112 No such object instance"
    )


def test_a_refusal_that_will_not_change_fails_at_once_and_a_retry_begins_anew(office, receiver_port):
    office = office()
    with promising() as archive:
        job_id = office.post(make_object(), archive.destination)
        assert asked(office)
        archive.report(receiver_port, *archive.verdicts(reason=0x0122))
        assert delivery(office).state == S.FAILED
        assert office.job(job_id).reason.endswith("0x0122 Referenced SOP class not supported")
        with office.database.write() as session:
            queue.retry(session, session.get_one(Job, job_id), actor="anna")
        assert asked(office, 2)
        archive.report(receiver_port, *archive.verdicts())
    assert (delivery(office).state, office.job(job_id).state) == (S.COMMITTED, JobState.DONE)


def test_an_archive_without_room_for_the_question_is_asked_again_and_nothing_is_sent_twice(
    office, receiver_port
):
    office = office()
    with promising() as archive:
        office.post(make_object(), archive.destination)
        assert asked(office)
        archive.report(receiver_port, *archive.verdicts(reason=0x0213))
        assert delivery(office).state == S.STORED
        assert asked(office, 2)
        assert len(archive.stored) == 1
        archive.report(receiver_port, *archive.verdicts())
    assert delivery(office).state == S.COMMITTED


def test_an_archive_that_never_answers_is_sent_the_object_again(office):
    office = office()
    with promising() as archive:
        job_id = office.post(make_object(), archive.destination)
        assert asked(office)
        with office.database.write() as session:
            assert commitments.expire(session, now=utcnow() + timedelta(hours=23)) == 0
            assert commitments.expire(session, now=utcnow() + timedelta(hours=25)) == 1
        assert office.job(job_id).state == JobState.DELIVERING
        assert delivery(office).comment.endswith("not given: no answer in time")
        assert asked(office, 2)
        assert len(archive.stored) == 2


def test_a_promise_that_comes_late_counts_all_the_same(office, receiver_port):
    office = office()
    with promising() as archive:
        job_id = office.post(make_object(), archive.destination)
        assert asked(office)
        with office.database.write() as session:
            commitments.expire(session, now=utcnow() + timedelta(hours=25))
        archive.report(receiver_port, *archive.verdicts())
        assert (delivery(office).state, office.job(job_id).state) == (S.COMMITTED, JobState.DONE)
        assert office.work(office.settled)
        assert len(archive.stored) == 1, "it need not be sent again"


def test_an_archive_without_the_service_fails_at_once_with_the_reason(office):
    office = office()
    with promising(offers=False) as archive:
        job_id = office.post(make_object(), archive.destination)
        assert office.work(lambda: office.job(job_id).state == JobState.FAILED)
        assert len(archive.stored) == 1
    assert office.job(job_id).reason.endswith("the destination offers no storage commitment")


@pytest.mark.parametrize("code", [0x0123, 0x0124], ids="{:04X}".format)
def test_a_question_that_is_refused_for_good_fails_with_the_reason(office, code):
    office = office()
    with promising(lambda n: code) as archive:
        job_id = office.post(make_object(), archive.destination)
        assert office.work(lambda: office.job(job_id).state == JobState.FAILED)
        assert f"0x{code:04X}" in office.job(job_id).reason
        assert len(archive.asked) == 1


def test_a_busy_archive_is_asked_again_under_the_same_name(office):
    office = office()
    with promising(lambda n: 0x0213 if n < 3 else 0) as archive:
        office.post(make_object(), archive.destination)
        assert asked(office)
        assert len(archive.stored) == 1
        assert len({transaction for transaction, _ in archive.asked}) == 1
        assert len(archive.asked) == 3


def test_an_archive_that_is_gone_when_it_is_to_be_asked_is_asked_later(office, monkeypatch):
    office = office(queue={"retry_max_seconds": 0.2})
    with promising() as archive:
        office.post(make_object(), archive.destination)
        with monkeypatch.context() as patch:
            patch.setattr(commitment, "context", lambda: (_ for _ in ()).throw(scu.PeerError("gone")))
            assert office.work(lambda: (delivery(office).comment or "").endswith("asked for: gone"))
        assert delivery(office).state == S.STORED
        assert asked(office)
    assert delivery(office).comment is not None


def test_an_archive_that_promises_before_it_answers_is_understood(office):
    office = office()
    with promising(hasty=True) as archive:
        office.post(make_object(), archive.destination)
        assert office.work(lambda: delivery(office).state == S.COMMITTED)
        assert archive.told == [0]
    assert [q.state for q in questions(office)] == ["committed"]


def test_a_question_without_response_is_put_again_on_a_new_association(office):
    office = office(dicom=nodes.PATIENT | {"dimse_timeout": 2})
    released = threading.Event()

    def silent_once(n: int) -> int:
        if n == 1:
            released.wait(60)
        return 0

    with promising(silent_once) as archive:
        office.post(make_object(), archive.destination)
        try:
            assert office.work(lambda: "no answer to the N-ACTION" in (delivery(office).comment or ""))
            assert asked(office)
        finally:
            released.set()
        assert len(archive.stored) == 1
        assert len({transaction for transaction, _ in archive.asked}) == 1


def test_several_questions_go_over_one_association(office):
    office = office()
    with promising(reply=on_the_same) as archive:
        for _ in range(3):
            office.post(make_object(), archive.destination)
        assert office.work(lambda: {d.state for d in office.deliveries()} == {S.COMMITTED})
        assert len({transaction for transaction, _ in archive.asked}) == 3


def test_what_is_asked_for_is_the_object_that_was_sent_label_and_all(office):
    office = office()
    with promising(reply=on_the_same) as archive:
        ds = dicom_variants.cr()
        office.post(ds, archive.destination.model_copy(update={"label": "overlay"}))
        assert office.work(lambda: delivery(office).state == S.COMMITTED), delivery(office).comment
        ((_, ((sop_class, uid),)),) = archive.asked
        assert (sop_class, [uid]) == (nodes.CR, archive.stored)
        assert uid != ds.SOPInstanceUID


def test_a_destination_that_is_not_asked_promises_nothing(office):
    office = office()
    with promising() as archive:
        plain = archive.destination.model_copy(update={"storage_commitment": False})
        office.post(make_object(), plain)
        assert office.work(office.settled)
        assert questions(office) == []
        assert archive.asked == []


def test_who_has_nothing_to_ask_or_hear_does_not_offer_the_service(tmp_path):
    with (
        receiving(make_settings(tmp_path / "node")) as node,
        associated(node.port, [(nodes.CR, nodes.EXPLICIT), (commitment.SOP_CLASS, nodes.EXPLICIT)]) as assoc,
    ):
        assert [cx.abstract_syntax for cx in assoc.rejected_contexts] == [commitment.SOP_CLASS]


def test_a_report_that_is_no_data_set_is_answered_and_the_receiver_lives(tmp_path, receiver_port):
    with (
        associated(receiver_port, [(commitment.SOP_CLASS, nodes.EXPLICIT)]) as assoc,
        scu.paused(assoc),
    ):
        nodes.send_fragment(assoc, 3, event_command(1))
        nodes.send_fragment(assoc, 2, b"\xff" * 100)
        _, rsp = assoc.dimse.get_msg(block=True)
        assert rsp is not None
        assert rsp.Status == statuses.INVALID_ARGUMENT


def test_a_flood_of_references_ends_the_association(receiver_port):
    with associated(receiver_port, [(commitment.SOP_CLASS, nodes.EXPLICIT)]) as assoc:
        nodes.send_fragment(assoc, 3, event_command(1))
        for _ in range(5 << 20 >> 14):
            nodes.send_fragment(assoc, 0, bytes(1 << 14))
        assert eventually(lambda: not assoc.is_established, 30)


def unreachable() -> None:
    raise scu.PeerError("gone")


def event_command(event_type: int) -> bytes:
    import struct

    plain = nodes.command(commitment.SOP_CLASS, commitment.SOP_INSTANCE.encode(), field=0x0100)
    body = plain[12:] + struct.pack("<HHIH", 0, 0x1002, 2, event_type)
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body
