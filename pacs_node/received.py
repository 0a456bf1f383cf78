"""What passes between an SCP and whoever stores: callers, limits, received objects, answers."""

from __future__ import annotations

from dataclasses import dataclass

from pynetdicom.dimse_primitives import C_STORE

from pacs_node import header, statuses
from pacs_node.spool import Incoming


@dataclass(frozen=True)
class Limits:
    """What a server grants its peers. Times in seconds, sizes in bytes."""

    max_associations: int = 64
    max_associations_per_peer: int = 32
    max_pdu: int = 131072
    max_object_bytes: int = 1 << 30
    handshake_timeout: float = 10
    acse_timeout: float = 10
    dimse_timeout: float = 60
    network_timeout: float = 60

    @property
    def max_connections(self) -> int:
        """Connections at once, those that have not said a word included."""
        return 4 * self.max_associations + 64


@dataclass(frozen=True)
class Caller:
    """Who opened an association, as it says of itself, and the address it came from."""

    ae_title: str
    called_ae_title: str
    address: str


FIXED_BYTES = 74
"""Of an A-ASSOCIATE-RQ (PS3.8 9.3.2), the header of the PDU included: both AE titles stand in them."""
_ASSOCIATE_RQ = 1


def caller_of(pdu: bytes | bytearray, address: str) -> Caller:
    """Who sends a first PDU. Raises ValueError where it is no association request."""
    if len(pdu) < FIXED_BYTES or pdu[0] != _ASSOCIATE_RQ:
        raise ValueError("something else comes before an association request")
    called, calling = (bytes(pdu[at : at + 16]).decode("ascii", "replace").strip() for at in (10, 26))
    return Caller(calling, called, address)


@dataclass(frozen=True)
class Rejection:
    """An A-ASSOCIATE-RJ: result, source, reason (PS3.8 Table 9-21), words for the log, one for the counts."""

    result: int
    source: int
    reason: int
    why: str
    kind: str


@dataclass
class Received:
    """One C-STORE request with its data set on disk. `sop_instance_uid` is what the peer sent, unchecked."""

    caller: Caller
    context_id: int
    message_id: int
    abstract_syntax: str
    transfer_syntax_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    incoming: Incoming
    move_originator: str = ""
    """AE title of whoever asked for the move that it is a part of, and that request's message id."""
    move_message_id: int | None = None


@dataclass(frozen=True)
class Answer:
    """The status of a C-STORE response and a comment for the peer's log, without patient data."""

    status: int
    comment: str | None = None


def response_to(received: Received, answer: Answer) -> C_STORE:
    """The C-STORE response; UIDs that are none are left out, as the library would fall over them."""
    rsp = C_STORE()
    rsp.MessageIDBeingRespondedTo = received.message_id
    if header.is_safe_uid(received.sop_class_uid):
        rsp.AffectedSOPClassUID = received.sop_class_uid
    if header.is_safe_uid(received.sop_instance_uid):
        rsp.AffectedSOPInstanceUID = received.sop_instance_uid
    rsp.Status = answer.status
    if answer.comment:
        rsp.ErrorComment = answer.comment[:64]  # type: ignore[assignment]
    return rsp


def check(received: Received) -> Answer | None:
    """What can be said of an object before anyone stores it: a refusal, or None when all is well."""
    if received.sop_class_uid != received.abstract_syntax:
        return Answer(
            statuses.SOP_CLASS_NOT_SUPPORTED, "SOP class of command and presentation context differ"
        )
    try:
        header.check_uid(received.sop_instance_uid, "Affected SOP Instance UID")
        if received.incoming.trouble:
            return Answer(statuses.OUT_OF_RESOURCES, received.incoming.trouble)
        names = header.read_names(bytes(received.incoming.prefix), received.transfer_syntax_uid)
    except header.HeaderError as error:
        return Answer(statuses.CANNOT_UNDERSTAND, str(error))
    if names.sop_class_uid != received.sop_class_uid:
        return Answer(statuses.DATA_SET_MISMATCH, "SOP Class UID of command and data set differ")
    if names.sop_instance_uid != received.sop_instance_uid:
        return Answer(statuses.DATA_SET_MISMATCH, "SOP Instance UID of command and data set differ")
    return None
