from __future__ import annotations

import resource
import socket
import sqlite3
import struct
import threading
import time
from pathlib import Path

import pytest
from pydicom.uid import generate_uid
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from sqlalchemy import event, select

from db.models import RoleInstance, Source
from db.objects import LocalStore, Stored, StoreError, StoreFull
from db.states import JobState
from pacs_node import codecs, header, receiver
from tests.pacs_node.nodes import (
    CR,
    CT,
    DX,
    DX_PROCESSING,
    EXPLICIT,
    IMPLICIT,
    SC,
    Node,
    associated,
    encoded,
    eventually,
    jobs,
    make_object,
    make_settings,
    raw_store,
    receiving,
    send_fragment,
    sources,
    still_receives,
    store_object,
    wire,
)
from tests.pacs_node.nodes import command as command_set


@pytest.fixture
def node(tmp_path):
    with receiving(make_settings(tmp_path)) as node:
        yield node


def stored_bytes(node: Node, source: Source) -> bytes:
    with node.store.open(source.object_key) as stream:
        return stream.read()


def test_success_means_that_the_object_lies_in_the_store_and_its_job_waits(node):
    ds = make_object()
    with associated(node.port) as assoc:
        assert store_object(assoc, ds) == (0x0000, None)
        (source,), (job,) = sources(node), jobs(node)
    assert job.state == JobState.QUEUED
    assert (source.sop_class_uid, source.sop_instance_uid) == (CR, ds.SOPInstanceUID)
    assert (source.transfer_syntax_uid, source.media_type) == (EXPLICIT, "application/dicom")
    assert (source.origin_kind, source.origin_ae_title, source.origin_called_ae_title) == (
        "dimse",
        "MODALITY",
        "CXR_SR",
    )
    assert source.origin_address == "127.0.0.1"
    expected = header.part10_header(CR, ds.SOPInstanceUID, EXPLICIT) + encoded(ds)
    assert stored_bytes(node, source) == expected
    assert node.spooled == []


def test_c_echo_is_answered(node):
    with associated(node.port, [(Verification, IMPLICIT)]) as assoc:
        assert assoc.send_c_echo().Status == 0x0000


@pytest.mark.parametrize("sop_class", [CR, DX, DX_PROCESSING, SC])
def test_each_sop_class_is_accepted(node, sop_class):
    with associated(node.port, [(sop_class, EXPLICIT)]) as assoc:
        assert store_object(assoc, make_object(sop_class)) == (0x0000, None)


def test_every_decodable_transfer_syntax_is_accepted_and_kept_as_it_came(node):
    syntaxes = codecs.decodable()
    with associated(node.port, [(CR, syntax) for syntax in syntaxes]) as assoc:
        assert [cx.transfer_syntax[0] for cx in assoc.accepted_contexts] == list(syntaxes)
        for number, syntax in enumerate(syntaxes):
            ds = make_object(CR, syntax)
            assert store_object(assoc, ds, context_id=2 * number + 1) == (0x0000, None), syntax
            source = sources(node)[-1]
            assert source.transfer_syntax_uid == syntax
            assert stored_bytes(node, source).endswith(encoded(ds, syntax))


def test_an_unknown_sop_class_is_refused_in_the_negotiation(node):
    with associated(node.port, [(CR, EXPLICIT), (CT, EXPLICIT)]) as assoc:
        assert [cx.abstract_syntax for cx in assoc.accepted_contexts] == [CR]
        assert [(cx.abstract_syntax, cx.result) for cx in assoc.rejected_contexts] == [(CT, 0x03)]


def test_the_same_object_again_is_one_source_and_one_job(node):
    ds = make_object()
    for calling in ("MODALITY", "OTHER"):
        with associated(node.port, calling=calling) as assoc:
            assert store_object(assoc, ds) == (0x0000, None)
    (source,) = sources(node)
    assert source.times_received == 2
    assert len(jobs(node)) == 1


def test_other_bytes_under_the_same_uid_never_replace_the_first(node):
    first, second = make_object(uid="1.2.3"), make_object(uid="1.2.3", size=32)
    with associated(node.port) as assoc:
        assert store_object(assoc, first)[0] == store_object(assoc, second)[0] == 0
    one, other = sources(node)
    assert stored_bytes(node, one).endswith(encoded(first))
    assert stored_bytes(node, other).endswith(encoded(second))


@pytest.mark.parametrize(
    "uid", [b"", b"../../etc/passwd", b"1.2.3/4", b"1" * 65, b"1.2.\xff", b"1..2", b".1"], ids=repr
)
def test_an_empty_or_unsafe_uid_is_answered_with_c000(node, uid):
    with associated(node.port) as assoc:
        status, comment = raw_store(assoc, encoded(make_object()), sop_instance=uid)
        assert status == 0xC000
        assert comment in {"Affected SOP Instance UID is empty", "Affected SOP Instance UID is not a UID"}
        assert store_object(assoc, make_object()) == (0x0000, None)
    assert len(sources(node)) == 1
    assert node.spooled == []


