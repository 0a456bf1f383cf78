from __future__ import annotations

import contextlib
import random
import socket
import time

import pytest
from pynetdicom import evt
from pynetdicom.pdu import A_ASSOCIATE_RQ

from config.network import Peer
from pacs_node import receiver
from pacs_node.received import Caller
from tests.pacs_node.nodes import (
    Node,
    associated,
    dicom_threads,
    eventually,
    make_object,
    make_settings,
    receiving,
    rejection,
    sources,
    still_receives,
    store_object,
)


@pytest.fixture
def node(tmp_path):
    with receiving(make_settings(tmp_path)) as node:
        yield node


def test_an_association_that_nobody_closes_is_closed_after_its_silence(tmp_path):
    settings = make_settings(tmp_path, dicom={"network_timeout": 0.5, "max_associations": 1})
    with receiving(settings) as node, associated(node.port) as forgotten:
        with associated(node.port) as other:
            assert rejection(other) == "Local limit exceeded"
        assert eventually(lambda: not forgotten.is_established)
        assert eventually(lambda: node.receiver.server.open_connections() == 0)
        assert still_receives(node)


@pytest.mark.parametrize("calling", ["MODALITY", "STRANGER"])
def test_callers_that_are_not_on_the_list_are_rejected(tmp_path, calling):
    allow = (Peer(ae_title="MODALITY", address="127.0.0.0/8"), Peer(ae_title="STRANGER", address="10.1.2.3"))
    with receiving(make_settings(tmp_path, dicom={"allow": allow})) as node:
        with associated(node.port, calling=calling) as assoc:
            assert assoc.is_rejected is (calling == "STRANGER")
            if assoc.is_rejected:
                assert rejection(assoc) == "Calling AE title not recognised"


def test_who_calls_someone_else_is_rejected(node):
    with associated(node.port, called="SOMEBODY_ELSE") as assoc:
        assert rejection(assoc) == "Called AE title not recognised"


@pytest.mark.parametrize(
    ("address", "allow", "expected"),
    [
        ("127.0.0.1", (), True),
        ("::1", (), True),
        ("::ffff:127.0.0.1", (), True),
        ("192.168.1.7", (), False),
        ("192.168.1.7", (Peer(ae_title="CT1"),), True),
        ("192.168.1.7", (Peer(ae_title="CT1", address="192.168.1.7"),), True),
        ("::ffff:192.168.1.7", (Peer(ae_title="CT1", address="192.168.1.0/24"),), True),
        ("192.168.2.7", (Peer(ae_title="CT1", address="192.168.1.0/24"),), False),
        ("192.168.1.7", (Peer(ae_title="CT2", address="192.168.1.7"),), False),
    ],
)
def test_a_caller_is_known_by_title_and_address(address, allow, expected):
    assert receiver.may_call(Caller("CT1", "CXR_SR", address), allow) is expected


def test_associations_beyond_the_limit_are_rejected_until_one_ends(tmp_path):
    with receiving(make_settings(tmp_path, dicom={"max_associations": 2})) as node:
        with associated(node.port) as first, associated(node.port):
            with associated(node.port) as third:
                assert rejection(third) == "Local limit exceeded"
            first.release()
            assert eventually(lambda: node.receiver.server.open_associations() == 1)
            assert still_receives(node)


def test_silent_clients_neither_use_up_associations_nor_slow_the_others(tmp_path):
    with receiving(make_settings(tmp_path, dicom={"max_associations": 2, "acse_timeout": 20})) as node:
        silent = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(24)]
        try:
            assert still_receives(node)
            assert node.receiver.server.open_connections() >= 24, "nobody waited for their timeout"
        finally:
            for connection in silent:
                connection.close()
        assert eventually(lambda: node.receiver.server.open_connections() == 0)


def test_a_client_that_never_says_a_word_is_closed(tmp_path):
    with receiving(make_settings(tmp_path, dicom={"acse_timeout": 0.5})) as node:
        with socket.create_connection(("127.0.0.1", node.port)) as silent:
            silent.settimeout(5)
            assert silent.recv(1) == b""
        assert eventually(lambda: node.receiver.server.open_connections() == 0)


def test_connections_beyond_all_measure_are_not_held(tmp_path):
    with receiving(make_settings(tmp_path, dicom={"max_associations": 1})) as node:
        most = node.receiver.server.limits.max_connections
        silent = [socket.create_connection(("127.0.0.1", node.port)) for _ in range(most + 5)]
        try:
            ended = [connection for connection in silent if _is_ended(connection)]
            assert len(ended) >= 5
            assert node.receiver.server.open_connections() <= most
        finally:
            for connection in silent:
                connection.close()
        assert eventually(lambda: node.receiver.server.open_connections() == 0)
        assert still_receives(node)


