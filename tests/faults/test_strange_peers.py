"""Whatever a destination does, only its deliveries wait, and each is sent again with the same bytes."""

from __future__ import annotations

import contextlib
import dataclasses
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from config import Destination
from config.settings import QueueSettings
from db import deliveries, queue
from db.models import Job, JobEvent
from db.states import DeliveryState
from db.types import utcnow
from pacs_node import sender
from tests.faults import strange as peers
from tests.faults.sizes import size
from tests.faults.strange import Behaviour, Gone, Request, Wire, answering, good, strange
from tests.pacs_node.nodes import make_object
from tests.pacs_node.office import Office, offices

S = DeliveryState
SHORT = 0.4
"""Our patience where the peer has none of its own to show, in seconds."""


@pytest.fixture
def office(tmp_path) -> Iterator[Callable[..., Office]]:
    """Return a function that opens a node's office; patience is long but where a test makes it short."""
    patient = dict.fromkeys(("acse_timeout", "dimse_timeout", "network_timeout", "handshake_timeout"), 60)
    retries = {"retry_base_seconds": 0.05, "retry_max_seconds": 0.2}
    with offices(tmp_path / "node") as open_office:
        yield lambda **dicom: open_office(dicom=patient | dicom, queue=retries)


def to(port: int, name: str = "strange", **more: Any) -> Destination:
    return Destination(name=name, ae_title="STRANGE", host="127.0.0.1", port=port, **more)


def told(office: Office) -> list[str]:
    """What came of each attempt, in words."""
    query = select(JobEvent).where(JobEvent.kind == "delivery", JobEvent.before == S.SENDING)
    with office.database.read() as session:
        return [str(event.message) for event in session.scalars(query.order_by(JobEvent.id))]


# ---- what peers do


def silent(wire: Wire) -> None:
    wire.hang()


def silent_after_the_request(wire: Wire) -> None:
    wire.asked()
    wire.hang()


