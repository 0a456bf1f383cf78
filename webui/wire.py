"""Connections as strangers keep them: who says little, slowly, holds no thread for long.

gunicorn's threads wait for a request as long as its sender likes, and for a reader as long as it likes. Here
a connection costs no thread until its first byte is there, and then has some seconds of patience: waiting
uses them up, bytes that come or go win them back. While many threads wait the patience is short, so that
those who say nothing never take all of them.
"""

from __future__ import annotations

import errno
import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any

import structlog
from gunicorn.http import get_parser
from gunicorn.workers.gthread import TConn

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 15.0
"""How long one connection's silences may last together, less what its bytes have won back."""
CROWDED_HEAD_SECONDS = 1.0
CROWDED_SECONDS = 2.0
"""The same while a quarter of the threads waits: within a request's head, and in its body or its answer."""
SLOWEST_BYTES_PER_SECOND = 4096
LINGER_SECONDS, MOST_DRAINED = 2.0, 64 << 10
"""How long, and for how many bytes, a connection that ends waits for its peer to close."""
_SLICE = 32 << 10
"""Bytes that are sent at once: at the slowest speed half of the patience."""
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: with forward secrecy and authenticated. TLS 1.3 has no others."""


class Crowd:
    """Counts the threads that wait for a peer."""

    def __init__(self, threads: int) -> None:
        self._many, self._waiting, self._lock = max(2, threads // 4), 0, Lock()

    @property
    def crowded(self) -> bool:
        """Whether more threads wait than may take their time."""
        return self._waiting > self._many

    def __enter__(self) -> Crowd:
        with self._lock:
            self._waiting += 1
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._waiting -= 1


class PacedSocket:
    """A socket that reads and writes with patience. Raises ConnectionResetError when it is used up."""

    def __init__(self, sock: Any, crowd: Crowd) -> None:
        self._sock, self._crowd = sock, crowd
        self._left = PATIENCE_SECONDS
        self.in_head = True
        """Whether what is read now is a request's head."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def begin(self) -> None:
        """Another request begins."""
        self._left, self.in_head = PATIENCE_SECONDS, True

    def handshake(self, certificate: Certificate) -> None:
        """Go over to TLS."""
        # plain until here: what the peer says first belongs to TLS
        self._sock = certificate.context().wrap_socket(
            self._sock, server_side=True, do_handshake_on_connect=False, suppress_ragged_eofs=True
        )
        self._wait(self._sock.do_handshake, 0)

    def recv(self, size: int) -> bytes:
        """As a socket's, waiting with patience."""
        data: bytes = self._wait(lambda: self._sock.recv(size), None)
        return data

    def sendall(self, data: Any) -> None:
        """As a socket's, waiting with patience."""
        rest = memoryview(data).cast("B")
        while rest:
            part, rest = rest[:_SLICE], rest[_SLICE:]
            self._wait(lambda part=part: self._sock.sendall(part), len(part))

    def drain(self) -> None:
        """Read what is still on its way, until the peer closes or for a moment."""
        self._left = min(self._left, LINGER_SECONDS)
        left = MOST_DRAINED
        while left > 0 and (data := self.recv(4096)):
            self._left -= len(data) / SLOWEST_BYTES_PER_SECOND
            left -= len(data)

    def _wait(self, act: Any, worth: int | None) -> Any:
        """What `act` returns; `worth`: the bytes that it moves, None for those that it returns."""
        began = time.monotonic()
        with self._crowd:
            self._sock.settimeout(self._allowed())
            try:
                done = act()
            except TimeoutError:
                raise _too_slow() from None
        self._left -= time.monotonic() - began
        moved = len(done) if worth is None else worth
        self._left = min(PATIENCE_SECONDS, self._left + moved / SLOWEST_BYTES_PER_SECOND)
        return done

    def _allowed(self) -> float:
        """Seconds that may be waited now; raises when there are none."""
        allowed = self._left
        if self._crowd.crowded:
            short = CROWDED_HEAD_SECONDS if self.in_head else CROWDED_SECONDS
            allowed -= max(0.0, PATIENCE_SECONDS - short)
        if allowed <= 0:
            raise _too_slow()
        return allowed


def _too_slow() -> ConnectionResetError:
    return ConnectionResetError(errno.ECONNRESET, "the peer is too slow")


class Connection(TConn):  # type: ignore[misc]  # gunicorn has no annotations
    """A connection that waits with patience, over TLS where there is a certificate."""

    def __init__(
        self, cfg: Any, sock: socket.socket, client: Any, server: Any, crowd: Crowd,
        certificate: Certificate | None,
    ) -> None:  # fmt: skip
        super().__init__(cfg, PacedSocket(sock, crowd), client, server)
        self.initialized = False
        self.certificate = certificate

    def init(self) -> None:
        """Prepare to read requests; called in a thread once something can be read."""
        self.sock.begin()
        if self.initialized:
            return
        self.initialized = True
        if self.certificate is not None:
            self.sock.handshake(self.certificate)
        self.parser = get_parser(self.cfg, self.sock, self.client)

    def part(self) -> None:
        """Say that no more comes, and let the peer read the answer before the socket goes. In a thread:
        gunicorn itself would do it in the one that accepts.
        """
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)
            self.sock.drain()

    def close(self, graceful: bool = False) -> None:
        """Close at once; :meth:`part` has been graceful."""
        super().close()


class Certificate:
    """The certificate of the settings; files that are replaced count from the next connection on."""

    def __init__(self, cert: Path, key: Path | None) -> None:
        """Raises OSError or ssl.SSLError for files that are none or do not belong together."""
        self._cert, self._key, self._lock = cert, key, Lock()
        self._stamp = self._now()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """For the next connection; while new files are not whole, the one before."""
        with self._lock:
            try:
                stamp = self._now()
                if stamp != self._stamp:
                    self._stamp = stamp
                    self._context = self._load()
                    log.info("certificate loaded anew")
            except OSError as error:  # an ssl.SSLError is one
                log.error("new certificate refused, the old one stays", error=type(error).__name__)
            return self._context

    def _now(self) -> tuple[tuple[int, int, int], ...]:
        found = (path.stat() for path in (self._cert, self._key) if path is not None)
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.load_cert_chain(self._cert, self._key)
        return context
