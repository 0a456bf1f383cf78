"""How an object travels: what the courier asks of whoever carries it, whatever the protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO, Protocol

from config import Destination
from pacs_node.header import Part10
from pacs_node.statuses import Verdict


class Undeliverable(Exception):
    """This object cannot go there, now or later; the message is for people."""


class PeerError(Exception):
    """The peer could not be reached or did not answer: another attempt later may do better."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One object on its way: its file (whole, verified, at its beginning), what it is, and where it goes.

    `ours`: made by us (a result, a note), so that its encoding may be changed; an original never is.
    """

    destination: Destination
    part10: Part10
    stream: BinaryIO
    ours: bool


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the destination said: what follows from it, its status in its own protocol, a line for people."""

    verdict: Verdict
    code: int
    text: str


class Carrier(Protocol):
    """Carries objects to one destination, one after another, in one thread."""

    def carry(self, parcel: Parcel) -> Receipt:
        """Send one object and wait for the answer.

        Raises :class:`Undeliverable`, :class:`PeerError`, and OSError when the object cannot be read.
        """

    def close(self) -> None:
        """Let go of whatever connection is open. Never raises; a later `carry` opens a new one."""