def _is_ended(connection: socket.socket) -> bool:
    """Whether the other side has closed it; waits a little for that."""
    connection.settimeout(0.5)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def recorded_session(node: Node) -> list[bytes]:
    """The PDUs that a modality sends for one image."""
    sent: list[bytes] = []
    with associated(node.port) as assoc:
        assoc.bind(evt.EVT_DATA_SENT, lambda event: sent.append(event.data))
        request = A_ASSOCIATE_RQ()
        request.from_primitive(assoc.requestor.primitive)
        store_object(assoc, make_object())
    return [request.encode(), *sent]


def replay(node: Node, pdus: list[bytes], patience: float = 0.05) -> None:
    """Send a session on a bare connection: the request, then the rest, and read what is answered."""
    with socket.create_connection(("127.0.0.1", node.port)) as connection, contextlib.suppress(OSError):
        connection.settimeout(patience)
        connection.sendall(pdus[0])
        with contextlib.suppress(TimeoutError):
            connection.recv(4096)
        connection.sendall(b"".join(pdus[1:]))
        connection.shutdown(socket.SHUT_WR)
        connection.recv(4096)


def test_damaged_sessions_end_no_thread_and_leave_nothing(node):
    session = recorded_session(node)
    replay(node, session, patience=2)
    assert eventually(lambda: sources(node)[0].times_received == 2), "undamaged, it is a session"
    rng = random.Random(20260101)
    for _ in range(60):
        damaged = [bytearray(pdu) for pdu in session]
        for _ in range(rng.choice([1, 2, 8])):
            pdu = damaged[0 if rng.random() < 0.2 else rng.randrange(len(damaged))]
            where = rng.randrange(min(len(pdu), 300) or 1)
            if rng.random() < 0.1:
                del pdu[where:]
            elif pdu:
                pdu[where] = rng.randrange(256)
        replay(node, [bytes(pdu) or b"\x00" for pdu in damaged])
    assert eventually(lambda: node.receiver.server.open_connections() == 0, 10)
    assert node.spooled == []
    assert still_receives(node)


def test_connections_that_open_and_close_leave_no_thread_behind(node):
    before = len(dicom_threads())
    for _ in range(30):
        socket.create_connection(("127.0.0.1", node.port)).close()
    for _ in range(3):
        assert still_receives(node)
    assert eventually(lambda: len(dicom_threads()) <= before)
    assert node.receiver.server.open_connections() == 0


@pytest.mark.parametrize("part", [0, 1, 2], ids=["the request", "the command", "the data set"])
def test_a_session_that_comes_byte_by_byte_is_cut_off_in_its_time(tmp_path, part):
    """Each byte would begin a time-out anew: what counts is when the PDU began."""
    dicom = {"network_timeout": 0.5, "acse_timeout": 0.5}
    with receiving(make_settings(tmp_path, dicom=dicom)) as node:
        session = recorded_session(node)
        with socket.create_connection(("127.0.0.1", node.port)) as connection:
            for pdu in session[:part]:
                connection.sendall(pdu)
            ended = False
            for byte in session[part][:6] + bytes(5000):
                if _has_ended(connection):
                    ended = True
                    break
                with contextlib.suppress(OSError):
                    connection.send(bytes([byte]))
                time.sleep(0.004)
            assert ended
        assert eventually(lambda: node.receiver.server.open_connections() == 0)
        assert node.spooled == []
        assert still_receives(node)


def _has_ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        while connection.recv(4096):
            pass
        return True
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    finally:
        connection.setblocking(True)


def test_an_abort_in_the_middle_of_a_data_set_leaves_nothing(node):
    session = recorded_session(node)
    assert eventually(lambda: node.receiver.server.open_connections() == 0)
    for ending in (b"\x07\0\0\0\0\x04\0\0\0\0", b""):
        with socket.create_connection(("127.0.0.1", node.port)) as connection:
            connection.sendall(session[0])
            assert connection.recv(4096)
            connection.sendall(session[1] + session[2][: len(session[2]) // 2 if not ending else None])
            assert eventually(lambda: node.spooled) or ending
            connection.sendall(ending)
        assert eventually(lambda: node.receiver.server.open_connections() == 0)
        assert node.spooled == []
    assert still_receives(node)
