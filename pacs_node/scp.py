"""A storage SCP: a listening C-ECHO and C-STORE server that streams what it receives to a spool.

What to do with a received object is the `store` function's part. Silent connections never use
up associations.
"""

from __future__ import annotations

import logging
import socket
import socketserver
import sys
import threading
import time
import warnings
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import structlog
from pynetdicom import AE
from pynetdicom import _config as pynetdicom_config
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from pacs_node import identity
from pacs_node.acceptor import Acceptor
from pacs_node.received import Answer, Caller, Limits, Received, Rejection
from pacs_node.spool import Spool
from pacs_node.whereabouts import where

log = structlog.get_logger(__name__)

CALLING_NOT_RECOGNISED = Rejection(1, 1, 3, "calling AE title or address is not allowed")
CALLED_NOT_RECOGNISED = Rejection(1, 1, 7, "called AE title is not ours")
LIMIT_EXCEEDED = Rejection(2, 3, 2, "too many associations")
SHUTTING_DOWN = Rejection(2, 3, 1, "shutting down")


def quiet_library() -> None:
    """Keep the libraries from logging: their messages repeat what peers send, their errors are tracebacks."""
    pynetdicom_config.LOG_HANDLER_LEVEL = "none"
    pynetdicom_config.LOG_REQUEST_IDENTIFIERS = False
    pynetdicom_config.LOG_RESPONSE_IDENTIFIERS = False
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message="Invalid value for VR UI", category=UserWarning)


class Server:
    """A listening C-ECHO and C-STORE SCP; `port` is the bound one. Close it with :meth:`close`.

    `admit` says whether a caller may associate; `store` is called once for each whole object, in the
    thread of its association, and answers for it. Raises OSError when the port cannot be had.
    """

    def __init__(
        self,
        *,
        ae_title: str,
        host: str,
        port: int,
        contexts: list[PresentationContext],
        limits: Limits,
        spool: Spool,
        admit: Callable[[Caller], Rejection | None],
        store: Callable[[Received], Answer],
    ) -> None:
        quiet_library()
        self.limits, self.spool, self.admit, self.store = limits, spool, admit, store
        self.closing = False
        self._lock = threading.Lock()
        self._connections: set[Acceptor] = set()
        self._established: set[Acceptor] = set()
        ae = AE(ae_title=ae_title)
        ae.acse_timeout, ae.dimse_timeout, ae.network_timeout = (
            limits.acse_timeout,
            limits.dimse_timeout,
            limits.network_timeout,
        )
        ae.maximum_pdu_size = limits.max_pdu
        ae.maximum_associations = 1 << 20  # counted here: silent connections must not use up the associations
        ae.implementation_class_uid = identity.IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = identity.IMPLEMENTATION_VERSION_NAME
        self._listener = _Listener(self, ae, (host, port), ae_title, contexts)
        self.port = int(self._listener.server_address[1])
        self._thread = threading.Thread(
            target=self._listener.serve_forever, args=(0.1,), name="dicom-accept", daemon=True
        )
        self._thread.start()

    def close(self, grace: float = 5.0) -> None:
        """Accept nothing more, let open associations end for `grace` seconds, cut off the rest."""
        self.closing = True
        self._listener.shutdown()
        self._thread.join()
        deadline = time.monotonic() + grace
        while self.open_associations() and time.monotonic() < deadline:
            time.sleep(0.02)
        with self._lock:
            left = list(self._connections)
        for assoc in left:
            assoc.cut()
        for assoc in left:
            if assoc.is_alive():
                assoc.join(5)

    def open_connections(self) -> int:
        """Connections at this moment, associated or not."""
        with self._lock:
            return len(self._connections)

    def open_associations(self) -> int:
        """Established associations at this moment."""
        with self._lock:
            return len(self._established)

    def connected(self, assoc: Acceptor) -> None:
        with self._lock:
            self._connections.add(assoc)

    def gone(self, assoc: Acceptor) -> None:
        with self._lock:
            self._connections.discard(assoc)
            self._established.discard(assoc)

    def judge(self, assoc: Acceptor) -> Rejection | None:
        """Whether this association may be established; if so it counts from here on."""
        if self.closing:
            return SHUTTING_DOWN
        if rejection := self.admit(assoc.caller):
            return rejection
        with self._lock:
            if len(self._established) >= self.limits.max_associations:
                return LIMIT_EXCEEDED
            self._established.add(assoc)
        return None


class _Listener(ThreadedAssociationServer):
    request_queue_size = 128
    daemon_threads = True

    def __init__(
        self,
        node: Server,
        ae: AE,
        address: tuple[str, int],
        ae_title: str,
        contexts: list[PresentationContext],
    ) -> None:
        self.node = node
        super().__init__(ae, address, ae_title, contexts, request_handler=_Handler)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(self.node.limits.acse_timeout)
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        if self.node.open_connections() < self.node.limits.max_connections:
            return True
        log.warning("association.refused", address=client_address[0], why="too many connections")
        return False

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        log.error("connection.failed", address=client_address[0], error=where(error) if error else "unknown")

    def shutdown(self) -> None:
        """Stop the accept loop and close the listening socket; associations stay."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()


class _Handler(RequestHandler):
    """Makes an association of our own kind for each connection."""

    server: _Listener

    def _create_association(self) -> Association:
        assoc = Acceptor(self.server.node, self.server, self.request)
        assoc.requestor.address_info = self.remote
        assoc.acceptor.address_info = self.local
        assoc.acceptor.supported_contexts = deepcopy(self.server.contexts)
        self.server.node.connected(assoc)
        return assoc
