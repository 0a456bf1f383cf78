from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

import config.network
from config import Destination
from db import commands, deliveries, queue
from db.models import Job
from db.states import DeliveryState, JobState
from pacs_node import codecs, courier, header, sender, transcode
from pacs_node.archive import Archive
from pacs_node.carrier import Undeliverable
from tests.pacs_node.nodes import (
    CR,
    DX,
    EXPLICIT,
    IMPLICIT,
    encoded,
    eventually,
    make_object,
)
from tests.pacs_node.office import Office, offices

S = DeliveryState


@pytest.fixture
def office(tmp_path) -> Iterator[Callable[..., Office]]:
    with offices(tmp_path / "node") as open_office:
        yield open_office


@pytest.fixture
def archive(tmp_path) -> Iterator[Archive]:
    with Archive(tmp_path / "archive") as archive:
        yield archive


@dataclass
class Script:
    """A PACS that answers as a test wants: what it received, and how many associations it accepted."""

    port: int
    received: list[str] = field(default_factory=list)
    associations: int = 0
    syntaxes: list[str] = field(default_factory=list)
    objects: list[Dataset] = field(default_factory=list)


@contextlib.contextmanager
def pacs(
    answer: Callable[[int], Any],
    *,
    syntaxes: tuple[str, ...] = (EXPLICIT,),
    classes: tuple[str, ...] = (CR,),
    proposed: list[tuple[str, str]] | None = None,
) -> Iterator[Script]:
    """Listen as PACS; `answer(n)` gives the status of the n-th C-STORE, a number or a data set."""
    ae = AE(ae_title="PACS")
    ae.require_called_aet = True
    ae.add_supported_context(Verification)
    for sop_class in classes:
        ae.add_supported_context(sop_class, list(syntaxes))
    script = Script(0)

    def stored(event: evt.Event) -> Any:
        request: Any = event.request
        script.received.append(str(request.AffectedSOPInstanceUID))
        script.syntaxes.append(str(event.context.transfer_syntax))
        script.objects.append(event.dataset)
        return answer(len(script.received))

    def accepted(event: evt.Event) -> None:
        script.associations += 1
        for cx in event.assoc.requestor.requested_contexts if proposed is not None else []:
            proposed.extend((str(cx.abstract_syntax), str(uid)) for uid in cx.transfer_syntax)

    server = ae.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, stored), (evt.EVT_ACCEPTED, accepted)],
    )
    assert server is not None
    script.port = server.server_address[1]
    try:
        yield script
    finally:
        server.shutdown()
        for assoc in server.active_associations:
            assoc.abort()


def to(port: int, name: str = "pacs", ae_title: str = "PACS") -> Destination:
    return Destination(name=name, ae_title=ae_title, host="127.0.0.1", port=port)


def nobody_listens() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def status(code: int, comment: str = "") -> Dataset:
    ds = Dataset()
    ds.Status = code
    if comment:
        ds.ErrorComment = comment
    return ds


def test_a_result_arrives_byte_for_byte_and_its_job_is_done(office, archive):
    office, ds = office(), make_object(size=300)
    job_id = office.post(ds, to(archive.port, ae_title="DEMO_PACS"))
    assert office.work(office.settled)
    (delivery,) = office.deliveries()
    assert (delivery.state, delivery.status_code, delivery.comment) == (S.STORED, 0, None)
    assert office.job(job_id).state == JobState.DONE
    (arrived,) = archive.objects()
    assert arrived.path.read_bytes().endswith(encoded(ds))
    assert (arrived.study_instance_uid, arrived.series_instance_uid) == (
        ds.StudyInstanceUID,
        ds.SeriesInstanceUID,
    )
    assert office.peer("pacs").reachable is True


def test_objects_of_one_kind_go_over_one_association_and_others_get_their_own(office):
    office = office()
    with pacs(lambda n: 0, classes=(CR, DX)) as peer:
        for ds in [make_object(), make_object(), make_object(), make_object(DX)]:
            office.post(ds, to(peer.port))
        assert office.work(office.settled)
        assert len(peer.received) == len(set(peer.received)) == 4
        assert peer.associations == 2