def test_a_data_set_under_another_uid_than_the_command_is_answered_with_a900(node):
    with associated(node.port) as assoc:
        status, comment = raw_store(assoc, encoded(make_object()), sop_instance=b"1.2.3")
    assert (status, comment) == (0xA900, "SOP Instance UID of command and data set differ")
    assert sources(node) == []


def test_a_data_set_of_another_class_than_the_command_is_answered_with_a900(node):
    ds = make_object(DX)
    with associated(node.port) as assoc:
        status, _ = raw_store(assoc, encoded(ds), sop_instance=ds.SOPInstanceUID.encode())
    assert status == 0xA900


def test_a_command_of_another_class_than_its_context_is_answered_with_0122(node):
    ds = make_object(DX)
    with associated(node.port) as assoc:
        assert store_object(assoc, ds)[0] == 0x0122
    assert sources(node) == []


@pytest.mark.parametrize(
    ("syntax", "data"),
    [
        (EXPLICIT, b"this is a text file, not a data set" * 100),
        (EXPLICIT, b""),
        (EXPLICIT, encoded(make_object(uid="1.2.3"), IMPLICIT)),
        (codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, b"\xff" * 500),
    ],
    ids=["text", "empty", "implicit as explicit", "not deflated"],
)
def test_a_data_set_that_cannot_be_read_is_answered_with_c000(node, syntax, data):
    with associated(node.port, [(CR, syntax)]) as assoc:
        assert raw_store(assoc, data, sop_instance=b"1.2.3")[0] == 0xC000
    assert sources(node) == []
    assert still_receives(node)


class BrokenStore(LocalStore):
    """A store that cannot take anything, for a reason of the test's choice."""

    failure: Exception | None = None

    def put(self, file: Path, kind: str, suffix: str = "") -> Stored:
        if self.failure is not None:
            raise self.failure
        return super().put(file, kind, suffix)


@pytest.mark.parametrize(
    ("failure", "status", "comment"),
    [
        (StoreFull("0 bytes are free"), 0xA700, "no room on disk"),
        (StoreError("the share is gone"), 0xA700, "the storage does not answer"),
        (RuntimeError("PatientName is Test^Case"), 0x0110, "internal error"),
    ],
)
def test_success_is_never_answered_though_the_store_failed(tmp_path, failure, status, comment):
    store = BrokenStore(tmp_path / "objects")
    with receiving(make_settings(tmp_path), store) as node:
        store.failure = failure
        with associated(node.port) as assoc:
            assert store_object(assoc, make_object()) == (status, comment)
        assert (sources(node), jobs(node), node.spooled) == ([], [], [])
        store.failure = None
        assert still_receives(node)


def test_a_full_disk_is_answered_with_a700_and_leaves_nothing(node):
    ds = make_object(size=600)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with associated(node.port) as assoc:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
        try:
            status, comment = store_object(assoc, ds)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (status, comment) == (0xA700, "cannot write: File too large")
        assert node.spooled == []
        assert store_object(assoc, ds) == (0x0000, None)


def test_a_locked_database_is_answered_with_a700(node):
    event.listen(node.database.engine, "connect", lambda c, _: c.execute("PRAGMA busy_timeout=100"))
    node.database.engine.dispose()
    locker = sqlite3.connect(node.settings.data_dir / "cxr-sr.db", isolation_level=None)
    try:
        locker.execute("BEGIN EXCLUSIVE")
        with associated(node.port) as assoc:
            assert store_object(assoc, make_object()) == (0xA700, "the database does not answer")
    finally:
        locker.execute("ROLLBACK")
        locker.close()
    assert still_receives(node)


def test_a_full_queue_is_answered_with_a700(tmp_path):
    with receiving(make_settings(tmp_path, queue={"max_waiting": 1})) as node, associated(node.port) as assoc:
        assert store_object(assoc, make_object())[0] == 0x0000
        assert store_object(assoc, make_object()) == (0xA700, "too many images are waiting")
        assert len(sources(node)) == 1
        assert node.spooled == []


def test_an_oversized_object_is_answered_with_a700(tmp_path):
    settings = make_settings(tmp_path, dicom={"max_object_bytes": 65536})
    with receiving(settings) as node, associated(node.port) as assoc:
        status, comment = store_object(assoc, make_object(size=200))
        assert (status, comment) == (0xA700, "the object has more than 65536 bytes")
        assert store_object(assoc, make_object()) == (0x0000, None)
        assert node.spooled == []


