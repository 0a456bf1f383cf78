from __future__ import annotations

import contextlib
import socket
import ssl
import threading

import pytest

from config import Destination
from config.network import DicomTls
from pacs_node import tls
from pacs_node.sockets import readable, sever
from tests.pacs_node.certificates import Authority


@pytest.fixture
def encrypted(tmp_path):
    """Return both ends of a TLS connection."""
    authority = Authority(tmp_path)
    pair = authority.issue("server")
    server = tls.server_credentials(DicomTls(cert=pair.cert, key=pair.key)).context()
    given = {"name": "x", "ae_title": "X", "host": "127.0.0.1", "port": 1, "tls_ca": authority.ca}
    client = tls.client_context(Destination(**given))
    ours, theirs = socket.socketpair()
    ends: list[ssl.SSLSocket] = []
    accepting = threading.Thread(target=lambda: ends.append(server.wrap_socket(theirs, server_side=True)))
    accepting.start()
    near = client.wrap_socket(ours, server_hostname="127.0.0.1")
    accepting.join()
    yield near, ends[0]
    near.close()
    ends[0].close()


def test_what_is_severed_is_never_read_as_ciphertext_nor_written_in_clear(encrypted):
    near, far = encrypted
    far.sendall(b"data")
    assert readable(near, 60)
    sever(near)
    with contextlib.suppress(OSError):
        assert near.recv(1024) in (b"data", b"")
    with pytest.raises(OSError, match=r"."):
        near.send(b"more")
    with contextlib.suppress(OSError):
        assert far.recv(1024) == b""


def test_who_waits_for_a_severed_connection_is_woken(encrypted):
    near, _ = encrypted
    woken: list[bytes] = []

    def wait() -> None:
        with contextlib.suppress(OSError):
            woken.append(near.recv(1))
        woken.append(b"")

    waiting = threading.Thread(target=wait)
    waiting.start()
    sever(near)
    waiting.join(60)
    assert not waiting.is_alive()
    assert woken[-1] == b""


def test_a_silent_connection_is_not_readable_and_one_that_ended_is():
    near, far = socket.socketpair()
    with near:
        assert not readable(near, 0.01)
        far.close()
        assert readable(near, 60)
    with pytest.raises(ValueError, match="file descriptor"):
        readable(near)
