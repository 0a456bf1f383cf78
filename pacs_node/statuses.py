"""DIMSE statuses of storage: which exist, what each means for us, and when we answer it ourselves.

The sender decides from this table, the receiver answers from it, the conformance statement prints it
(PS3.4 Table B.2-1 and PS3.7 Annex C).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What a delivery does after an answer."""

    STORED = "stored"
    WARNING = "stored with a warning"
    RETRY = "try again later"
    FAIL = "failed for good"
    ALERT = "failed for good, tell an administrator"

    @property
    def arrived(self) -> bool:
        """Whether the peer said that it has the object."""
        return self in {Verdict.STORED, Verdict.WARNING}


@dataclass(frozen=True, slots=True)
class Row:
    """Statuses `first` to `last`, both inclusive; `ours` says when our receiver answers `first`, if ever."""

    first: int
    last: int
    name: str
    verdict: Verdict
    ours: str = ""


SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
NO_SUCH_INSTANCE = 0x0112
INVALID_ARGUMENT = 0x0115
NO_SUCH_SOP_CLASS = 0x0118
CLASS_INSTANCE_CONFLICT = 0x0119
SOP_CLASS_NOT_SUPPORTED = 0x0122
NO_SUCH_ACTION = 0x0123
DUPLICATE_TRANSACTION = 0x0131
UNRECOGNISED_OPERATION = 0x0211
RESOURCE_LIMITATION = 0x0213
OUT_OF_RESOURCES = 0xA700
DATA_SET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

_V = Verdict

TABLE: tuple[Row, ...] = (
    Row(SUCCESS, SUCCESS, "Success", _V.STORED, "the object is on stable storage and its row committed"),
    Row(0x0001, 0x0001, "Requested optional attributes are not supported", _V.WARNING),
    Row(0x0105, 0x0106, "Attribute or value refused", _V.FAIL),
    Row(0x0107, 0x0107, "Attribute list error", _V.WARNING),
    Row(
        PROCESSING_FAILURE, PROCESSING_FAILURE, "Processing failure", _V.RETRY,
        "an error without a status of its own",
    ),
    Row(0x0111, 0x0111, "Duplicate SOP instance", _V.WARNING),
    Row(0x0112, 0x0112, "No such SOP instance", _V.FAIL),
    Row(0x0113, 0x0115, "Event type or argument refused", _V.FAIL),
    Row(0x0116, 0x0116, "Attribute value out of range", _V.WARNING),
    Row(0x0117, 0x0117, "Invalid SOP instance", _V.FAIL),
    Row(0x0118, 0x0118, "No such SOP class", _V.FAIL),
    Row(0x0119, 0x0119, "Class-instance conflict", _V.FAIL),
    Row(0x0120, 0x0121, "Missing attribute", _V.FAIL),
    Row(
        SOP_CLASS_NOT_SUPPORTED, SOP_CLASS_NOT_SUPPORTED, "SOP class not supported", _V.FAIL,
        "the command names another SOP class than its presentation context",
    ),
    Row(0x0123, 0x0123, "No such action", _V.FAIL),
    Row(0x0124, 0x0124, "Not authorised", _V.ALERT),
    Row(0x0210, 0x0210, "Duplicate invocation", _V.RETRY),
    Row(0x0211, 0x0211, "Unrecognised operation", _V.FAIL),
    Row(0x0212, 0x0212, "Mistyped argument", _V.FAIL),
    Row(0x0213, 0x0213, "Resource limitation", _V.RETRY),
    Row(
        OUT_OF_RESOURCES, 0xA7FF, "Out of resources", _V.RETRY,
        "no room on disk, a silent database, a full queue, or an object larger than allowed",
    ),
    Row(
        DATA_SET_MISMATCH, 0xA9FF, "Data set does not match SOP class", _V.FAIL,
        "SOP class or instance UID of data set and command differ",
    ),
    Row(0xB000, 0xBFFF, "Warning: coerced, discarded or mismatched elements", _V.WARNING),
    Row(
        CANNOT_UNDERSTAND, 0xCFFF, "Cannot understand", _V.FAIL,
        "an empty or unsafe UID, or a data set whose beginning cannot be read",
    ),
    Row(0xFE00, 0xFE00, "Cancelled", _V.RETRY),
)  # fmt: skip
"""Every status that we know; the ranges do not overlap."""


def row(status: int) -> Row:
    """The row of a status. One that the standard does not know is tried again: it may pass."""
    for known in TABLE:
        if known.first <= status <= known.last:
            return known
    return Row(status, status, "Unknown status", Verdict.RETRY)


def describe(status: int, comment: str | None = None) -> str:
    """A line for people: status in hex, its name, and what the peer said about it."""
    text = f"0x{status:04X} {row(status).name}"
    return f"{text}: {comment}" if comment else text
