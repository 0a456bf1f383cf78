"""Who is not let in is told so and nothing else: not a byte after the request is read, none of its items
decoded."""

from __future__ import annotations

import socket
import ssl
import struct
import time

import pytest

from config.network import DicomTls, Peer
from cxr_sr import cli
from pacs_node.acceptor import Acceptor, _BoundedSocket, _Dul
from tests.faults import wire
from tests.faults.wire import Line
from tests.pacs_node.certificates import Authority
from tests.pacs_node.nodes import eventually, make_settings, receiving, sources, still_receives

ALLOWED = (Peer(ae_title="MODALITY", address="127.0.0.1"), Peer(ae_title="OTHER", address="127.0.0.9"))
FLOOD = wire.p_data(wire.pdv(3, 0, bytes(16000))) * 64


@pytest.fixture
def read(monkeypatch) -> list[int]:
    """Return a list that gets the number of bytes of each piece that the receiver reads."""
    pieces: list[int] = []
    whole = _BoundedSocket.recv

    def recv(self: _BoundedSocket, nr_bytes: int) -> bytearray:
        data = whole(self, nr_bytes)
        pieces.append(len(data))
        return data

    monkeypatch.setattr(_BoundedSocket, "recv", recv)
    return pieces


@pytest.mark.parametrize(
    ("calling", "address", "called", "reason"),
    [
        ("STRANGER", "127.0.0.1", "CXR_SR", 3),
        ("MODALITY", "127.0.0.2", "CXR_SR", 3),
        ("OTHER", "127.0.0.1", "CXR_SR", 3),
        ("MODALITY", "127.0.0.1", "SOMEBODY", 7),
    ],
)
def test_a_stranger_is_rejected_before_anything_but_its_request_is_read(
    tmp_path, read, calling, address, called, reason
):
    request = wire.associate_rq(calling, called)
    with receiving(make_settings(tmp_path, dicom={"allow": ALLOWED})) as node:
        with Line(node.port, address=address) as line:
            line.say(request)
            assert line.hear() == (wire.RJ, struct.pack(">4B", 0, 1, 1, reason))
            line.say(FLOOD)
            assert line.hear() is None
        assert eventually(lambda: node.receiver.server.open_connections() == 0)
        assert sum(read) <= len(request)
        with Line(node.port, address=address) as line:
            line.say(request + FLOOD)  # waits for no answer
            assert line.end() in ([wire.RJ], [])
        assert eventually(lambda: node.receiver.server.open_connections() == 0)
        assert sum(read) <= 2 * len(request)
        assert sources(node) == node.spooled == []
        assert still_receives(node)


def test_of_a_strangers_request_nothing_but_its_titles_is_decoded(tmp_path, monkeypatch):
    decoded: list[int] = []
    library = _Dul.__mro__[1]._decode_pdu  # type: ignore[attr-defined]

    def decode(self: _Dul, data: bytearray) -> object:
        decoded.append(len(data))
        return library(self, data)

    monkeypatch.setattr(_Dul.__mro__[1], "_decode_pdu", decode)
    broken = wire.associate_rq("STRANGER", items=b"\xff" * 200_000)
    with receiving(make_settings(tmp_path, dicom={"allow": ALLOWED})) as node:
        with Line(node.port) as line:
            line.say(broken)
            heard = line.hear()
            assert heard is not None
            assert heard[0] == wire.RJ
        assert node.receiver.facts()["refused"] == {"calling": 1}
    assert decoded == [74]


@pytest.mark.parametrize(
    "first",
    [
        wire.echo(),
        FLOOD[:70_000],
        wire.pdu(wire.AC, bytes(100_000)),
        wire.pdu(wire.RQ, b"", 1 << 19),
        b"\0" * 9,
    ],
    ids=["echo", "data", "acceptance", "a request of half a megabyte", "zeros"],
)
def test_whatever_else_comes_first_ends_the_connection(tmp_path, first):
    with receiving(make_settings(tmp_path)) as node:
        with Line(node.port) as line:
            line.say(first)
            assert set(line.end()) <= {wire.ABORT}
        assert eventually(lambda: node.receiver.server.open_connections() == 0)
        assert still_receives(node)


def _converse(context: ssl.SSLContext, bare: socket.socket) -> None:
    """Shake hands, ask for an association, and wait for an answer. Raises OSError when it is cut off."""
    with context.wrap_socket(bare) as line:
        line.sendall(wire.associate_rq())
        if not line.recv(1):
            raise ConnectionResetError


def test_without_a_certificate_where_one_is_asked_for_no_association_is_made_at_all(tmp_path, monkeypatch):
    authority = Authority(tmp_path / "ca")
    pair = authority.issue("server")
    made: list[str] = []
    monkeypatch.setattr(Acceptor, "start", lambda self: made.append("association"))
    tls = DicomTls(port=0, cert=pair.cert, key=pair.key, ca=authority.ca)
    context = ssl.create_default_context(cafile=str(authority.ca))
    context.check_hostname = False
    with receiving(make_settings(tmp_path / "node", dicom={"tls": tls, "allow": ALLOWED})) as node:
        with socket.create_connection(("127.0.0.1", node.tls_port), timeout=60) as bare:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                _converse(context, bare)
        assert eventually(lambda: node.receiver.facts()["refused"] == {"tls": 1})
        assert eventually(lambda: node.receiver.server.open_connections() == 0)
    assert made == []


def test_a_request_that_comes_a_byte_at_a_time_is_given_up(tmp_path):
    with receiving(make_settings(tmp_path, dicom={"acse_timeout": 0.6})) as node:
        with Line(node.port) as line:
            request = wire.associate_rq()
            deadline = time.monotonic() + 60
            for byte in request:
                if not line.say(bytes([byte])):
                    break
                time.sleep(0.02)
                assert time.monotonic() < deadline
            else:
                pytest.fail("it was listened to for as long as it liked")
        assert eventually(lambda: node.receiver.server.open_connections() == 0)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "::ffff:0.0.0.0"])
def test_listening_beyond_loopback_without_a_list_is_refused_at_start(tmp_path, capsys, host):
    file = tmp_path / "node.toml"
    file.write_text(f'data_dir = "{tmp_path / "var"}"\n[dicom]\nhost = "{host}"\n')
    assert cli.run(["serve", "--config", str(file)]) == 1
    shown = capsys.readouterr().err
    assert (
        f"dicom.allow: expected the callers to accept, because dicom.host {host!r} is not loopback" in shown
    )
    assert not (tmp_path / "var").exists()
