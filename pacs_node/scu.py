"""Our side of an association that we open: connect, verify, store one object after another.

Objects are read in pieces as fast as the peer takes them, so that neither a large object nor a slow peer
fills the memory; a peer that hangs costs its timeout and nothing more.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

import structlog
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import P_DATA, SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext

from config.network import Remote
from config.settings import DicomSettings
from pacs_node import identity
from pacs_node.carrier import PeerError as PeerError  # whoever associates meets it here
from pacs_node.scp import quiet_library
from pacs_node.sockets import ClosingAE, ClosingSocket, SturdyDul, sever
from pacs_node.tls import TlsError, client_context
from pacs_node.unreachable import advice, why
from pacs_node.whereabouts import where as place

log = structlog.get_logger(__name__)

_QUEUED_FRAGMENTS = 8
_LARGEST_FRAGMENT = 1 << 18
_SMALLEST_FRAGMENT = 64
_LOOK_SECONDS = 0.2
"""Between two looks whether there is still somebody to wait for."""
_LONGEST_ANSWER = 1 << 22
"""Bytes of a message that a peer may send us; objects come by another way (`pacs_node.pull_dimse`)."""


class NotAccepted(PeerError):
    """The peer accepts none of the presentation contexts that we need; it will answer the same again."""


class Interrupted(PeerError):
    """The association ended before the answer: whether the object arrived is not known."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A C-STORE response: its status and the peer's own comment."""

    status: int
    comment: str | None


@contextmanager
def association(
    destination: Remote,
    dicom: DicomSettings,
    contexts: Sequence[PresentationContext],
    roles: Sequence[SCP_SCU_RoleSelectionNegotiation] = (),
) -> Iterator[Association]:
    """An established association, released at the end, cut off after an error. Raises :class:`PeerError`.

    roles: of SOP classes of which we are not the SCU alone.
    """
    quiet_library()
    where = f"{destination.host}:{destination.port}"
    try:
        tls_args = (client_context(destination), destination.host) if destination.tls else None
    except TlsError as error:
        raise PeerError(str(error)) from error
    ae = ClosingAE(ae_title=destination.calling_ae_title or dicom.ae_title)
    ae.acse_timeout, ae.dimse_timeout, ae.network_timeout = (
        dicom.acse_timeout,
        dicom.dimse_timeout,
        dicom.network_timeout,
    )
    ae.connection_timeout, ae.handshake_timeout = dicom.connection_timeout, dicom.handshake_timeout
    ae.implementation_class_uid = identity.IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = identity.IMPLEMENTATION_VERSION_NAME
    try:
        assoc = ae.associate(
            destination.host,
            destination.port,
            contexts=list(contexts),
            ae_title=destination.ae_title,
            max_pdu=dicom.max_pdu,
            ext_neg=list(roles),
            tls_args=tls_args,
            evt_handlers=[(evt.EVT_CONN_OPEN, _prepare), (evt.EVT_FSM_TRANSITION, _judge)],
        )
    except OSError as error:
        raise PeerError(f"{where} {why(error, connected=False, tls=destination.tls)}") from error
    if not assoc.is_established:
        failure = _why_not(assoc, where)
        hang_up(assoc)
        raise failure
    try:
        yield assoc
    except BaseException:
        hang_up(assoc)
        raise
    else:
        if assoc.is_established:
            _release(assoc, dicom.acse_timeout)
        hang_up(assoc)


def _release(assoc: Association, seconds: float) -> None:
    """Release in order; a peer that goes on talking instead is cut off, as the library would hear it out."""
    connection = assoc.dul.socket.socket if assoc.dul.socket else None
    if connection is None:
        return
    cut = threading.Timer(2 * seconds, sever, [connection])
    cut.daemon = True
    cut.start()
    try:
        assoc.release()
    finally:
        cut.cancel()


class _Bounded(DIMSEServiceProvider):
    """Puts answers together: none without end, and none that ends the thread that reads it."""

    _held = 0

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take a P-DATA of the peer. What makes no sense, or has no end, aborts the association (Evt19)."""
        try:
            super().receive_primitive(primitive)
        except Exception as error:  # noqa: BLE001 - whatever a stranger calls a command set
            log.warning("association.broken", error=place(error))
            self.message = None
            self.dul.event_queue.put("Evt19")
        if self.message is None:
            self._held = 0
            return
        self._held += sum(len(fragment) for _, fragment in primitive.presentation_data_value_list)
        if self._held > _LONGEST_ANSWER:
            self.message = None
            self.dul.event_queue.put("Evt19")


def hang_up(assoc: Association) -> None:
    """End an association whatever its threads wait for: the socket first, then the rest."""
    connection = assoc.dul.socket.socket if assoc.dul.socket else None
    if connection is not None:
        sever(connection)
    assoc._kill = True
    assoc.is_established = False
    assoc._reactor_checkpoint.set()
    assoc.dul.kill_dul()
    for thread in (assoc.dul, assoc):
        if thread.is_alive():
            thread.join(5)
    if connection is not None:
        connection.close()


@contextmanager
def paused(assoc: Association) -> Iterator[None]:
    """Keep the association's own thread from taking messages: those that come are for this one."""
    assoc._reactor_checkpoint.clear()
    try:
        while not assoc._is_paused and assoc.is_alive():
            time.sleep(0.0005)
        yield
    finally:
        assoc._reactor_checkpoint.set()


