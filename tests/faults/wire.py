"""The upper layer and DIMSE as bytes, for peers that no library would play: every length can be a lie."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Sequence

VERIFICATION = "1.2.840.10008.1.1"
COMMITMENT = "1.2.840.10008.1.20.1"
CR = "1.2.840.10008.5.1.4.1.1.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, IMPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"

RQ, AC, RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)

CONTEXTS: tuple[tuple[int, str, tuple[str, ...]], ...] = (
    (1, VERIFICATION, (IMPLICIT,)),
    (3, CR, (EXPLICIT,)),
    (5, CR, (DEFLATED, IMPLICIT)),
    (7, COMMITMENT, (EXPLICIT,)),
    (9, CT, (EXPLICIT,)),
)
"""What our peers propose: an id, a SOP class, its transfer syntaxes. The last is not accepted."""


def pdu(kind: int, body: bytes, length: int | None = None) -> bytes:
    """A PDU whose length may be a lie (PS3.8 9.3)."""
    return struct.pack(">BBI", kind, 0, len(body) if length is None else length & 0xFFFFFFFF) + body


def item(kind: int, body: bytes, length: int | None = None) -> bytes:
    """An item or sub-item of an A-ASSOCIATE PDU."""
    return struct.pack(">BBH", kind, 0, (len(body) if length is None else length) & 0xFFFF) + body


def context_item(number: int, abstract: str, syntaxes: Sequence[str]) -> bytes:
    """A presentation context as it is proposed."""
    names = item(0x30, abstract.encode()) + b"".join(item(0x40, uid.encode()) for uid in syntaxes)
    return item(0x20, struct.pack(">BBBB", number, 0, 0, 0) + names)


def user_items(max_pdu: int = 16384, *more: bytes) -> bytes:
    """The user information item."""
    return item(0x50, item(0x51, struct.pack(">I", max_pdu)) + item(0x52, b"1.2.3.4") + b"".join(more))


def associate_rq(
    calling: str | bytes = "MODALITY", called: str | bytes = "CXR_SR", items: bytes | None = None
) -> bytes:
    """An A-ASSOCIATE-RQ; `items` in place of application context, our contexts and user information."""
    if items is None:
        contexts = b"".join(context_item(*context) for context in CONTEXTS)
        items = item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + user_items()
    return pdu(RQ, struct.pack(">HH16s16s32x", 1, 0, _title(called), _title(calling)) + items)


def _title(name: str | bytes) -> bytes:
    return (name if isinstance(name, bytes) else name.encode()).ljust(16)[:16]


def pdv(context: int, control: int, data: bytes, length: int | None = None) -> bytes:
    """A presentation data value; control: bit 0 a command, bit 1 the last fragment."""
    return (
        struct.pack(">IBB", (len(data) + 2 if length is None else length) & 0xFFFFFFFF, context, control)
        + data
    )


def p_data(*values: bytes) -> bytes:
    """A P-DATA-TF of these presentation data values."""
    return pdu(P_DATA, b"".join(values))


def element(number: int, value: bytes, length: int | None = None, group: int = 0) -> bytes:
    """An element in Implicit VR Little Endian."""
    return struct.pack("<HHI", group, number, (len(value) if length is None else length) & 0xFFFFFFFF) + value


def command(field: int, *, data_set: int = 1, message_id: int = 7, more: bytes = b"", **uids: bytes) -> bytes:
    """A command set; `uids`: sop_class and sop_instance as bytes that need be no UIDs."""
    body = b""
    if "sop_class" in uids:
        body += element(0x0002, _even(uids["sop_class"]))
    body += element(0x0100, struct.pack("<H", field & 0xFFFF))
    responds = bool(field & 0x8000) or field == 0x0FFF
    body += element(0x0120 if responds else 0x0110, struct.pack("<H", message_id & 0xFFFF))
    body += element(0x0800, struct.pack("<H", data_set))
    if "sop_instance" in uids:
        body += element(0x1000, _even(uids["sop_instance"]))
    return element(0x0000, struct.pack("<I", len(body) + len(more))) + body + more


def _even(value: bytes) -> bytes:
    return value + b"\0" * (len(value) % 2)


def echo(message_id: int = 1) -> bytes:
    """A whole C-ECHO request on context 1."""
    told = command(0x0030, data_set=0x0101, message_id=message_id, sop_class=VERIFICATION.encode())
    return p_data(pdv(1, 3, told))


class Line:
    """A bare connection to a node. Use as a context manager."""

    def __init__(self, port: int, *, address: str = "127.0.0.1", seconds: float = 60) -> None:
        self.socket = socket.create_connection(
            ("127.0.0.1", port), timeout=seconds, source_address=(address, 0)
        )

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, data: bytes) -> bool:
        """Send; False where the node has closed already."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def hear(self, most: int = 1 << 16) -> tuple[int, bytes] | None:
        """The next PDU, kind and body; None when the node closes instead. Raises TimeoutError."""
        head = self._exactly(6)
        if head is None:
            return None
        kind, _, length = struct.unpack(">BBI", head)
        assert length <= most, "the node never sends so much"
        body = self._exactly(length)
        return None if body is None else (kind, body)

    def end(self) -> list[int]:
        """Say no more, and hear the kinds of PDUs that still come until the node closes."""
        kinds: list[int] = []
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
            while (heard := self.hear()) is not None:
                kinds.append(heard[0])
        return kinds

    def _exactly(self, count: int) -> bytes | None:
        data = b""
        while len(data) < count:
            try:
                piece = self.socket.recv(count - len(data))
            except ConnectionError:
                return None
            if not piece:
                return None
            data += piece
        return data