def half_an_acceptance(wire: Wire) -> None:
    answer = peers.acceptance(wire.asked(), 16384)
    wire.send(struct.pack(">BBL", peers.AC, 0, len(answer)) + answer[: len(answer) // 2])
    wire.hang()


def silent_after_the_command(wire: Wire) -> None:
    wire.associate()
    wire.request()
    wire.hang()


def silent_after_the_data_set(wire: Wire) -> None:
    received(wire)
    wire.hang()


def half_an_answer(wire: Wire) -> None:
    request = received(wire)
    wire.send_data(peers.response(request, 0)[:20], control=1)
    wire.hang()


def trickling_answer(wire: Wire) -> None:
    request = received(wire)
    command = peers.response(request, 0)
    head = struct.pack(">BBLLBB", peers.DATA, 0, len(command) + 6, len(command) + 2, 1, 3)
    for byte in head + command:
        wire.send(bytes([byte]))
        if wire.peer.closed.wait(0.05):
            return


def endless_command(wire: Wire) -> None:
    received(wire)
    while True:
        wire.send_data(bytes(4000), control=1)


def endless_data_set(wire: Wire) -> None:
    request = received(wire)
    command = peers.response(request, 0).replace(struct.pack("<H", 0x0101), struct.pack("<H", 1), 1)
    wire.send_data(command)
    while True:
        wire.send_data(bytes(4000), control=0)


def huge_pdu(wire: Wire) -> None:
    received(wire)
    wire.send(struct.pack(">BBL", peers.DATA, 0, 0xFFFFFFFF))
    while True:
        wire.send(bytes(1 << 16))


def abort_at_the_request(wire: Wire) -> None:
    wire.asked()
    wire.abort()


def abort_after_the_command(wire: Wire) -> None:
    wire.associate()
    wire.request()
    wire.abort()


def abort_after_the_data_set(wire: Wire) -> None:
    received(wire)
    wire.abort()


def close_after_the_command(wire: Wire) -> None:
    wire.associate()
    wire.request()


def close_after_the_data_set(wire: Wire) -> None:
    received(wire)


def reset_in_the_middle(wire: Wire) -> None:
    wire.associate()
    wire.request()
    wire.reset()


def release_instead_of_an_answer(wire: Wire) -> None:
    received(wire)
    wire.send_pdu(peers.RELEASE_RQ, bytes(4))
    wire.until_gone()


def no_pdu(wire: Wire) -> None:
    received(wire)
    wire.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    wire.until_gone()


def no_pdu_at_the_request(wire: Wire) -> None:
    wire.asked()
    wire.send(b"220 mail.example.org ESMTP\r\n")
    wire.until_gone()


def acceptance_of_nonsense(wire: Wire) -> None:
    wire.asked()
    wire.send_pdu(peers.AC, b"\xff" * 200)
    wire.until_gone()


def second_acceptance(wire: Wire) -> None:
    body = wire.asked()
    wire.send_pdu(peers.AC, peers.acceptance(body, 16384))
    wire.request()
    wire.send_pdu(peers.AC, peers.acceptance(body, 16384))
    wire.until_gone()


def no_context(wire: Wire) -> None:
    received(wire)
    wire.send_data(b"", context_id=0)
    wire.until_gone()


def command_of_nonsense(wire: Wire) -> None:
    received(wire)
    wire.send_data(b"\xff" * 60)
    wire.until_gone()


def empty_fragment(wire: Wire) -> None:
    received(wire)
    wire.send_pdu(peers.DATA, struct.pack(">LB", 1, 1))
    wire.until_gone()


def wrong_message_id(wire: Wire) -> None:
    request = received(wire)
    wire.respond(request, 0, message_id=request.message_id + 4711)
    wire.until_gone()


def no_status(wire: Wire) -> None:
    request = received(wire)
    whole = peers.response(request, 0)
    gone = struct.pack("<HHIH", 0, 0x0900, 2, 0)
    assert gone in whole
    wire.send_data(struct.pack("<HHII", 0, 0, 4, len(whole) - 12 - len(gone)) + whole[12:].replace(gone, b""))
    wire.until_gone()


def asks_us_instead(wire: Wire) -> None:
    request = received(wire)
    as_request = peers.response(request, 0).replace(struct.pack("<H", 0x8001), struct.pack("<H", 0x0030))
    wire.send_data(as_request)
    wire.until_gone()


def tiny_pdus(wire: Wire) -> None:
    wire.associate(max_pdu=32)
    wire.until_gone()


def received(wire: Wire) -> Request:
    """Take one object, and leave it unanswered."""
    wire.associate()
    request = wire.request()
    assert request is not None
    wire.take(request)
    return request


# ---- the table: what it does, what we say of it, whether it had the object, our patience


@dataclasses.dataclass(frozen=True)
class Row:
    does: Behaviour
    says: str
    has_it: bool = False
    patience: str = ""
    """The time-out that ends it, made short; of the others none comes before the test's own."""

    def __str__(self) -> str:
        return self.does.__name__


LOST, ABORTED = "the connection was lost", "the peer aborted the association"
NONSENSE = "what makes no sense"
ROWS = [
    Row(silent, "did not answer the association request", patience="acse_timeout"),
    Row(silent_after_the_request, "did not answer the association request", patience="acse_timeout"),
    Row(half_an_acceptance, "did not answer", patience="acse_timeout"),
    Row(abort_at_the_request, "did not answer the association request"),
    Row(no_pdu_at_the_request, NONSENSE),
    Row(acceptance_of_nonsense, NONSENSE),
    Row(silent_after_the_command, "no answer within 0.4 s", patience="dimse_timeout"),
    Row(silent_after_the_data_set, "no answer within 0.4 s", True, "dimse_timeout"),
    Row(half_an_answer, "no answer within 0.4 s", True, "dimse_timeout"),
    Row(trickling_answer, "no answer within 0.4 s", True, "dimse_timeout"),
    Row(endless_command, NONSENSE, True),
    Row(endless_data_set, NONSENSE, True),
    Row(huge_pdu, LOST, True),
    Row(abort_after_the_command, ABORTED),
    Row(abort_after_the_data_set, ABORTED, True),
    Row(close_after_the_command, LOST),
    Row(close_after_the_data_set, LOST, True),
    Row(reset_in_the_middle, LOST),
    Row(release_instead_of_an_answer, "", True, "dimse_timeout"),
    Row(no_pdu, NONSENSE, True),
    Row(second_acceptance, NONSENSE),
    Row(no_context, NONSENSE, True),
    Row(command_of_nonsense, NONSENSE, True),
    Row(empty_fragment, NONSENSE, True),
    Row(wrong_message_id, "an answer to something else", True),
    Row(no_status, "an answer to something else", True),
    Row(asks_us_instead, "", True),
    Row(tiny_pdus, "takes no PDU of a usable size"),
]


FEW = {
    half_an_acceptance, acceptance_of_nonsense, silent_after_the_data_set, endless_data_set, huge_pdu,
    abort_after_the_data_set, command_of_nonsense,
}  # fmt: skip
"""Those that `make test` tries, too."""


def some(values: Iterable[Any], few: Container[Any]) -> list[Any]:
    """All values as parameters; those that are not among the few are left to the long run."""
    return [pytest.param(one, marks=() if one in few else pytest.mark.faults) for one in values]


@pytest.mark.parametrize(
    "row", [pytest.param(r, marks=[] if r.does in FEW else pytest.mark.faults) for r in ROWS], ids=str
)
def test_an_object_whose_fate_is_unknown_is_sent_again_under_the_same_name_with_the_same_bytes(office, row):
    office = office(**({row.patience: SHORT} if row.patience else {}))
    with strange(row.does, good) as peer:
        ds = make_object()
        job_id = office.post(ds, to(peer.port))
        assert office.work(office.settled, 12), told(office)
        (delivery,) = office.deliveries(job_id)
        assert delivery.state == S.STORED
        assert delivery.attempts == 2
        assert row.says in told(office)[0]
        copies = 2 if row.has_it else 1
        assert [uid for uid, _ in peer.received] == [ds.SOPInstanceUID] * copies
        assert len({digest for _, digest in peer.received}) == 1
        assert delivery.perhaps_there or not row.has_it, "a result that is taken back is looked for there"


@pytest.mark.parametrize(
    ("rejection", "says"),
    [
        pytest.param((1, 1, 1), "No reason given", marks=pytest.mark.faults),
        pytest.param((1, 1, 2), "Application context name not supported", marks=pytest.mark.faults),
        ((1, 1, 3), "Calling AE title not recognised; let it know us as CXR_SR"),
        pytest.param(
            (1, 1, 7), "Called AE title not recognised; it is not called STRANGE", marks=pytest.mark.faults
        ),
        pytest.param((1, 2, 2), "Protocol version not supported", marks=pytest.mark.faults),
        pytest.param((2, 3, 1), "Temporary congestion; it is busy now", marks=pytest.mark.faults),
        ((2, 3, 2), "Local limit exceeded; it has as many associations as it takes now"),
        ((1, 3, 99), NONSENSE),
    ],
    ids=str,
)
def test_a_rejection_is_told_with_its_reason_and_tried_again_until_it_is_lifted(office, rejection, says):
    office = office()
    with strange(lambda wire: wire.reject(*rejection), good) as peer:
        office.post(make_object(), to(peer.port))
        assert office.work(office.settled), told(office)
        assert says in told(office)[0]
        assert (office.deliveries()[0].state, len(peer.received)) == (S.STORED, 1)


@pytest.mark.parametrize("status", some([0xB000, 0xB006, 0xB007, 0x0107, 0x0111, 0x0116], {0xB006}))
def test_a_warning_is_stored_once_with_a_note(office, status):
    office = office()
    with strange(answering(status, "changed the name")) as peer:
        job_id = office.post(make_object(), to(peer.port))
        assert office.work(office.settled)
        assert len(peer.received) == 1
    (delivery,) = office.deliveries()
    assert (delivery.state, delivery.status_code) == (S.STORED, status)
    assert f"0x{status:04X}" in delivery.comment
    assert "changed the name" in delivery.comment
    assert office.job(job_id).state == "done"


@pytest.mark.parametrize(
    "status", some([0xA700, 0xA701, 0xA7FF, 0x0110, 0x0210, 0x0213, 0xFE00, 0x1234, 0xFFFF], {0xA7FF})
)
def test_a_failure_that_may_pass_is_tried_again(office, status):
    office = office()
    with strange(answering(status, "no room"), good) as peer:
        office.post(make_object(), to(peer.port))
        assert office.work(office.settled)
        assert len(peer.received) == 2
        assert len(set(peer.received)) == 1
    assert office.deliveries()[0].state == S.STORED
    assert f"0x{status:04X}" in told(office)[0]


@pytest.mark.parametrize(
    "status", some([0xA900, 0xA9FF, 0xC000, 0xC123, 0xCFFF, 0x0105, 0x0117, 0x0122, 0x0124], {0xC123})
)
def test_a_failure_that_will_not_pass_fails_at_once_with_its_reason_and_a_retry_sends_it_again(
    office, status
):
    office = office()
    with strange(answering(status, "never"), good) as peer:
        job_id = office.post(make_object(), to(peer.port))
        assert office.work(office.settled)
        assert len(peer.received) == 1
        (delivery,) = office.deliveries()
        assert (delivery.state, delivery.status_code) == (S.FAILED, status)
        assert f"0x{status:04X}" in office.job(job_id).reason
        assert "never" in office.job(job_id).reason
        with office.database.write() as session:
            queue.retry(session, session.get_one(Job, job_id), actor="test")
        assert office.work(lambda: office.settled() and len(peer.received) == 2)
        assert len(set(peer.received)) == 1
    assert office.deliveries()[0].state == S.STORED


def test_an_answer_after_our_patience_is_not_heard_and_the_repeat_has_the_same_name_and_bytes(office):
    office, gone = office(dimse_timeout=SHORT), threading.Event()

    def late(wire: Wire) -> None:
        request = received(wire)
        with contextlib.suppress(Gone):
            wire.until_gone()
        gone.set()
        wire.respond(request, 0xC000)

    with strange(late, good) as peer:
        office.post(make_object(), to(peer.port))
        assert office.work(office.settled)
        assert gone.is_set()
        assert len(peer.received) == 2
        assert len(set(peer.received)) == 1
    assert (office.deliveries()[0].state, office.deliveries()[0].attempts) == (S.STORED, 2)


def test_a_second_answer_is_never_taken_for_that_of_the_next_object(office):
    office = office()

    def twice(wire: Wire) -> None:
        wire.associate()
        request = wire.request()
        assert request is not None
        wire.take(request)
        wire.send_data(peers.response(request, 0))
        wire.send_data(peers.response(request, 0xA900))
        while (request := wire.request()) is not None:
            wire.take(request)
            wire.respond(request, 0)
        wire.release()

    with strange(twice) as peer:
        objects = [make_object() for _ in range(3)]
        for ds in objects:
            office.post(ds, to(peer.port))
        assert office.work(office.settled)
        assert {uid for uid, _ in peer.received} == {ds.SOPInstanceUID for ds in objects}
    assert {d.state for d in office.deliveries()} == {S.STORED}


def never_answers_the_release(wire: Wire) -> None:
    _store_one(wire)
    wire.hang()


def talks_instead_of_the_release(wire: Wire) -> None:
    request = _store_one(wire)
    while True:
        wire.send_data(peers.response(request, 0))


def asks_for_release_again_and_again(wire: Wire) -> None:
    _store_one(wire)
    while True:
        wire.send_pdu(peers.RELEASE_RQ, bytes(4))


def closes_without_release(wire: Wire) -> None:
    received_request = received(wire)
    wire.respond(received_request, 0)


def aborts_after_the_answer(wire: Wire) -> None:
    closes_without_release(wire)
    wire.abort()


def resets_after_the_answer(wire: Wire) -> None:
    closes_without_release(wire)
    wire.reset()


def _store_one(wire: Wire) -> Request:
    request = received(wire)
    wire.respond(request, 0)
    while wire.pdu()[0] != peers.RELEASE_RQ:
        pass
    return request


@pytest.mark.parametrize(
    "ending",
    some(
        [
            never_answers_the_release,
            talks_instead_of_the_release,
            asks_for_release_again_and_again,
            closes_without_release,
            aborts_after_the_answer,
            resets_after_the_answer,
        ],
        {talks_instead_of_the_release, asks_for_release_again_and_again, closes_without_release},
    ),
    ids=lambda ending: ending.__name__,
)
def test_what_was_answered_is_stored_however_the_association_ends_and_the_next_goes_out(office, ending):
    office = office(acse_timeout=SHORT)
    with strange(ending, good) as peer:
        office.post(make_object(), to(peer.port))
        assert office.work(office.settled)
        assert (office.deliveries()[0].state, office.deliveries()[0].attempts) == (S.STORED, 1)
        office.post(make_object(), to(peer.port))
        assert office.work(office.settled), told(office)
        assert {d.state for d in office.deliveries()} == {S.STORED}
        assert len({uid for uid, _ in peer.received}) == 2


HANGS = [
    silent,
    silent_after_the_request,
    half_an_acceptance,
    silent_after_the_command,
    silent_after_the_data_set,
    half_an_answer,
]


@pytest.mark.parametrize(
    "hanging", [pytest.param(HANGS[:1], marks=pytest.mark.faults), HANGS], ids=["one", "several"]
)
def test_everything_reaches_the_good_destination_while_others_hang(office, hanging):
    """Proved by order: those that hang have not been given up when the last result is there."""
    office = office()
    images = size(20, 100)
    with contextlib.ExitStack() as stack:
        bad = [stack.enter_context(strange(does)) for does in hanging]
        peer = stack.enter_context(strange(good))
        everywhere = [to(one.port, f"bad-{n}") for n, one in enumerate(bad)] + [to(peer.port, "good")]
        for _ in range(images):
            office.post(make_object(), *everywhere)
        assert office.work(lambda: all(one.connections for one in bad), 60)
        assert office.work(lambda: len(peer.received) == images, 120)
        assert office.work(lambda: [d.state for d in office.deliveries()].count(S.STORED) == images, 60)
        states = Counter((d.destination_name, d.state) for d in office.deliveries())
        for number in range(len(bad)):
            assert states[f"bad-{number}", S.SENDING] == 1, "it hangs still, with the first of its objects"
            assert states[f"bad-{number}", S.WAITING] == images - 1
        assert told(office) == ["good"] * images
        office.stop.set()


@pytest.mark.faults
def test_a_destination_that_comes_back_after_hours_gets_everything_once(office, monkeypatch):
    """In simulated time: attempts grow rare, what waits is not given up, and it goes out within one wait."""
    office, hours = office(), timedelta()

    class Monotonic:
        @staticmethod
        def monotonic() -> float:
            return time.monotonic() + hours.total_seconds()

    monkeypatch.setattr(sender, "time", Monotonic)
    monkeypatch.setattr(deliveries, "utcnow", lambda: utcnow() + hours)
    settings = office.settings
    office.sender.settings = settings.model_copy(update={"queue": QueueSettings()})
    with strange(good) as peer:
        port = peer.port
    for _ in range(3):
        office.post(make_object(), to(port))
    away = 24
    while hours < timedelta(hours=away):
        office.sender.step()
        office.sender.drain()
        hours += timedelta(seconds=90)
    attempts = [d.attempts for d in office.deliveries()]
    longest = QueueSettings().retry_max_seconds
    assert away * 3600 / longest * 0.5 < sum(attempts) < away * 3600 / 60
    assert {d.state for d in office.deliveries()} == {S.WAITING}
    assert all("nothing listens there" in str(d.comment) for d in office.deliveries())
    with strange(good, port=port) as peer:
        back = hours
        while not office.settled() and hours < back + timedelta(seconds=2 * longest):
            office.sender.step()
            office.sender.drain()
            hours += timedelta(seconds=90)
        assert {d.state for d in office.deliveries()} == {S.STORED}
        assert len(peer.received) == len(set(peer.received)) == 3
