"""A storage SCP: a listening C-ECHO and C-STORE server that streams what it receives to a spool.

What to do with a received object is the `store` function's part. Silent connections never use
up associations.
"""

from __future__ import annotations

import errno
import logging
import socket
import socketserver
import ssl
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from copy import deepcopy
from types import MappingProxyType
from typing import Any

import structlog
from pynetdicom import AE
from pynetdicom import _config as pynetdicom_config
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, ThreadedAssociationServer

from config.standing import Standing
from pacs_node import identity, statuses
from pacs_node.acceptor import Acceptor
from pacs_node.guests import Guest, Guests
from pacs_node.normalized import Request
from pacs_node.received import Answer, Caller, Limits, Received, Rejection
from pacs_node.sockets import readable
from pacs_node.spool import Spool
from pacs_node.tls import Credentials
from pacs_node.unreachable import unheard
from pacs_node.whereabouts import where

log = structlog.get_logger(__name__)

CALLING_NOT_RECOGNISED = Rejection(1, 1, 3, "calling AE title or address is not allowed", "calling")
CALLED_NOT_RECOGNISED = Rejection(1, 1, 7, "called AE title is not ours", "called")
SHUTTING_DOWN = Rejection(2, 3, 1, "shutting down", "shutting-down")

_TLS_HANDSHAKE = b"\x16"
"""First byte of a TLS connection (RFC 8446 section 5.1); no DICOM PDU begins so."""
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

Service = Callable[[Request, Acceptor], Answer]
"""Answers the N-ACTION and N-EVENT-REPORT requests of one SOP class."""


def quiet_library() -> None:
    """Keep the libraries from logging: their messages repeat what peers send, their errors are tracebacks."""
    pynetdicom_config.LOG_HANDLER_LEVEL = "none"
    pynetdicom_config.LOG_REQUEST_IDENTIFIERS = False
    pynetdicom_config.LOG_RESPONSE_IDENTIFIERS = False
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="Invalid value for VR UI", category=UserWarning)


class Server:
    """A listening C-ECHO and C-STORE SCP; `port` and `tls_port` are the bound ones, 0 where there is none.

    `admit` says whether a caller may associate; `store` is called once for each whole object, in the
    thread of its association, and answers for it; `services`, by SOP class, answer N-ACTION and
    N-EVENT-REPORT. `tls` is a port and what to show there; without it, or beside it, `port` None opens no
    plain listener. `suspect` hears of callers whose certificate or cipher was not accepted, and why. Close it
    with :meth:`close`. Raises OSError when a port cannot be had.
    """

    def __init__(
        self,
        *,
        ae_title: str,
        host: str,
        port: int | None,
        contexts: list[PresentationContext],
        limits: Limits,
        spool: Spool,
        admit: Callable[[Caller], Rejection | None],
        store: Callable[[Received], Answer],
        tls: tuple[int, Credentials] | None = None,
        suspect: Callable[[Caller, str], None] = lambda _caller, _why: None,
        services: Mapping[str, Service] = MappingProxyType({}),
    ) -> None:
        quiet_library()
        self.services, self._services = frozenset(services), services
        self.limits, self.spool, self.admit, self.store = limits, spool, admit, store
        self.suspect = suspect
        self.unstored = Standing(log, "store.refused", every=60.0)
        self.closing = False
        self.guests = Guests(limits)
        self._refused: Counter[str] = Counter()
        ae = _entity(ae_title, limits)
        self.port = self.tls_port = 0
        self._listeners: list[Listener] = []
        try:
            if port is not None:
                self.port = self._listen(Listener(self, ae, (host, port), ae_title, contexts))
            if tls is not None:
                self.tls_port = self._listen(Listener(self, ae, (host, tls[0]), ae_title, contexts, tls[1]))
        except OSError:
            self.close(0)
            raise

    def _listen(self, listener: Listener) -> int:
        self._listeners.append(listener)
        listener.start()
        return int(listener.server_address[1])

    def close(self, grace: float = 5.0) -> None:
        """Accept nothing more, let open associations end for `grace` seconds, cut off the rest."""
        self.closing = True
        for listener in self._listeners:
            listener.shutdown()
        deadline = time.monotonic() + grace
        while self.open_associations() and time.monotonic() < deadline:
            time.sleep(0.02)
        left = self.guests.all()
        for guest in left:
            guest.cut()
        for guest in left:
            if guest.assoc is not None and guest.assoc.is_alive():
                guest.assoc.join(5)

    def open_connections(self) -> int:
        """Connections at this moment, associated or not."""
        return self.guests.connections()

    def open_associations(self) -> int:
        """Established associations at this moment."""
        return self.guests.associations()

    def facts(self) -> dict[str, Any]:
        """Figures for whoever watches the node; `refused` counts who was turned away, by kind."""
        return {
            "associations": self.open_associations(),
            "connections": self.open_connections(),
            "refused": dict(self._refused),
        }

    def refused(self, kind: str) -> None:
        """Count somebody who was turned away."""
        self._refused[kind] += 1

    def gone(self, assoc: Acceptor) -> None:
        """The association has ended, its connection is closed."""
        self.guests.leave(assoc.guest)

    def serve(self, request: Request, assoc: Acceptor) -> Answer:
        """Answer an N-ACTION or N-EVENT-REPORT by the service of its SOP class."""
        if request.command.sop_class_uid != request.abstract_syntax:
            return Answer(statuses.NO_SUCH_SOP_CLASS, "SOP class of command and context differ")
        return self._services[request.abstract_syntax](request, assoc)

    def judge(self, assoc: Acceptor) -> Rejection | None:
        """Whether this association may be established; if so it counts from here on."""
        if self.closing:
            return SHUTTING_DOWN
        return assoc.rejection or self.guests.seat(assoc.guest)


