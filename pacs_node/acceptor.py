"""The acceptor's side of one association, bounded in what its peer can make it hold.

pynetdicom gives the association and the upper layer. Replaced here are the pieces where a peer could fill
the memory or end a thread: reading a PDU, putting a message together, judging who may associate, answering
C-STORE.
"""

from __future__ import annotations

import queue
import ssl
import time
from typing import Any, Protocol

import structlog
from pynetdicom.acse import ACSE
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationServer

from config.standing import Standing
from pacs_node import header, normalized, statuses
from pacs_node.commandset import (
    C_CANCEL_RQ,
    C_ECHO_RQ,
    C_STORE_RQ,
    N_ACTION_RQ,
    N_EVENT_REPORT_RQ,
    N_EVENT_REPORT_RSP,
    Command,
    CommandError,
    parse,
)
from pacs_node.guests import Guest
from pacs_node.received import (
    FIXED_BYTES,
    Answer,
    Caller,
    Limits,
    Received,
    Rejection,
    caller_of,
    check,
    response_to,
)
from pacs_node.sockets import LONGEST_ASSOCIATE, ClosingSocket, TooLong, sever
from pacs_node.spool import Flood, Spool
from pacs_node.whereabouts import where

log = structlog.get_logger(__name__)

MAX_COMMAND_BYTES = 65536
_TALKING_SECONDS = 0.5
MAX_UNANSWERED = 4
"""Messages that a peer may send ahead of our answers; nobody negotiated that it may send any."""


class Node(Protocol):
    """What an association needs of the server that it belongs to."""

    limits: Limits
    spool: Spool
    unstored: Standing
    """Tells of objects that were refused: a full disk refuses hundreds for one reason."""
    services: frozenset[str]
    """SOP classes whose N-ACTION and N-EVENT-REPORT are served."""

    def serve(self, request: normalized.Request, assoc: Acceptor) -> Answer:
        """Answer an N-ACTION or N-EVENT-REPORT."""

    def admit(self, caller: Caller) -> Rejection | None:
        """Whether a caller may associate; asked once for each request."""

    def judge(self, assoc: Acceptor) -> Rejection | None:
        """Whether this association may be established; if so it counts from here on."""

    def refused(self, kind: str) -> None:
        """Count somebody who was turned away."""

    def store(self, received: Received) -> Answer:
        """Put a whole object away and answer for it."""

    def gone(self, assoc: Acceptor) -> None:
        """The association has ended, its connection is closed."""


class Acceptor(Association):
    """An acceptor that answers C-STORE itself, and leaves neither file, socket nor thread when it ends."""

    def __init__(self, node: Node, listener: AssociationServer, guest: Guest) -> None:
        ae, limits = listener.ae, node.limits
        super().__init__(ae, "acceptor")
        self.node, self.guest = node, guest
        self.rejection: Rejection | None = None
        """Why the caller is not let in; known before anything else of its request is looked at."""
        self.name = "AcceptorThread-cxr-sr"
        self.acse = _Acse(self)
        self.dul = _Dul(self)
        self.dimse: _Dimse = _Dimse(self)
        self.acse_timeout, self.network_timeout = limits.acse_timeout, limits.network_timeout
        self.set_socket(_BoundedSocket(self, client_socket=guest.connection))
        self.acceptor.maximum_length = ae.maximum_pdu_size
        self.acceptor.ae_title = listener.ae_title
        self.acceptor.implementation_class_uid = ae.implementation_class_uid
        self.acceptor.implementation_version_name = ae.implementation_version_name
        self.reports = normalized.Reports(self)

    @property
    def encrypted(self) -> bool:
        """Whether it came by the TLS listener."""
        return isinstance(self.guest.connection, ssl.SSLSocket)

    @property
    def caller(self) -> Caller:
        """Who is at the other end; complete once its request has arrived."""
        request, address = self.requestor.primitive, self.requestor.address_info
        return Caller(
            ae_title=(getattr(request, "calling_ae_title", None) or "").strip(),
            called_ae_title=(getattr(request, "called_ae_title", None) or "").strip(),
            address=address.address if address else "",
        )

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - the thread ends here, and cleanly
            log.error("association.failed", address=self.caller.address, error=where(error))
        finally:
            self.cut()
            self.dul.join(5)
            self.guest.connection.close()
            self.dimse.discard()
            self.reports.close()
            self.node.gone(self)

    def cut(self) -> None:
        """End the connection from any thread, whatever the others wait for.

        Its descriptor is closed at the end of the association's own thread: a number that is given to the
        next caller while somebody still reads from it would mix up two connections.
        """
        self._kill = True
        self.dul.kill_dul()
        sever(self.guest.connection)
        self.dul.to_user_queue.put(None)  # type: ignore[arg-type] # wakes a thread that waits for a request which will not come

    def _serve_request(self, msg: Any, context_id: int) -> None:
        if isinstance(msg, normalized.Request):
            self._send(normalized.response(msg, self._served(msg)), context_id)
            return
        if not isinstance(msg, Received):
            super()._serve_request(msg, context_id)
            return
        try:
            answer = self._answer(msg)
        finally:
            msg.incoming.discard()
        rsp = response_to(msg, answer)
        self._send(rsp, context_id)

    def _send(self, rsp: Any, context_id: int) -> None:
        if self.is_established:
            self.dimse.send_msg(rsp, context_id)

    def _served(self, request: normalized.Request) -> Answer:
        try:
            return self.node.serve(request, self)
        except Exception as error:  # noqa: BLE001 - an answer is owed whatever happened
            log.error("request.failed", caller=request.caller.ae_title, error=where(error))
            return Answer(statuses.PROCESSING_FAILURE, "internal error")

    def _answer(self, received: Received) -> Answer:
        """The status of one object; whatever goes wrong here is an answer too."""
        received.incoming.finish()
        try:
            answer = check(received) or self.node.store(received)
        except Exception as error:  # noqa: BLE001 - an answer is owed whatever happened
            log.error("store.failed", caller=received.caller.ae_title, error=where(error))
            answer = Answer(statuses.PROCESSING_FAILURE, "internal error")
        if answer.status == statuses.SUCCESS:
            self.node.unstored.over()
        else:
            self.node.unstored.there(
                "warning",
                status=f"{answer.status:04X}",
                why=answer.comment,
                caller=received.caller.ae_title,
                address=received.caller.address,
            )
        return answer