def store(
    assoc: Association,
    context: PresentationContext,
    sop_class_uid: str,
    sop_instance_uid: str,
    data: BinaryIO,
    *,
    message_id: int,
    timeout: float,
) -> Stored:
    """Send one data set, read from `data` to its end, and wait for the answer.

    `timeout` is the longest silence in seconds: of a peer that takes no more bytes, or gives no answer once
    it has all. Raises :class:`Interrupted`; the association is then of no more use.
    """
    with paused(assoc):
        context_id = int(context.context_id or 0)
        for control, fragment in _fragments(
            assoc, _command(sop_class_uid, sop_instance_uid, message_id), data
        ):
            pdata = P_DATA()
            pdata.presentation_data_value_list.append((context_id, bytes([control]) + fragment))
            _wait_for_room(assoc, timeout)
            assoc.dul.send_pdu(pdata)
        _wait_for_room(assoc, timeout, queued=0)
        rsp = _answer(assoc, timeout)
    if not isinstance(rsp, C_STORE) or rsp.MessageIDBeingRespondedTo != message_id or rsp.Status is None:
        raise Interrupted("an answer to something else")
    return Stored(int(rsp.Status), _comment(rsp))


def _answer(assoc: Association, timeout: float) -> Any:
    """The next message of the peer, waited for no longer than there is somebody to send one.

    Raises :class:`Interrupted`.
    """
    deadline = time.monotonic() + timeout
    while (left := deadline - time.monotonic()) > 0:
        try:
            _, rsp = assoc.dimse.msg_queue.get(timeout=min(left, _LOOK_SECONDS))
        except queue.Empty:
            rsp = None
        if rsp is not None:
            return rsp
        if not assoc.dul.is_alive() or assoc.acse.is_aborted():
            break
    raise Interrupted(_interruption(assoc, f"no answer within {timeout:g} s"))


def _prepare(event: evt.Event) -> None:
    """Send small PDUs at once, and take no answer without end. The waits are the socket's own."""
    event.assoc.dimse = _Bounded(event.assoc)
    wrapper = event.assoc.dul.socket
    if wrapper is not None and wrapper.socket is not None:
        wrapper.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _judge(event: evt.Event) -> None:
    """Remember that the upper layer ended the association over what the peer sent (PS3.8 Table 9-9, AA-8)."""
    if event.action == "AA-8":
        dul: Any = event.assoc.dul
        dul.nonsense = True


def _spoke_nonsense(assoc: Association) -> bool:
    return isinstance(assoc.dul, SturdyDul) and assoc.dul.nonsense


def _command(sop_class_uid: str, sop_instance_uid: str, message_id: int) -> bytes:
    req = C_STORE()
    req.MessageID = message_id
    req.Priority = 0
    req.AffectedSOPClassUID = sop_class_uid
    req.AffectedSOPInstanceUID = sop_instance_uid
    message = C_STORE_RQ()
    message.primitive_to_message(req)
    message.command_set.CommandDataSetType = 0x0001
    return bytes(encode(message.command_set, True, True) or b"")


def _fragments(assoc: Association, command: bytes, data: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Control headers and fragments of command and data set (PS3.8 Annex E)."""
    largest = min(int(assoc.acceptor.maximum_length or 0) or _LARGEST_FRAGMENT, _LARGEST_FRAGMENT) - 6
    if largest < _SMALLEST_FRAGMENT:
        raise Interrupted("the peer takes no PDU of a usable size")
    for start in range(0, len(command), largest):
        yield 3 if start + largest >= len(command) else 1, command[start : start + largest]
    fragment = data.read(largest)
    while True:
        following = data.read(largest)
        yield 0 if following else 2, fragment
        if not following:
            return
        fragment = following


def _wait_for_room(assoc: Association, timeout: float, queued: int = _QUEUED_FRAGMENTS) -> None:
    """Wait until the upper layer has sent enough of what it was given. Raises :class:`Interrupted`."""
    outgoing = assoc.dul.to_provider_queue
    before, deadline = outgoing.qsize(), time.monotonic() + timeout
    while (now := outgoing.qsize()) > queued:
        if not assoc.dul.is_alive() or assoc.acse.is_aborted():
            raise Interrupted(_interruption(assoc, "the connection was lost"))
        if now < before:
            before, deadline = now, time.monotonic() + timeout
        elif time.monotonic() > deadline:
            raise Interrupted(f"the peer took no data for {timeout:g} s")
        time.sleep(0.0005)


def _interruption(assoc: Association, otherwise: str) -> str:
    if assoc.acse.is_aborted("a-abort"):
        return "the peer aborted the association"
    if _spoke_nonsense(assoc):
        return "the peer sent what makes no sense"
    if assoc.acse.is_aborted("a-p-abort") or not assoc.dul.is_alive():
        return "the connection was lost"
    return otherwise


def _comment(rsp: Any) -> str | None:
    comment = str(rsp.ErrorComment).strip() if rsp.ErrorComment else ""
    return comment or None


def _why_not(assoc: Association, where: str) -> PeerError:
    answer, wrapper = assoc.acceptor.primitive, assoc.dul.socket
    if assoc.is_rejected and answer is not None:
        hint = advice(
            answer.result_source, answer.diagnostic, assoc.requestor.ae_title, assoc.acceptor.ae_title
        )
        return PeerError(f"{where} rejected the association: {answer.reason_str}; {hint}")
    if assoc.rejected_contexts and not assoc.accepted_contexts:
        return NotAccepted(f"{where} accepts none of the presentation contexts proposed")
    if not isinstance(wrapper, ClosingSocket):
        return PeerError(f"{where} cannot be reached")
    if _spoke_nonsense(assoc):
        return PeerError(f"{where} answered the association request with what makes no sense")
    tls = bool(wrapper.tls_args)
    if wrapper.opened and wrapper.trouble is None:
        hint = "; it may not accept our certificate" if tls else "; it may expect TLS"
        return PeerError(f"{where} did not answer the association request{hint}")
    return PeerError(f"{where} {why(wrapper.trouble, connected=wrapper.connected, tls=tls)}")
