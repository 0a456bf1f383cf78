from __future__ import annotations

import socket

import pytest

from pacs_node.guests import GRACE_SECONDS, LIMIT_EXCEEDED, PEER_LIMIT_EXCEEDED, Guests
from pacs_node.received import Limits


class Hall:
    """Guests under a clock of ours."""

    def __init__(self, **limits: int) -> None:
        self.now = 0.0
        self.guests = Guests(Limits(**limits), clock=lambda: self.now)
        self.sockets: list[socket.socket] = []

    def knock(self, address: str = "192.0.2.1"):
        ours, theirs = socket.socketpair()
        self.sockets += [ours, theirs]
        guest, gone = self.guests.welcome(ours, address)
        return guest, gone, theirs

    def seat(self, address: str = "192.0.2.1"):
        guest, _, _ = self.knock(address)
        assert guest is not None
        return guest, self.guests.seat(guest)


@pytest.fixture
def hall():
    halls: list[Hall] = []

    def open_hall(**limits: int) -> Hall:
        halls.append(Hall(**limits))
        return halls[-1]

    yield open_hall
    for one in halls:
        for connection in one.sockets:
            connection.close()


def test_associations_are_bounded_in_all(hall):
    here = hall(max_associations=2)
    first, _ = here.seat("192.0.2.1")
    assert here.seat("192.0.2.2")[1] is None
    late, refusal = here.seat("192.0.2.3")
    assert refusal is LIMIT_EXCEEDED
    here.guests.leave(first)
    assert here.guests.seat(late) is None
    assert here.guests.associations() == 2


def test_associations_are_bounded_for_each_address(hall):
    here = hall(max_associations_per_peer=1)
    assert here.seat("192.0.2.1")[1] is None
    assert here.seat("192.0.2.1")[1] is PEER_LIMIT_EXCEEDED
    assert here.seat("192.0.2.2")[1] is None
    assert (PEER_LIMIT_EXCEEDED.result, PEER_LIMIT_EXCEEDED.source, PEER_LIMIT_EXCEEDED.reason) == (2, 3, 2)


def test_the_oldest_silent_connection_of_an_address_gives_way_to_a_new_one(hall):
    here = hall(max_associations_per_peer=2)
    seated, _ = here.seat()
    silent, _, far = here.knock()
    other, _, _ = here.knock("192.0.2.2")
    here.now = GRACE_SECONDS
    new, gone, _ = here.knock()
    assert new is not None
    assert gone is silent
    assert far.recv(1) == b"", "it was not cut off"
    assert here.guests.all() == [seated, other, new]


def test_a_new_connection_has_a_moment_for_itself(hall):
    here = hall(max_associations_per_peer=1)
    here.knock()
    here.now = GRACE_SECONDS / 2
    _, gone, _ = here.knock()
    assert gone is None


def test_who_is_associated_gives_way_to_nobody(hall):
    here = hall(max_associations_per_peer=1)
    here.seat()
    here.now = 60.0
    late, gone, _ = here.knock()
    assert gone is None
    assert late is not None
    assert here.guests.seat(late) is PEER_LIMIT_EXCEEDED, "it is told, not merely dropped"


def test_beyond_all_measure_there_is_no_room_until_somebody_has_been_silent_too_long(hall):
    here = hall(max_associations=1, max_associations_per_peer=1000)
    for number in range(here.guests.limits.max_connections):
        assert here.knock(f"192.0.2.{number}")[0] is not None
    assert here.knock("198.51.100.1")[:2] == (None, None)
    here.now = GRACE_SECONDS
    new, gone, _ = here.knock("198.51.100.1")
    assert new is not None
    assert gone is not None
    assert gone.address == "192.0.2.0"
    assert here.guests.connections() == here.guests.limits.max_connections


def test_who_was_cut_off_cannot_associate_any_more(hall):
    here = hall(max_associations_per_peer=1)
    late, _, _ = here.knock()
    here.now = GRACE_SECONDS
    here.knock()
    assert here.guests.seat(late) is LIMIT_EXCEEDED
    here.guests.leave(late)
    assert here.guests.connections() == 1