def _entity(ae_title: str, limits: Limits) -> AE:
    ae = AE(ae_title=ae_title)
    ae.acse_timeout, ae.dimse_timeout, ae.network_timeout = (
        limits.acse_timeout,
        limits.dimse_timeout,
        limits.network_timeout,
    )
    ae.maximum_pdu_size = limits.max_pdu
    ae.maximum_associations = 1 << 20  # guests are counted here: silent ones must not use up the associations
    ae.implementation_class_uid = identity.IMPLEMENTATION_CLASS_UID
    ae.implementation_version_name = identity.IMPLEMENTATION_VERSION_NAME
    return ae


class Listener(ThreadedAssociationServer):
    """A port, in clear or with TLS. Whoever connects is waited for in a thread of its own."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(
        self,
        node: Server,
        ae: AE,
        address: tuple[str, int],
        ae_title: str,
        contexts: list[PresentationContext],
        credentials: Credentials | None = None,
    ) -> None:
        self.node, self.credentials = node, credentials
        self._arriving: dict[Any, Guest] = {}
        super().__init__(ae, address, ae_title, contexts)
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.1,), name=f"dicom-accept-{self.server_address[1]}", daemon=True
        )

    def start(self) -> None:
        """Begin to accept."""
        self._thread.start()

    def shutdown(self) -> None:
        """Stop the accept loop and close the listening socket; associations stay."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()
        self._thread.join()

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        listening = self.socket
        try:
            if listening is None:
                raise OSError("closed")
            connection, address = listening.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                log.error("connection.failed", error=error.strerror)
                time.sleep(0.2)  # the caller stays in the queue: without a pause this loop would not rest
            raise
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        guest, gone = self.node.guests.welcome(request, client_address[0])
        if gone is not None:
            self.node.refused("silent")
            log.warning("connection.cut", address=gone.address, why="silent, and others wait")
        if guest is None:
            self.node.refused("connections")
            log.warning("connection.refused", address=client_address[0], why="too many connections")
            return False
        self._arriving[request] = guest
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        guest = self._arriving.pop(request)
        try:
            if self._ready(guest):
                self._associate(guest, client_address)
        except Exception as error:  # noqa: BLE001 - whatever went wrong with one caller is no fault of the next
            log.error("connection.failed", address=guest.address, error=where(error))
        finally:
            if guest.assoc is None:
                self.shutdown_request(guest.connection)
                self.node.guests.leave(guest)

    def handle_error(self, request: Any, client_address: Any) -> None:
        guest = self._arriving.pop(request, None)
        if guest is not None:
            self.node.guests.leave(guest)
        error = sys.exception()
        log.error("connection.failed", address=client_address[0], error=where(error) if error else "unknown")

    def _ready(self, guest: Guest) -> bool:
        """Wait asleep for the caller's first word, after the handshake where there is to be one.

        Whoever only knocks costs a thread for that time and nothing more, and is not worth a line in the log.
        """
        limits = self.node.limits
        if self.credentials is None:
            word = _first_byte(guest.connection, limits.acse_timeout)
            if word == _TLS_HANDSHAKE:
                self.node.refused("tls")
                log.warning(
                    "connection.refused", address=guest.address, why="it speaks TLS to the plain port"
                )
            return word not in (b"", _TLS_HANDSHAKE)
        if not _first_byte(guest.connection, limits.handshake_timeout):
            return False
        try:
            encrypted = self._encrypted(guest, self.credentials.context())
        except ssl.SSLEOFError:
            return False
        except ssl.SSLError as error:
            self.node.refused("tls")
            log.warning("tls.refused", address=guest.address, why=unheard(error))
            self.node.suspect(Caller("", "", guest.address), f"TLS: {unheard(error)}")
            return False
        except OSError:
            return False
        return encrypted.pending() > 0 or readable(encrypted, limits.acse_timeout)

    def _encrypted(self, guest: Guest, context: ssl.SSLContext) -> ssl.SSLSocket:
        """Shake hands. Raises OSError, which includes what TLS finds fault with."""
        encrypted = context.wrap_socket(guest.connection, server_side=True, do_handshake_on_connect=False)
        guest.connection = encrypted
        encrypted.settimeout(self.node.limits.handshake_timeout)
        encrypted.do_handshake()
        return encrypted

    def _associate(self, guest: Guest, client_address: Any) -> None:
        assoc = Acceptor(self.node, self, guest)
        assoc.requestor.address_info = AddressInformation.from_tuple(client_address)
        assoc.acceptor.address_info = AddressInformation.from_tuple(self.server_address)
        assoc.acceptor.supported_contexts = deepcopy(self.contexts)
        guest.assoc = assoc
        try:
            assoc.start()
        except RuntimeError:  # no further thread can be had
            guest.assoc = None
            raise


def _first_byte(connection: socket.socket, seconds: float) -> bytes:
    """The first byte that comes, left where it is; none when nothing came in time, or the end."""
    if not readable(connection, seconds):
        return b""
    try:
        return connection.recv(1, socket.MSG_PEEK)
    except OSError:
        return b""