@pytest.mark.parametrize(
    ("answer", "state", "comment"),
    [
        (status(0xA900, "wrong class"), S.FAILED, "0xA900 Data set does not match SOP class: wrong class"),
        (status(0xC001, "bad tag"), S.FAILED, "0xC001 Cannot understand: bad tag"),
        (status(0x0122), S.FAILED, "0x0122 SOP class not supported"),
        (status(0x0124), S.FAILED, "0x0124 Not authorised"),
        (
            status(0xB000, "coerced"),
            S.STORED,
            "0xB000 Warning: coerced, discarded or mismatched elements: coerced",
        ),
        (status(0xB007), S.STORED, "0xB007 Warning: coerced, discarded or mismatched elements"),
        (status(0x0111), S.STORED, "0x0111 Duplicate SOP instance"),
    ],
    ids=lambda value: f"{value.Status:04X}" if isinstance(value, Dataset) else None,
)
def test_every_answer_is_read_and_its_comment_kept(office, answer, state, comment):
    office = office()
    with pacs(lambda n: answer) as peer:
        job_id = office.post(make_object(), to(peer.port))
        assert office.work(office.settled)
        assert len(peer.received) == 1, "an answer that decides is not asked for again"
    (delivery,) = office.deliveries()
    assert (delivery.state, delivery.status_code, delivery.comment) == (state, answer.Status, comment)
    job = office.job(job_id)
    assert job.state == (JobState.DONE if state == S.STORED else JobState.FAILED)
    if state == S.FAILED:
        assert comment in (job.reason or "")


def test_a_destination_without_room_is_tried_again_until_it_has_some(office):
    office = office()
    with pacs(lambda n: status(0xA700, "disk full") if n < 3 else 0) as peer:
        office.post(make_object(), to(peer.port))
        assert office.work(lambda: office.deliveries()[0].comment == "0xA700 Out of resources: disk full")
        assert office.deliveries()[0].state == S.WAITING
        assert office.work(office.settled)
        assert len(peer.received) == 3
    assert office.deliveries()[0].state == S.STORED


def test_a_dead_destination_delays_only_its_own_deliveries(office, archive):
    office = office(queue={"retry_base_seconds": 60, "retry_max_seconds": 60})
    dead, alive = to(nobody_listens(), "dead"), to(archive.port, "alive", "DEMO_PACS")
    jobs = [office.post(make_object(), dead, alive) for _ in range(3)]
    assert office.work(
        lambda: [d.state for d in office.deliveries()].count(S.STORED) == 3 and office.peer("dead")
    )
    for job_id in jobs:
        states = {d.destination_name: d.state for d in office.deliveries(job_id)}
        assert states["alive"] == S.STORED
        assert states["dead"] in {S.WAITING, S.SENDING}
        assert office.job(job_id).state == JobState.DELIVERING
    assert office.peer("dead").reachable is False
    assert "cannot be reached" in office.peer("dead").message
    attempts = sum(d.attempts for d in office.deliveries() if d.destination_name == "dead")
    assert attempts == 1, "one failed connection speaks for all that waits for it"


def test_a_hanging_destination_delays_only_its_own_deliveries(office, archive):
    office = office(dicom={"acse_timeout": 3})
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hanging = to(silent.getsockname()[1], "hanging")
        office.post(make_object(), hanging)
        assert office.work(lambda: office.deliveries()[0].state == S.SENDING)
        office.post(make_object(), to(archive.port, "alive", "DEMO_PACS"))
        assert office.work(lambda: len(archive.objects()) == 1)
        assert office.deliveries()[0].state == S.SENDING, "the other did not wait for it"
        assert office.work(lambda: office.deliveries()[0].state == S.WAITING)
        assert "did not answer" in office.deliveries()[0].comment


def test_a_destination_that_comes_back_gets_what_waited(office, tmp_path):
    office, port = office(), nobody_listens()
    job_id = office.post(make_object(), to(port))
    assert office.work(lambda: office.deliveries()[0].comment)
    with Archive(tmp_path / "archive", port=port) as archive:
        assert office.work(office.settled)
        assert len(archive.objects()) == 1
    assert office.job(job_id).state == JobState.DONE


