"""A storage SCP without manners: each connection is served by a script of the test's choice, byte by byte.

Real peers behave (dcmtk, Orthanc, pynetdicom); this one hangs, lies and breaks off exactly where it is told.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

RQ, AC, RJ, DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

Behaviour = Callable[["Wire"], None]


class Gone(Exception):
    """The other side has ended the connection."""


@dataclass(frozen=True)
class Request:
    """A C-STORE request: its context, its message id, and the instance that it is about."""

    context_id: int
    message_id: int
    sop_class: str
    sop_instance: str


@dataclass
class Wire:
    """One connection to us, as the script sees it. What it leaves undone stays undone."""

    peer: Strange
    connection: socket.socket
    pieces: deque[tuple[int, int, bytes]] = field(default_factory=deque)

    def hang(self) -> None:
        """Say nothing more and read nothing more until the test is over."""
        self.peer.hanging.release()
        self.peer.closed.wait()

    def send(self, data: bytes) -> None:
        try:
            self.connection.sendall(data)
        except OSError:
            raise Gone from None

    def send_pdu(self, kind: int, body: bytes) -> None:
        self.send(struct.pack(">BBL", kind, 0, len(body)) + body)

    def send_data(self, fragment: bytes, *, context_id: int = 1, control: int = 3) -> None:
        """One P-DATA-TF with one fragment; `control`: 1 a command, 2 the last of it."""
        self.send_pdu(DATA, struct.pack(">LBB", len(fragment) + 2, context_id, control) + fragment)

    def read(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            try:
                piece = self.connection.recv(count - len(data))
            except OSError:
                raise Gone from None
            if not piece:
                raise Gone
            data += piece
        return data

    def pdu(self) -> tuple[int, bytes]:
        kind, _, length = struct.unpack(">BBL", self.read(6))
        return kind, self.read(length)

    def asked(self) -> bytes:
        """The A-ASSOCIATE-RQ, without an answer to it."""
        kind, body = self.pdu()
        assert kind == RQ
        return body

    def associate(self, max_pdu: int = 16384) -> None:
        """Accept every context in its first transfer syntax."""
        self.send_pdu(AC, acceptance(self.asked(), max_pdu))

    def reject(self, result: int, source: int, reason: int) -> None:
        self.asked()
        self.send_pdu(RJ, bytes([0, result, source, reason]))
        self.until_gone()

    def request(self) -> Request | None:
        """The next C-STORE request, whose data set is still to be read; None when a release is asked for."""
        command = b""
        while True:
            piece = self._piece()
            if piece is None:
                return None
            context_id, control, data = piece
            assert control & 1
            command += data
            if control & 2:
                return _request(context_id, command)

    def data_set(self) -> bytes:
        """The data set of the request before, to its end."""
        whole = bytearray()
        while (piece := self._piece()) is not None:
            whole += piece[2]
            if piece[1] & 2:
                return bytes(whole)
        raise AssertionError("a release in the middle of a data set")

    def take(self, request: Request) -> None:
        """Read the data set, and remember what came under which name."""
        digest = hashlib.sha256(self.data_set()).hexdigest()
        with self.peer.lock:
            self.peer.received.append((request.sop_instance, digest))

    def respond(
        self, request: Request, status: int, comment: str = "", *, message_id: int | None = None
    ) -> None:
        told = request.message_id if message_id is None else message_id
        self.send_data(response(request, status, comment, told), context_id=request.context_id)

    def release(self) -> None:
        """Answer a release."""
        self.send_pdu(RELEASE_RP, bytes(4))
        self.until_gone()

    def abort(self) -> None:
        self.send_pdu(ABORT, bytes(4))
        self.until_gone()

    def reset(self) -> None:
        """End the connection without its last words reaching anybody."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def until_gone(self) -> None:
        """Read whatever comes until the other side ends the connection."""
        while True:
            self.read(1)

    def encrypt(self, context: ssl.SSLContext) -> None:
        try:
            self.connection = context.wrap_socket(self.connection, server_side=True)
        except OSError:
            raise Gone from None

    def _piece(self) -> tuple[int, int, bytes] | None:
        """The next fragment: context, control, bytes; None when a release is asked for."""
        while not self.pieces:
            kind, body = self.pdu()
            if kind == RELEASE_RQ:
                return None
            if kind == ABORT:
                raise Gone
            assert kind == DATA, kind
            while body:
                length, context_id, control = struct.unpack(">LBB", body[:6])
                self.pieces.append((context_id, control, body[6 : 4 + length]))
                body = body[4 + length :]
        return self.pieces.popleft()