class _Acse(ACSE):
    """Asks the server before it negotiates anything."""

    def _negotiate_as_acceptor(self) -> None:
        assoc: Any = self.assoc
        rejection = assoc.node.judge(assoc)
        if rejection is None:
            super()._negotiate_as_acceptor()
            return
        caller = assoc.caller
        log.warning(
            "association.rejected",
            why=rejection.why,
            caller=caller.ae_title,
            called=caller.called_ae_title,
            address=caller.address,
            tls=assoc.encrypted,
        )
        assoc.node.refused(rejection.kind)
        assoc.rejection = rejection
        self.send_reject(rejection.result, rejection.source, rejection.reason)
        assoc.kill()


class _Dul(DULServiceProvider):
    """An upper layer whose thread never dies with a traceback: a broken state ends the association."""

    def __init__(self, assoc: Association) -> None:
        self.active_at = time.monotonic()
        super().__init__(assoc)
        self.daemon = True
        self.name = "dicom-upper-layer"

    @property
    def pause(self) -> float:
        """Seconds between two looks for work: few while the peer talks, more when it is silent."""
        return 0.001 if time.monotonic() - self.active_at < _TALKING_SECONDS else 0.02

    @property
    def _run_loop_delay(self) -> float:
        return self.pause

    @_run_loop_delay.setter
    def _run_loop_delay(self, seconds: float) -> None:
        """The library sets a fixed one."""

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        """Decode a PDU. Of whoever is not let in nothing beyond the AE titles is decoded."""
        assoc: Any = self.assoc
        if self.state_machine.current_state in ("Sta1", "Sta2"):  # connected, nothing heard yet
            address = assoc.requestor.address_info
            assoc.rejection = assoc.node.admit(caller_of(bytestream, address.address if address else ""))
            if assoc.rejection is not None:
                del bytestream[FIXED_BYTES:]
        return super()._decode_pdu(bytestream)

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - whatever state a peer brought it to
            log.warning("association.broken", error=where(error))
            assoc: Any = self.assoc
            assoc.cut()
        finally:
            self.to_user_queue.put(None)  # type: ignore[arg-type] # nothing will come any more: wait no longer


class _Oversized(Exception):
    """A PDU longer than we announced; raising it makes the upper layer abort."""


class _BoundedSocket(ClosingSocket):
    """Reads a PDU within the length and the time that the server grants."""

    def bounds(self) -> tuple[int, float]:
        assoc: Any = self.assoc
        limits: Limits = assoc.node.limits
        if assoc.is_established:
            return 2 * limits.max_pdu + 1024, limits.network_timeout
        return LONGEST_ASSOCIATE, limits.acse_timeout

    def recv(self, nr_bytes: int) -> bytearray:
        assoc: Any = self.assoc
        if assoc.rejection is not None:
            raise ConnectionAbortedError("turned away: nothing more is read")
        try:
            data = super().recv(nr_bytes)
        except TooLong:
            log.warning(
                "association.aborted", why="PDU too long", length=nr_bytes, address=assoc.caller.address
            )
            raise _Oversized from None
        assoc.dul.active_at = time.monotonic()
        return data