def test_a_late_answer_is_never_read_as_that_of_the_next_object(office):
    office = office(dicom={"dimse_timeout": 0.4})
    first, second = make_object(), make_object()

    def answer(n: int) -> int:
        if n == 1:
            time.sleep(0.8)
            return 0xC000  # comes after we hung up: it says nothing of any later object
        return 0

    with pacs(answer) as peer:
        for ds in (first, second):
            office.post(ds, to(peer.port))
        assert office.work(office.settled)
        assert peer.associations >= 2
        assert set(peer.received) == {first.SOPInstanceUID, second.SOPInstanceUID}
    assert {d.state for d in office.deliveries()} == {S.STORED}
    assert office.deliveries()[0].attempts == 2


def test_an_association_that_is_aborted_midway_is_tried_again(office):
    office = office()

    def answer(n: int) -> int:
        if n == 1:
            for assoc in [t for t in threading.enumerate() if "AcceptorThread" in t.name]:
                assoc.dul.socket.close()  # type: ignore[attr-defined]
        return 0

    with pacs(answer) as peer:
        office.post(make_object(), to(peer.port))
        assert office.work(office.settled)
        assert len(peer.received) == 2
    assert office.deliveries()[0].state == S.STORED


def test_a_slow_answer_does_not_cost_the_lease(office):
    office = office(queue={"lease_seconds": 0.6})

    def answer(n: int) -> int:
        time.sleep(1.5)
        return 0

    def expire() -> bool:
        with office.database.write() as session:
            deliveries.expire(session)
        return office.settled()

    with pacs(answer) as peer:
        office.post(make_object(), to(peer.port))
        assert office.work(expire)
        assert len(peer.received) == 1
    assert (office.deliveries()[0].state, office.deliveries()[0].attempts) == (S.STORED, 1)


def test_a_delivery_cancelled_on_its_way_is_not_sent_again(office):
    office = office()

    def answer(n: int) -> int:
        time.sleep(0.5)
        return 0xA700

    with pacs(answer) as peer:
        job_id = office.post(make_object(), to(peer.port))
        assert office.work(lambda: peer.received)
        with office.database.write() as session:
            queue.cancel(session, session.get_one(Job, job_id), actor="test")
        office.work(lambda: False, 1.5)
        assert len(peer.received) == 1
    assert office.deliveries()[0].state == S.CANCELLED
    assert office.job(job_id).state == JobState.CANCELLED


def test_a_peer_that_takes_only_implicit_little_endian_gets_it_converted(office):
    office, ds = office(), make_object()
    with pacs(lambda n: 0, syntaxes=(IMPLICIT,)) as peer:
        office.post(ds, to(peer.port))
        assert office.work(office.settled)
        assert peer.syntaxes == [IMPLICIT]
    assert office.deliveries()[0].state == S.STORED
    (back,) = peer.objects
    assert {e.tag: e.value for e in back} == {e.tag: e.value for e in ds}, "its encoding alone has changed"


@pytest.mark.parametrize("taken", [EXPLICIT, IMPLICIT], ids=["explicit", "implicit"])
def test_a_compressed_original_goes_out_uncompressed_where_nothing_else_is_taken(office, taken):
    office, ds = office(), make_object(size=64)
    ds.PixelData = bytes(b & 0x0F if n % 2 else b for n, b in enumerate(ds.PixelData))
    pixels = ds.PixelData
    ds.compress(codecs.JPEG_2000_LOSSLESS, generate_instance_uid=False)
    with pacs(lambda n: 0, syntaxes=(taken,)) as peer:
        office.post(ds, to(peer.port), what="original")
        assert office.work(office.settled)
    assert office.deliveries()[0].state == S.STORED, office.deliveries()[0].comment
    (back,) = peer.objects
    assert back.PixelData == pixels
    assert back.SOPInstanceUID == ds.SOPInstanceUID
    del back.PixelData, ds.PixelData
    assert {e.tag: e.value for e in back} == {e.tag: e.value for e in ds}