@dataclass
class Strange:
    """Listens on loopback. The n-th connection is served by the n-th script, all further ones by the last.

    received: UID and SHA-256 of each data set that came whole, in the order of arrival.
    """

    behaviours: Sequence[Behaviour]
    port: int = 0
    received: list[tuple[str, str]] = field(default_factory=list)
    connections: int = 0
    trouble: list[str] = field(default_factory=list)
    """What went wrong in a script: a fault of the test, not of the product."""

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.closed = threading.Event()
        self.hanging = threading.Semaphore(0)
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self.closed.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self.lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while not self.closed.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self.lock:
                self._open.append(connection)
                script = self.behaviours[min(self.connections, len(self.behaviours) - 1)]
                self.connections += 1
            thread = threading.Thread(target=self._serve, args=(connection, script), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, script: Behaviour) -> None:
        wire = Wire(self, connection)
        try:
            script(wire)
        except Gone:
            pass
        except Exception as error:
            self.trouble.append(f"{type(error).__name__}: {error}")
        finally:
            wire.connection.close()


@contextlib.contextmanager
def strange(*behaviours: Behaviour, port: int = 0) -> Iterator[Strange]:
    """A peer at work until the block ends; its scripts must have gone as they were written."""
    peer = Strange(behaviours, port)
    try:
        yield peer
    finally:
        peer.close()
    assert peer.trouble == []


def good(wire: Wire) -> None:
    """Store everything, in order."""
    answering(0x0000)(wire)


def answering(status: int, comment: str = "") -> Behaviour:
    """Take every object and answer with this status."""

    def serve(wire: Wire) -> None:
        wire.associate()
        while (request := wire.request()) is not None:
            wire.take(request)
            wire.respond(request, status, comment)
        wire.release()

    return serve


def acceptance(request: bytes, max_pdu: int) -> bytes:
    """The body of an A-ASSOCIATE-AC for that of a request (PS3.8 section 9.3)."""
    body, contexts, rest = request[:68], b"", request[68:]
    while rest:
        kind, length = rest[0], int.from_bytes(rest[2:4], "big")
        item, rest = rest[4 : 4 + length], rest[4 + length :]
        if kind == 0x10:
            body += _item(0x10, item)
        elif kind == 0x20:
            abstract = int.from_bytes(item[6:8], "big")
            syntax = item[8 + abstract :]
            first = syntax[: 4 + int.from_bytes(syntax[2:4], "big")]
            contexts += _item(0x21, bytes([item[0], 0, 0, 0]) + first)
    user = _item(0x51, struct.pack(">L", max_pdu)) + _item(0x52, b"1.2.826.0.1.3680043.8.498.1")
    return body + contexts + _item(0x50, user)


def response(request: Request, status: int, comment: str = "", message_id: int | None = None) -> bytes:
    """An encoded C-STORE-RSP command set."""
    words = comment.encode() + b" " * (len(comment) % 2)
    body = (
        _element(0x0002, _uid(request.sop_class))
        + _element(0x0100, struct.pack("<H", 0x8001))
        + _element(0x0120, struct.pack("<H", request.message_id if message_id is None else message_id))
        + _element(0x0800, struct.pack("<H", 0x0101))
        + _element(0x0900, struct.pack("<H", status))
        + (_element(0x0902, words) if comment else b"")
        + _element(0x1000, _uid(request.sop_instance))
    )
    return _element(0x0000, struct.pack("<I", len(body))) + body


def _request(context_id: int, command: bytes) -> Request:
    values: dict[int, bytes] = {}
    while command:
        number, length = struct.unpack("<2xHI", command[:8])
        values[number], command = command[8 : 8 + length], command[8 + length :]
    assert values[0x0100] == b"\x01\x00"
    return Request(
        context_id,
        struct.unpack("<H", values[0x0110])[0],
        values[0x0002].rstrip(b"\0").decode(),
        values[0x1000].rstrip(b"\0").decode(),
    )


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def _element(number: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, number, len(value)) + value


def _uid(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)
