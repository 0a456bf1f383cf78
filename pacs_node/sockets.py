"""pynetdicom's socket, in clear or with TLS, made to close what it opened and to say why it failed.

The library's own skips the close when the peer was faster: the descriptor then stays until the garbage is
collected. It also swallows the reason of a failed connection, and reads from a TLS connection as soon as a
part of a record has come, so that a peer that sends half of one holds the thread that sends, too. It reads a
PDU of any length that the peer announces, for as long as a byte comes now and then. And its upper layer's
thread dies of what a peer should not have sent, while others wait for it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from typing import Any

import structlog
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import A_P_ABORT
from pynetdicom.transport import T_CONNECT, AddressInformation, AssociationSocket

from pacs_node.whereabouts import where

log = structlog.get_logger(__name__)

_RECORD = 16384
"""Largest payload of a TLS record, in bytes (RFC 8446 section 5.1)."""
_PATIENCE, _PDU = 60.0, 1 << 17
"""Where the library was told of no limit: seconds for a PDU, and its length in bytes."""
LONGEST_ASSOCIATE = 1 << 18
"""Longest PDU that is read before an association is established, in bytes: 128 contexts with every transfer
syntax there is take less."""


class TooLong(OSError):
    """The peer announces a PDU that is longer than it may be."""


def readable(connection: socket.socket, seconds: float = 0.0) -> bool:
    """Whether something comes, or the end, within that time. Raises ValueError of a closed one.

    Unlike `select` it knows descriptors beyond 1023.
    """
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


def sever(connection: socket.socket) -> None:
    """End a connection under the feet of whoever reads or writes it; its descriptor stays until it is closed.

    Not by the method of a TLS socket, which forgets its encryption and would then read ciphertext as data.
    """
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


class ClosingSocket(AssociationSocket):
    """A socket that is closed after its shutdown, whatever the shutdown said.

    `trouble` is why it could not connect, or was lost; `connected` says whether a connection was made,
    `opened` whether an association could be asked for over it.
    """

    trouble: OSError | None = None
    connected = opened = False
    _ahead = b""

    def connect(self, primitive: T_CONNECT) -> None:
        """Connect, then shake hands where TLS is asked for; each within its time."""
        try:
            self._open(primitive)
        except OSError as error:
            self.trouble = error
            self._shutdown_socket()
            self.socket = None
            primitive.result = "Evt17"
        else:
            self._is_connected = self.opened = True
            evt.trigger(self.assoc, evt.EVT_CONN_OPEN, {"address": primitive.address_info.as_tuple})
            primitive.result = "Evt2"
        finally:
            self.provider_queue.put(primitive)
            self._ready.set()

    def _open(self, primitive: T_CONNECT) -> None:
        connection = self.socket
        if connection is None:
            raise OSError("closed before it was connected")
        connection.settimeout(self.assoc.connection_timeout)
        connection.connect(primitive.address_info.as_tuple)
        self.connected = True
        if self.tls_args:
            context, name = self.tls_args
            encrypted = context.wrap_socket(connection, server_hostname=name, do_handshake_on_connect=False)
            self.socket = encrypted
            encrypted.settimeout(getattr(self.assoc.ae, "handshake_timeout", None))
            encrypted.do_handshake()
            connection = encrypted
        connection.settimeout(self.assoc.network_timeout)
        self.assoc.requestor.address_info = AddressInformation.from_tuple(connection.getsockname())

    @property
    def ready(self) -> bool:
        """Whether there is something to read: of a TLS connection a whole record, of any other a byte."""
        connection = self.socket
        if connection is None or not self._is_connected:
            return False
        if self._ahead:
            return True
        try:
            if not isinstance(connection, ssl.SSLSocket):
                return readable(connection)
            if not connection.pending() and not readable(connection):
                return False
            patience = connection.gettimeout()
            connection.settimeout(0)
            try:
                self._ahead = connection.recv(_RECORD)
            finally:
                connection.settimeout(patience)
        except ssl.SSLWantReadError:
            return False
        except (OSError, ValueError) as error:
            self._lost(error)
            return False
        if not self._ahead:
            self.event_queue.put("Evt17")
        return bool(self._ahead)

    def ahead(self, most: int) -> bytes:
        """Take up to `most` bytes of what was read already."""
        taken, self._ahead = self._ahead[:most], self._ahead[most:]
        return taken

    def bounds(self) -> tuple[int, float]:
        """Length of the longest PDU that is read now, in bytes, and seconds that one may take."""
        assoc = self.assoc
        if not assoc.is_established:
            return LONGEST_ASSOCIATE, assoc.acse_timeout or _PATIENCE
        return 2 * (assoc.requestor.maximum_length or _PDU) + 1024, assoc.network_timeout or _PATIENCE

    def recv(self, nr_bytes: int) -> bytearray:
        """Read that many bytes; fewer when the peer closes first.

        Raises OSError: :class:`TooLong` of more than a PDU may have, TimeoutError when they do not all come
        in its time.
        """
        longest, seconds = self.bounds()
        try:
            if nr_bytes > longest:
                raise TooLong("the peer announces a PDU that is too long")
            return self._read(nr_bytes, time.monotonic() + seconds)
        except OSError as error:
            self.trouble = error
            raise

    def _read(self, nr_bytes: int, deadline: float) -> bytearray:
        connection, ahead = self.socket, self.ahead(nr_bytes)
        data, done = bytearray(nr_bytes), len(ahead)
        with memoryview(data) as view:
            view[:done] = ahead
            while connection is not None and done < nr_bytes:
                if (left := deadline - time.monotonic()) <= 0:
                    raise TimeoutError("the PDU did not come in time")
                connection.settimeout(left)
                if not (count := connection.recv_into(view[done:])):
                    break
                done += count
        del data[done:]
        return data

    def send(self, bytestream: bytes) -> None:
        """Send all of it, waiting no longer than `network_timeout` for the peer to take a piece."""
        connection = self.socket
        try:
            if connection is None:
                raise OSError("closed")
            connection.settimeout(self.assoc.network_timeout)
            rest = memoryview(bytestream)
            while rest:
                rest = rest[connection.send(rest) :]
        except (OSError, ValueError) as error:
            self._lost(error)
        else:
            evt.trigger(self.assoc, evt.EVT_DATA_SENT, {"data": bytestream})

    def _lost(self, error: Exception) -> None:
        self.trouble = error if isinstance(error, OSError) else None
        self.event_queue.put("Evt17")

    def _shutdown_socket(self) -> None:
        connection = self.socket
        if connection is None:
            return
        if isinstance(connection, ssl.SSLSocket):
            # close_notify (RFC 8446 section 6.1), without waiting for the peer's
            with contextlib.suppress(OSError, ValueError):
                connection.settimeout(0)
                connection.unwrap()
        sever(connection)
        with contextlib.suppress(OSError):
            connection.close()


class SturdyDul(DULServiceProvider):
    """The upper layer of an association that we open: what breaks it ends the association, in order."""

    nonsense = False
    """Whether it ended the association over what the peer sent."""

    def run_reactor(self) -> None:
        try:
            super().run_reactor()
        except Exception as error:  # noqa: BLE001 - whatever state a peer brought it to
            log.warning("association.broken", error=where(error))
            self.nonsense = True
            if self.socket is not None and self.socket.socket is not None:
                sever(self.socket.socket)
            self.to_user_queue.put(A_P_ABORT())
            self.assoc.dimse.msg_queue.put((None, None))


class ClosingAE(AE):
    """An application entity whose associations use :class:`ClosingSocket`."""

    handshake_timeout: float | None = 10.0
    """Seconds that a TLS handshake may take."""

    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: Any
    ) -> AssociationSocket:
        assoc.dul = SturdyDul(assoc)
        wrapper = ClosingSocket(assoc, address=address)
        wrapper.tls_args = tls_args
        return wrapper