@pytest.mark.parametrize(
    "syntax",
    [codecs.JPEG_LOSSLESS_SV1, codecs.EXPLICIT_VR_BIG_ENDIAN, codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN],
    ids=["a broken code stream", "big endian", "deflated"],
)
def test_an_original_that_cannot_go_as_the_destination_takes_it_fails_with_the_reason(office, syntax):
    office, ds = office(), make_object(CR, syntax)
    with pacs(lambda n: 0) as peer:
        office.post(ds, to(peer.port), what="original")
        assert office.work(office.settled)
        assert peer.received == []
    (delivery,) = office.deliveries()
    assert delivery.state == S.FAILED
    assert "takes it uncompressed alone" in delivery.comment


def test_an_object_that_no_context_fits_fails_with_the_reason(office):
    office = office()
    with pacs(lambda n: 0, classes=(DX,)) as peer:
        office.post(make_object(), to(peer.port))
        assert office.work(office.settled)
        assert peer.received == []
    (delivery,) = office.deliveries()
    assert delivery.state == S.FAILED
    assert "accepts none of the presentation contexts" in delivery.comment


def test_what_is_to_go_over_tls_is_never_sent_in_clear(office, archive):
    office = office()
    destination = to(archive.port, ae_title="DEMO_PACS").model_copy(update={"tls": True})
    office.post(make_object(), destination)
    assert office.work(lambda: office.deliveries()[0].comment)
    assert "TLS" in office.deliveries()[0].comment
    assert not office.settled()
    assert archive.objects() == []


def test_an_original_goes_out_in_its_own_transfer_syntax(office, archive):
    office, ds = office(), make_object(CR, codecs.JPEG_LOSSLESS_SV1)
    office.post(ds, to(archive.port, ae_title="DEMO_PACS"), what="original")
    assert office.work(office.settled)
    (arrived,) = archive.objects()
    assert arrived.path.read_bytes().endswith(encoded(ds))
    with arrived.path.open("rb") as stream:
        assert header.read_part10(stream).transfer_syntax_uid == codecs.JPEG_LOSSLESS_SV1


def test_a_damaged_object_is_never_sent(office, archive):
    office = office()
    office.post(make_object(), to(archive.port, ae_title="DEMO_PACS"))
    (path,) = (office.store.root / "results").rglob("*.dcm")
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert office.work(office.settled)
    (delivery,) = office.deliveries()
    assert delivery.state == S.FAILED
    assert "damaged" in delivery.comment
    assert archive.objects() == []


def test_a_missing_object_fails_with_the_reason(office, archive):
    office = office()
    office.post(make_object(), to(archive.port, ae_title="DEMO_PACS"))
    (path,) = (office.store.root / "results").rglob("*.dcm")
    path.unlink()
    assert office.work(office.settled)
    assert office.deliveries()[0].comment == "the stored object is missing"


def test_a_destination_that_does_not_know_us_is_tried_again_and_says_why(office):
    office = office()
    with pacs(lambda n: 0) as peer:
        office.post(make_object(), to(peer.port, ae_title="WRONG"))
        assert office.work(lambda: office.deliveries()[0].comment)
        assert peer.received == []
    (delivery,) = office.deliveries()
    assert delivery.state == S.WAITING
    assert "rejected the association: Called AE title not recognised" in delivery.comment


def test_an_archive_is_echoed_under_a_name_of_its_own(office, archive):
    given = {"ae_title": "DEMO_PACS", "host": "127.0.0.1", "port": archive.port}
    office = office()
    archives = (config.network.Archive(name="pacs", **given),)
    office.sender.settings = office.settings.model_copy(update={"archives": archives})
    assert echo(office, "pacs", "archive")["ok"]
    assert office.peer("@pacs").reachable
    assert office.peer("pacs") is None
    assert "no archive of that name" in echo(office, "other", "archive")["message"]


def echo(office: Office, name: str, kind: str = "destination") -> dict[str, Any]:
    with office.database.write() as session:
        number = commands.ask(session, "sender", "echo", {kind: name})

    def answer() -> dict[str, Any] | None:
        with office.database.read() as session:
            command = commands.result(session, number)
            return command.answer if command else None

    assert office.work(lambda: answer() is not None)
    found = answer()
    assert found is not None
    return found


