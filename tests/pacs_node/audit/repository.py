"""An audit repository: it takes syslog in octet counting, over TLS or plain TCP, as a test wants it to."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from typing import Any

from tests.pacs_node.certificates import Pair


class Repository:
    """Listens on loopback; `lines` are the syslog messages that arrived whole, in their order.

    reset_after: of the first connection so many bytes are read, then it is reset.
    """

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, reset_after: int | None = None, port: int = 0
    ) -> None:
        self.lines: list[bytes] = []
        self.connections = 0
        self.subjects: list[str] = []
        self._tls, self._reset_after = tls, reset_after
        self._closing = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", port))
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, name="repository", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(30)

    @property
    def messages(self) -> list[bytes]:
        """The audit messages alone."""
        return [line[line.index(b"<?xml") :] for line in self.lines]

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(30)
                with contextlib.suppress(OSError, ValueError):  # ValueError: that was no syslog
                    self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        self.connections += 1
        if self._reset_after is not None:
            wanted, self._reset_after = self._reset_after, None
            while wanted > 0 and (data := connection.recv(min(wanted, 4096))):
                wanted -= len(data)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        if self._tls is None:
            self._read(connection)
            return
        with self._tls.wrap_socket(connection, server_side=True) as encrypted:
            shown: dict[str, Any] = encrypted.getpeercert() or {}
            self.subjects += [value for part in shown.get("subject", ()) for _, value in part]
            self._read(encrypted)
            with contextlib.suppress(OSError):
                encrypted.unwrap()

    def _read(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while size := b"".join(iter(lambda: stream.read(1), b" ")) if stream.peek(1) else b"":
                line = stream.read(int(size))
                if len(line) == int(size):
                    self.lines.append(line)


def server_context(pair: Pair, *, ca: str | None = None) -> ssl.SSLContext:
    """TLS for a repository; with `ca` it asks for the client's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    if ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(ca)
    return context


@contextlib.contextmanager
def repository(
    *, tls: ssl.SSLContext | None = None, reset_after: int | None = None, port: int = 0
) -> Iterator[Repository]:
    """A repository at work; afterwards nothing of it is left."""
    one = Repository(tls=tls, reset_after=reset_after, port=port)
    try:
        yield one
    finally:
        one.close()