class _Dimse(DIMSEServiceProvider):
    """Puts requests together: a command of bounded length, a data set straight to its file."""

    def __init__(self, assoc: Acceptor) -> None:
        super().__init__(assoc)
        self._command = bytearray()
        self._receiving: Received | normalized.Request | None = None

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take a P-DATA of the peer. What makes no sense aborts the association (Evt19)."""
        try:
            for context_id, fragment in primitive.presentation_data_value_list:
                self._take(context_id, fragment)
        except (CommandError, Flood) as error:
            assoc: Any = self.assoc
            log.warning(
                "association.aborted", why=str(error) or "object too large", address=assoc.caller.address
            )
            self.discard()
            self.dul.event_queue.put("Evt19")

    def get_msg(self, block: bool = False) -> Any:
        """The next request, or (None, None); waits a little for one while the peer is silent."""
        dul: Any = self.dul
        assoc: Any = self.assoc
        assoc.reports.send()
        if block or dul.pause <= 0.001:
            return super().get_msg(block)
        try:
            return self.msg_queue.get(timeout=dul.pause)
        except queue.Empty:
            return None, None

    def discard(self) -> None:
        """Forget everything that has not been answered, files included."""
        if self._receiving is not None:
            self._receiving.incoming.discard()
            self._receiving = None
        while True:
            try:
                _, msg = self.msg_queue.get_nowait()
            except queue.Empty:
                return
            item: Any = msg
            if isinstance(item, Received | normalized.Request):
                item.incoming.discard()

    def _take(self, context_id: int, fragment: bytes) -> None:
        if not fragment:
            raise CommandError("a fragment without its control header")
        control, last = fragment[0], bool(fragment[0] & 2)
        if control & 1:
            self._command += fragment[1:]
            if self._receiving is not None or len(self._command) > MAX_COMMAND_BYTES:
                raise CommandError("a command where none belongs, or one without end")
            if last:
                encoded, self._command = bytes(self._command), bytearray()
                self._begin(context_id, parse(encoded), encoded)
            return
        receiving = self._receiving
        if receiving is None or receiving.context_id != context_id:
            raise CommandError("a data set that no command announced")
        receiving.incoming.write(fragment[1:])
        if last:
            self._receiving = None
            self.msg_queue.put((context_id, receiving))  # type: ignore[arg-type]

    def _begin(self, context_id: int, command: Command, encoded: bytes) -> None:
        if self.msg_queue.qsize() >= MAX_UNANSWERED:
            raise CommandError("too many requests ahead of their answers")
        if command.field == C_CANCEL_RQ:
            return
        if command.field == C_ECHO_RQ and not command.has_data_set:
            whole = P_DATA()
            whole.presentation_data_value_list.append((context_id, b"\x03" + encoded))
            super().receive_primitive(whole)
            return
        assoc: Any = self.assoc
        if command.field == N_EVENT_REPORT_RSP and not command.has_data_set:
            if not assoc.reports.answered(command):
                raise CommandError("an answer to nothing that we said")
            return
        cx = assoc._accepted_cx.get(context_id)
        normal = cx is not None and cx.abstract_syntax in assoc.node.services
        served = command.field in ((N_ACTION_RQ, N_EVENT_REPORT_RQ) if normal else (C_STORE_RQ,))
        if not served or not command.has_data_set or cx is None:
            raise CommandError(f"request {command.field:04X} is not one that we serve here")
        opened = self._listen if normal else self._open
        self._receiving = opened(context_id, command, str(cx.abstract_syntax), str(cx.transfer_syntax[0]))

    def _listen(
        self, context_id: int, command: Command, abstract_syntax: str, transfer_syntax: str
    ) -> normalized.Request:
        assoc: Any = self.assoc
        return normalized.Request(assoc.caller, context_id, abstract_syntax, transfer_syntax, command)

    def _open(
        self, context_id: int, command: Command, abstract_syntax: str, transfer_syntax: str
    ) -> Received:
        assoc: Any = self.assoc
        safe = header.is_safe_uid(command.sop_instance_uid)
        # an object under an unsafe name is refused after its last byte; until then its name is nobody's
        meta = header.part10_header(
            abstract_syntax, command.sop_instance_uid if safe else "0", transfer_syntax
        )
        return Received(
            caller=assoc.caller,
            context_id=context_id,
            message_id=command.message_id,
            abstract_syntax=abstract_syntax,
            transfer_syntax_uid=transfer_syntax,
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=command.sop_instance_uid,
            incoming=assoc.node.spool.begin(meta, assoc.node.limits.max_object_bytes),
            move_originator=command.move_originator,
            move_message_id=command.move_message_id,
        )
