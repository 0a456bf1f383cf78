"""What strange peers say to a storage SCP: valid sessions, and the same with something wrong in them.

Strategies for Hypothesis; a session is the pieces of bytes that go over one connection.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from tests.faults import wire
from tests.pacs_node.nodes import CR, encoded, make_object

Session = list[bytes]
"""Pieces in the order in which they are sent; the first is the association request."""

_GOOD = make_object(uid="1.2.826.0.1.3680043.8.498.1")
_GOOD_BYTES = encoded(_GOOD)
UIDS = st.sampled_from([
    b"", b"1", b"1.2.3", b"../../etc/passwd", b"1.2.3\0\0", b"9" * 200, b"\xff\xfe", wire.CR.encode(), b"0.",
    wire.COMMITMENT.encode(), b"1.2.840.10008.1.20.1.1", _GOOD.SOPInstanceUID.encode(), b"1.2\\3", b" " * 64,
])  # fmt: skip
FIELDS = st.sampled_from([
    0x0001, 0x8001, 0x0010, 0x8010, 0x0020, 0x0021, 0x8021, 0x0030, 0x8030, 0x0100, 0x8100, 0x0110, 0x0120,
    0x0130, 0x8130, 0x0140, 0x0150, 0x0FFF, 0x0000, 0xFFFF, 0x1234,
])  # fmt: skip
NUMBERS = st.one_of(st.sampled_from([0, 1, 2, 3, 5, 7, 9, 11, 127, 254, 255]), st.integers(0, 255))
LENGTHS = st.one_of(
    st.sampled_from([0, 1, 2, 3, 5, 7, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 1 << 20, 262144]),
    st.integers(0, 4096),
)
SMALL = st.binary(max_size=60)

references = st.lists(UIDS, max_size=3).map(
    lambda uids: b"".join(wire.element(0x1155, uid + b"\0" * (len(uid) % 2), group=8) for uid in uids)
)
DATA = st.one_of(
    st.just(_GOOD_BYTES),
    st.just(_GOOD_BYTES[:77]),
    st.just(b""),
    SMALL,
    references,
    st.just(struct.pack("<HH2sHI", 8, 0x1199, b"SQ", 0, 0xFFFFFFFF) * 300),
    st.just(
        struct.pack("<HH2sHI", 8, 0x1199, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * 300
    ),
    st.just(bytes(20000)),
)


@st.composite
def commands(draw: Callable[[Any], Any]) -> bytes:
    """A command set: a plain one, one of odd parts, or one that is damaged."""
    kind = draw(st.sampled_from(["store", "echo", "cancel", "action", "event", "odd", "odd", "bytes"]))
    number = draw(st.sampled_from([0, 1, 7, 7, 65535]))
    if kind == "store":
        uid = draw(st.one_of(st.just(_GOOD.SOPInstanceUID.encode()), UIDS))
        return wire.command(0x0001, message_id=number, sop_class=CR.encode(), sop_instance=uid)
    if kind == "echo":
        return wire.command(0x0030, data_set=0x0101, message_id=number, sop_class=wire.VERIFICATION.encode())
    if kind == "cancel":
        return wire.command(0x0FFF, data_set=0x0101, message_id=number)
    if kind in ("action", "event"):
        field, type_id = (0x0130, 0x1008) if kind == "action" else (0x0100, 0x1002)
        told = wire.element(type_id, struct.pack("<H", draw(st.sampled_from([0, 1, 2, 9]))))
        return wire.command(
            field,
            message_id=number,
            more=told,
            sop_class=wire.COMMITMENT.encode(),
            sop_instance=b"1.2.840.10008.1.20.1.1",
        )
    if kind == "bytes":
        return bytes(draw(SMALL))
    more = b"".join(
        wire.element(
            draw(st.sampled_from([0x0002, 0x0100, 0x0110, 0x0700, 0x0800, 0x0900, 0x1000, 0x1030, 0x1031])),
            draw(st.binary(max_size=8)),
            draw(st.one_of(st.none(), LENGTHS)),
            draw(st.sampled_from([0, 0, 0, 2, 8])),
        )
        for _ in range(draw(st.integers(0, 3)))
    )
    made = wire.command(
        draw(FIELDS),
        data_set=draw(st.sampled_from([0, 1, 0x0101, 0xFFFF])),
        message_id=number,
        sop_class=draw(UIDS),
        sop_instance=draw(UIDS),
        more=more,
    )
    return made[: draw(st.integers(0, len(made)))] if draw(st.integers(0, 4)) == 0 else made


def fragments(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data in pieces, cut at these places."""
    places = sorted({min(cut, len(data)) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@st.composite
def values(draw: Callable[[Any], Any]) -> list[bytes]:
    """The presentation data values of one message: command, then data set, in pieces and odd in some way."""
    context = draw(st.one_of(st.sampled_from([1, 3, 3, 3, 5, 7, 7]), NUMBERS))
    cuts = st.lists(st.integers(0, 400), max_size=2)
    told = fragments(draw(commands()), draw(cuts))
    made = [wire.pdv(context, 1 | 2 * (at == len(told) - 1), piece) for at, piece in enumerate(told)]
    if draw(st.booleans()):
        data = fragments(draw(DATA), draw(cuts))
        endless = draw(st.integers(0, 5)) == 0
        made += [wire.pdv(context, 2 * (at == len(data) - 1 and not endless), p) for at, p in enumerate(data)]
    odd = draw(st.sampled_from(["", "", "", "order", "control", "context", "length", "double", "bare"]))
    if odd == "order":
        made = draw(st.permutations(made))
    elif odd == "double":
        made = [one for one in made for _ in range(2)]
    elif odd == "bare":
        made.insert(draw(st.integers(0, len(made))), struct.pack(">IB", 1, context))
    elif odd:
        at = draw(st.integers(0, len(made) - 1))
        number, control, data = made[at][4], made[at][5], made[at][6:]
        if odd == "control":
            control = draw(NUMBERS)
        elif odd == "context":
            number = draw(NUMBERS)
        made[at] = wire.pdv(number, control, data, draw(LENGTHS) if odd == "length" else None)
    return list(made)


def right(kind: str, uid: bytes, data: bytes, cut: int) -> list[bytes]:
    """The presentation data values of a message in which nothing is wrong but what it says."""
    if kind == "echo":
        return [wire.pdv(1, 3, wire.command(0x0030, data_set=0x0101, sop_class=wire.VERIFICATION.encode()))]
    context, told = 3, wire.command(0x0001, sop_class=CR.encode(), sop_instance=uid)
    if kind == "commit":
        names = {"sop_class": wire.COMMITMENT.encode(), "sop_instance": b"1.2.840.10008.1.20.1.1"}
        one = struct.pack("<H", 1)
        told = wire.command(0x0130, more=wire.element(0x1008, one), data_set=1, message_id=3, **names)
        context = 7
    pieces = fragments(data, [cut])
    sent = [wire.pdv(context, 2 * (at == len(pieces) - 1), piece) for at, piece in enumerate(pieces)]
    return [wire.pdv(context, 3, told), *sent]


RIGHT = st.builds(
    right,
    st.sampled_from(["store", "store", "echo", "commit"]),
    st.one_of(st.just(_GOOD.SOPInstanceUID.encode()), UIDS),
    DATA,
    st.integers(0, 600),
)


@st.composite
def messages(draw: Callable[[Any], Any]) -> list[bytes]:
    """The PDUs of a few messages, which may be interleaved."""
    parts = draw(st.lists(st.one_of(RIGHT, RIGHT, values()), min_size=1, max_size=3))
    pieces = [one for part in parts for one in part]
    if len(parts) > 1 and draw(st.integers(0, 5)) == 5:
        pieces = draw(st.permutations(pieces))
    made: list[bytes] = []
    while pieces:
        many = draw(st.integers(1, 3))
        made.append(wire.p_data(*pieces[:many]))
        pieces = pieces[many:]
    return made


OTHERS = st.one_of(
    st.sampled_from([
        wire.pdu(wire.RELEASE_RQ, bytes(4)), wire.pdu(wire.RELEASE_RP, bytes(4)),
        wire.pdu(wire.RELEASE_RQ, b""), wire.pdu(wire.ABORT, bytes(4)), wire.pdu(wire.ABORT, b"\xff" * 9),
        wire.pdu(wire.AC, bytes(68)),
        wire.pdu(wire.RJ, bytes(4)), wire.pdu(wire.P_DATA, b""), wire.pdu(0, b""), wire.pdu(8, bytes(8)),
        wire.associate_rq(), wire.echo(), b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n",
    ]),
    st.builds(wire.pdu, NUMBERS, SMALL, st.one_of(st.none(), LENGTHS)),
)  # fmt: skip


@st.composite
def requests(draw: Callable[[Any], Any]) -> bytes:
    """An association request: mostly one that is accepted, else one with something wrong in its items."""
    titles = st.sampled_from([b"MODALITY", b"CXR_SR", b"", b"\0" * 16, b"\xff" * 16, b"A\\B", b"  X"])
    kind = draw(st.integers(0, 9))
    if kind < 7:
        return wire.associate_rq()
    if kind == 7:
        return wire.associate_rq(draw(titles), draw(titles))
    kinds = st.sampled_from([0x10, 0x20, 0x21, 0x30, 0x40, *range(0x50, 0x5A), 0x00, 0xFF])
    body = st.one_of(SMALL, UIDS, st.just(wire.user_items()[4:]), st.just(bytes(3000)))
    inner = st.builds(wire.item, kinds, body, st.one_of(st.none(), LENGTHS))
    outer = st.builds(
        wire.item, kinds, st.lists(inner, max_size=3).map(b"".join), st.one_of(st.none(), LENGTHS)
    )
    proposed = st.builds(
        wire.context_item,
        NUMBERS,
        st.sampled_from([wire.CR, wire.VERIFICATION, "1..2", "x", ""]),
        st.lists(st.sampled_from([wire.EXPLICIT, wire.IMPLICIT, "9.9", ""]), max_size=3),
    )
    items = b"".join(draw(st.lists(st.one_of(outer, proposed, st.just(wire.user_items())), max_size=6)))
    return wire.associate_rq(items=items)


@st.composite
def sessions(draw: Callable[[Any], Any]) -> Session:
    """A session, some of them with bytes changed, left out or put in anywhere."""
    pieces = [draw(requests())]
    for _ in range(draw(st.integers(1, 3))):
        pieces += draw(messages()) if draw(st.integers(0, 5)) < 5 else [draw(OTHERS)]
    if draw(st.integers(0, 2)) == 0:
        pieces.append(wire.pdu(wire.RELEASE_RQ, bytes(4)))
        pieces += draw(st.lists(st.one_of(OTHERS, st.just(wire.echo())), max_size=2))
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1, 4]))):
        at = draw(st.integers(0, len(pieces) - 1))
        data = bytearray(pieces[at])
        where = draw(st.integers(0, min(len(data), 400)))
        how = draw(st.sampled_from(["change", "cut", "insert"]))
        if how == "change" and where < len(data):
            data[where] = draw(st.integers(0, 255))
        elif how == "cut":
            del data[where:]
        else:
            data[where:where] = draw(SMALL)
        pieces[at] = bytes(data)
    return pieces