def test_an_endless_object_is_aborted(tmp_path):
    settings = make_settings(tmp_path, dicom={"max_object_bytes": 65536})
    with receiving(settings) as node:
        with associated(node.port) as assoc:
            send_fragment(assoc, 3, command_set(CR, b"1.2.3"))
            for _ in range(30):
                send_fragment(assoc, 0, bytes(10_000))
            assert eventually(lambda: not assoc.is_established)
        assert still_receives(node)


def test_a_pdu_longer_than_announced_is_aborted_before_it_is_read(node):
    with associated(node.port) as assoc:
        connection = wire(assoc)
        connection.sendall(struct.pack(">BBI", 4, 0, 300 << 20) + bytes(1000))
        assert eventually(lambda: not assoc.is_established)
        assert assoc.is_aborted
    assert still_receives(node)


@pytest.mark.parametrize("control", [0, 2], ids=["first fragment", "last fragment"])
def test_a_data_set_without_a_command_is_aborted(node, control):
    with associated(node.port) as assoc:
        send_fragment(assoc, control, b"data")
        assert eventually(lambda: not assoc.is_established)
    assert still_receives(node)


@pytest.mark.parametrize(
    "encoded_command", [b"", b"\x00" * 7, b"\xff" * 200, command_set(CR, b"1.2.3", field=0x0020)], ids=len
)
def test_a_command_that_makes_no_sense_is_aborted(node, encoded_command):
    with associated(node.port) as assoc:
        send_fragment(assoc, 3, encoded_command)
        assert eventually(lambda: not assoc.is_established)
    assert still_receives(node)


def test_an_endless_command_is_aborted(node):
    with associated(node.port) as assoc:
        for _ in range(20):
            send_fragment(assoc, 1, bytes(10_000))
        assert eventually(lambda: not assoc.is_established)
    assert still_receives(node)


def test_an_object_cut_off_midway_leaves_nothing(node):
    with associated(node.port) as assoc:
        send_fragment(assoc, 3, command_set(CR, b"1.2.3"))
        send_fragment(assoc, 0, encoded(make_object()))
        assert eventually(lambda: len(node.spooled) == 1)
        wire(assoc).shutdown(socket.SHUT_RDWR)
        assert eventually(lambda: node.spooled == [])
    assert sources(node) == []
    assert eventually(lambda: node.receiver.server.open_connections() == 0)
    assert still_receives(node)


def test_a_peer_that_falls_silent_in_the_middle_of_a_pdu_is_cut_off(tmp_path):
    with receiving(make_settings(tmp_path, dicom={"network_timeout": 0.5})) as node:
        with associated(node.port) as assoc:
            wire(assoc).sendall(struct.pack(">BBI", 4, 0, 1000) + b"half")
            assert eventually(lambda: node.receiver.server.open_connections() == 0)
        assert still_receives(node)


class SlowStore(LocalStore):
    def put(self, file: Path, kind: str, suffix: str = "") -> Stored:
        time.sleep(0.8)
        return super().put(file, kind, suffix)


def test_stopping_lets_an_object_on_its_way_arrive(tmp_path):
    with receiving(make_settings(tmp_path), SlowStore(tmp_path / "objects")) as node:
        with associated(node.port) as assoc:
            closer = threading.Timer(0.3, node.receiver.close, args=(3,))
            closer.start()
            assert store_object(assoc, make_object()) == (0x0000, None)
            assoc.release()
        closer.join()
        assert len(jobs(node)) == 1
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", node.port))


def test_what_a_killed_receiver_left_in_the_spool_is_swept_at_the_start(tmp_path):
    spool = tmp_path / "objects" / "spool"
    dead = spool / "dimse-0"
    dead.mkdir(parents=True)
    (dead / "half.part").write_bytes(b"half an object")
    (spool / "dimse-0.lock").touch()
    (spool / "upload.part").touch()
    with receiving(make_settings(tmp_path)) as node, receiving(make_settings(tmp_path)) as other:
        assert not dead.exists()
        assert (spool / "upload.part").exists()
        assert node.receiver.spool.folder.exists(), (
            "a second receiver sweeps what the dead left, not the living"
        )
        assert other.receiver.spool.folder != node.receiver.spool.folder
    assert [path.name for path in spool.iterdir()] == ["upload.part"]


def test_the_role_shows_itself_with_its_port_and_stops_when_told(tmp_path):
    settings = make_settings(tmp_path)
    with receiving(settings) as node:
        stop = threading.Event()
        role = threading.Thread(target=receiver.run, args=(settings, stop))
        role.start()

        def instances() -> list[RoleInstance]:
            with node.database.read() as session:
                return list(session.scalars(select(RoleInstance).where(RoleInstance.role == "receiver")))

        try:
            assert eventually(instances)
            port = instances()[0].info["port"]
            with associated(port) as assoc:
                assert store_object(assoc, make_object(uid=generate_uid())) == (0x0000, None)
        finally:
            stop.set()
            role.join(10)
        assert not role.is_alive()
        assert instances()[0].stopped_at is not None
