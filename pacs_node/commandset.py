"""The command set of a DIMSE request, read by hand: Implicit VR Little Endian, group 0000, nothing nested.

A library's reader would decode whatever else a peer put there; the receiver needs a few elements alone.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

C_STORE_RQ = 0x0001
C_ECHO_RQ = 0x0030
C_CANCEL_RQ = 0x0FFF
N_EVENT_REPORT_RQ = 0x0100
N_EVENT_REPORT_RSP = 0x8100
N_ACTION_RQ = 0x0130

_NO_DATA_SET = 0x0101
_TYPE_ID = {N_EVENT_REPORT_RQ: 0x1002, N_ACTION_RQ: 0x1008}


class CommandError(ValueError):
    """The bytes are not a command set, or one without what every request must have."""


@dataclass(frozen=True, slots=True)
class Command:
    """What a request says. UIDs are the peer's own words, unchecked, without padding."""

    field: int
    message_id: int
    has_data_set: bool
    sop_class_uid: str
    sop_instance_uid: str
    move_originator: str = ""
    """AE title of whoever asked for the move that this is a part of."""
    move_message_id: int | None = None
    type_id: int = 0
    """Of an action or an event."""
    status: int = 0
    """Of a response."""


def parse(data: bytes) -> Command:
    """Read an encoded command set. Raises :class:`CommandError`."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset < len(data):
        if offset + 8 > len(data):
            raise CommandError("the command set is cut off")
        group, element, length = struct.unpack_from("<HHI", data, offset)
        offset += 8
        if group != 0 or offset + length > len(data):
            raise CommandError("not a command set")
        found[element] = data[offset : offset + length]
        offset += length
    field = _us(found, 0x0100)
    message_id = _us(found, 0x0120 if field == C_CANCEL_RQ or field & 0x8000 else 0x0110)
    return Command(
        field=field,
        message_id=message_id,
        has_data_set=_us(found, 0x0800) != _NO_DATA_SET,
        sop_class_uid=_uid(found.get(0x0002) or found.get(0x0003, b"")),  # affected, or requested
        sop_instance_uid=_uid(found.get(0x1000) or found.get(0x1001, b"")),
        move_originator=_uid(found.get(0x1030, b"")),
        move_message_id=_us(found, 0x1031) if len(found.get(0x1031, b"")) >= 2 else None,
        type_id=_us(found, _TYPE_ID[field]) if field in _TYPE_ID else 0,
        status=_us(found, 0x0900) if field == N_EVENT_REPORT_RSP else 0,
    )


def _us(found: dict[int, bytes], element: int) -> int:
    value = found.get(element, b"")
    if len(value) < 2:
        raise CommandError(f"the command set has no (0000,{element:04X})")
    return int.from_bytes(value[:2], "little")


def _uid(value: bytes) -> str:
    return value.decode("ascii", errors="replace").strip("\x00 ")
