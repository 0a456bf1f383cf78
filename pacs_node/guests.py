"""Who is connected at this moment, how many may be, and who gives way.

A connection counts from its first moment, whether it says a word or not, so that neither load balancers nor
broken devices can use up what others need: where a limit is reached, the oldest connection that has not
associated is closed in favour of the new one.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pacs_node.received import Limits, Rejection
from pacs_node.sockets import sever

if TYPE_CHECKING:
    from pacs_node.acceptor import Acceptor

LIMIT_EXCEEDED = Rejection(2, 3, 2, "too many associations", "limit")
PEER_LIMIT_EXCEEDED = Rejection(2, 3, 2, "too many associations from this address", "peer-limit")

GRACE_SECONDS = 1.0
"""Time that a new connection has for itself before it gives way to others."""


@dataclass(eq=False)
class Guest:
    """One connection, from its acceptance to its end."""

    address: str
    connection: socket.socket
    since: float
    assoc: Acceptor | None = None
    established: bool = False

    def cut(self) -> None:
        """End the connection from any thread, whatever its own waits for."""
        if self.assoc is not None:
            self.assoc.cut()
        else:
            sever(self.connection)


@dataclass
class Guests:
    """All connections of a server, bounded in all and for each address; safe to use from any thread."""

    limits: Limits
    clock: Callable[[], float] = time.monotonic
    _all: dict[Guest, None] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def welcome(self, connection: socket.socket, address: str) -> tuple[Guest | None, Guest | None]:
        """Take a new connection in: its guest (None: there is no room), and who was cut off in its favour."""
        now = self.clock()
        with self._lock:
            here = [guest for guest in self._all if guest.address == address]
            room = len(self._all) < self.limits.max_connections
            gone = None
            if not room:
                gone = _oldest_silent(self._all, now)
            elif len(here) >= self.limits.max_associations_per_peer:
                gone = _oldest_silent(here, now)
            if gone is not None:
                del self._all[gone]
            guest = Guest(address, connection, now) if room or gone else None
            if guest is not None:
                self._all[guest] = None
        if gone is not None:
            gone.cut()
        return guest, gone

    def seat(self, guest: Guest) -> Rejection | None:
        """Count a guest among the established associations, or say why it cannot be one."""
        with self._lock:
            seated = Counter(other.address for other in self._all if other.established)
            if guest not in self._all or seated.total() >= self.limits.max_associations:
                return LIMIT_EXCEEDED
            if seated[guest.address] >= self.limits.max_associations_per_peer:
                return PEER_LIMIT_EXCEEDED
            guest.established = True
        return None

    def leave(self, guest: Guest) -> None:
        """The connection has ended. A second word of it is heard in silence."""
        with self._lock:
            guest.established = False
            self._all.pop(guest, None)

    def all(self) -> list[Guest]:
        """Everybody who is connected, the oldest first."""
        with self._lock:
            return list(self._all)

    def connections(self) -> int:
        """Connections at this moment, associated or not."""
        with self._lock:
            return len(self._all)

    def associations(self) -> int:
        """Established associations at this moment."""
        with self._lock:
            return sum(guest.established for guest in self._all)


def _oldest_silent(guests: Iterable[Guest], now: float) -> Guest | None:
    """Who came first of those that have not associated and have had their grace."""
    return next((g for g in guests if not g.established and now - g.since >= GRACE_SECONDS), None)
