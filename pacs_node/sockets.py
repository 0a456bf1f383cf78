"""pynetdicom's socket, made to close what it opened.

The library's own skips the close when the peer was faster: the descriptor then stays until the garbage is
collected.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.transport import AddressInformation, AssociationSocket


class ClosingSocket(AssociationSocket):
    """A socket that is closed after its shutdown, whatever the shutdown said."""

    def _shutdown_socket(self) -> None:
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            with contextlib.suppress(OSError):
                self.socket.close()


class ClosingAE(AE):
    """An application entity whose associations use :class:`ClosingSocket`."""

    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: Any
    ) -> AssociationSocket:
        wrapper = ClosingSocket(assoc, address=address)
        wrapper.tls_args = tls_args
        return wrapper