def test_a_page_gets_its_echo_answered_and_the_answer_is_kept(office, archive):
    alive, dead = to(archive.port, "alive", "DEMO_PACS"), to(nobody_listens(), "dead")
    office = office(destinations=(alive, dead))
    answer = echo(office, "alive")
    assert (answer["ok"], answer["message"]) == (True, "DEMO_PACS answered")
    assert 0 < answer["seconds"] < 3
    assert office.peer("alive").reachable is True
    answer = echo(office, "dead")
    assert answer["ok"] is False
    assert "cannot be reached" in answer["message"]
    assert office.peer("dead").reachable is False
    assert echo(office, "nowhere")["message"] == "no destination of that name is configured"


def test_the_role_delivers_and_stops_when_told(office, archive):
    office = office()
    stop = threading.Event()
    role = threading.Thread(target=sender.run, args=(office.settings, stop))
    role.start()
    try:
        office.post(make_object(), to(archive.port, ae_title="DEMO_PACS"))
        assert eventually(office.settled)
    finally:
        stop.set()
        role.join(10)
    assert not role.is_alive()


def test_a_large_object_does_not_pass_through_memory_at_once(office, tmp_path):
    import tracemalloc

    office, ds = office(), make_object(size=3000)
    with Archive(tmp_path / "archive") as archive:
        office.post(ds, to(archive.port, ae_title="DEMO_PACS"))
        tracemalloc.start()
        try:
            assert office.work(office.settled, 20)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(archive.objects()) == 1
    assert peak < 12 << 20, "18 MB went out and came in; both ends hold a few fragments"


@pytest.mark.parametrize("wanted", list(transcode.SYNTAXES))
def test_a_result_goes_out_compressed_where_the_destination_wants_and_takes_it(office, archive, wanted):
    office, ds = office(), make_object(size=64)
    del ds.ImageType
    ds.PixelData = bytes(b & 0x0F if n % 2 else b for n, b in enumerate(ds.PixelData))
    office.post(ds, to(archive.port, ae_title="DEMO_PACS").model_copy(update={"transfer_syntax": wanted}))
    assert office.work(office.settled)
    (arrived,) = archive.objects()
    read = dcmread(arrived.path)
    assert read.file_meta.TransferSyntaxUID == transcode.SYNTAXES[wanted]
    assert read.SOPInstanceUID == ds.SOPInstanceUID
    assert read.pixel_array.tobytes() == ds.PixelData


def test_a_destination_that_takes_no_compression_gets_the_result_uncompressed(office):
    office = office()
    with pacs(lambda n: 0) as peer:
        for ds in (make_object(), make_object()):
            office.post(ds, to(peer.port).model_copy(update={"transfer_syntax": "htj2k"}))
        assert office.work(office.settled)
        assert peer.syntaxes == [EXPLICIT, EXPLICIT]
        assert peer.associations == 1
    assert {d.state for d in office.deliveries()} == {S.STORED}


def test_exactly_what_is_sent_is_proposed_with_an_uncompressed_fallback(office):
    """The peer that answers "no presentation context accepted" was offered everything but what came."""
    office = office()
    proposed: list[tuple[str, str]] = []
    with pacs(lambda n: 0, proposed=proposed) as peer:
        office.post(make_object(), to(peer.port).model_copy(update={"transfer_syntax": "jpeg-ls"}))
        assert office.work(office.settled)
    assert proposed == [(CR, codecs.JPEG_LS_LOSSLESS), (CR, EXPLICIT), (CR, IMPLICIT)]


def test_an_original_is_never_compressed_on_its_way(office, archive):
    office, ds = office(), make_object()
    wants = to(archive.port, ae_title="DEMO_PACS").model_copy(update={"transfer_syntax": "jpeg-ls"})
    office.post(ds, wants, what="original")
    assert office.work(office.settled)
    (arrived,) = archive.objects()
    assert arrived.path.read_bytes().endswith(encoded(ds))


def test_a_destination_of_a_kind_that_is_not_known_fails_with_the_reason(office, monkeypatch):
    office = office()
    monkeypatch.setattr(courier, "open_carrier", refuse_kind)
    office.post(make_object(), to(1))
    assert office.work(office.settled)
    (delivery,) = office.deliveries()
    assert (delivery.state, delivery.comment) == (S.FAILED, "nothing carries dimse")


def refuse_kind(kind: str, _settings: Any) -> Any:
    raise Undeliverable(f"nothing carries {kind}")
