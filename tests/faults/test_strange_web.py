"""Destinations that speak DICOMweb, or should: whatever they do ends in its time, and is tried again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from config import Destination
from config.settings import AuditSettings
from db.desk import WebhookCall
from db.objects import LocalStore
from db.states import DeliveryState
from pacs_node import patience, webhooks
from pacs_node.audit import sinks
from pacs_node.carrier import PeerError
from tests.faults.strange import Behaviour, Wire, strange
from tests.faults.test_strange_peers import told
from tests.pacs_node.nodes import make_database, make_object, make_settings
from tests.pacs_node.office import Office

S = DeliveryState
SHORT = 0.4


@pytest.fixture
def office(tmp_path) -> Iterator[Callable[..., Office]]:
    opened: list[Office] = []

    def open_office(patience: float) -> Office:
        settings = make_settings(
            tmp_path / "node",
            dicom={"dimse_timeout": patience, "connection_timeout": 10},
            queue={"retry_base_seconds": 0.05, "retry_max_seconds": 0.2},
        )
        opened.append(Office(settings, make_database(settings), LocalStore(settings.data_dir / "objects")))
        return opened[-1]

    yield open_office
    for one in opened:
        one.stop.set()
        one.sender.drain()
        one.database.close()


def asked(wire: Wire) -> bytes:
    """The object of one request, whole."""
    while (head := _head(wire)).startswith(b"GET "):  # it asks what became of an object: we know of none
        wire.send(b"HTTP/1.1 204 No Content\r\n\r\n")
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    body = wire.read(int(length.partition(b":")[2]))
    part = body.split(b"\r\n\r\n", 1)[1].rsplit(b"\r\n--", 1)[0]
    with wire.peer.lock:
        wire.peer.received.append(("", hashlib.sha256(part).hexdigest()))
    return part


def _head(wire: Wire) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += wire.read(1)
    return head


def good(wire: Wire) -> None:
    while True:
        asked(wire)
        answer = json.dumps({}).encode()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n")
        wire.send(b"Content-Length: %d\r\n\r\n" % len(answer) + answer)


def drips(wire: Wire, data: bytes) -> None:
    for byte in data * 1000:
        wire.send(bytes([byte]))
        if wire.peer.closed.wait(0.05):
            return


def silent(wire: Wire) -> None:
    wire.hang()


def silent_after_the_object(wire: Wire) -> None:
    asked(wire)
    wire.hang()


def dripping_headers(wire: Wire) -> None:
    asked(wire)
    wire.send(b"HTTP/1.1 200 OK\r\n")
    drips(wire, b"X-Patience: is a virtue\r\n")


def headers_and_no_more(wire: Wire) -> None:
    asked(wire)
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\nContent-Length: 100\r\n\r\n")
    wire.hang()


def dripping_body(wire: Wire) -> None:
    asked(wire)
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\nContent-Length: 90000\r\n\r\n")
    drips(wire, b" ")


def dripping_body_without_a_length(wire: Wire) -> None:
    asked(wire)
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n\r\n")
    drips(wire, b" ")


def endless_body(wire: Wire) -> None:
    asked(wire)
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n\r\n")
    while True:
        wire.send(b" " * (1 << 16))


def endless_headers(wire: Wire) -> None:
    asked(wire)
    wire.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        wire.send(b"X-More: " + b"x" * 1000 + b"\r\n")


def headers_cut_off(wire: Wire) -> None:
    """It says 200, and nothing of the object."""
    asked(wire)
    wire.send(b"HTTP/1.1 200 OK\r\nServer: stra")


def closes_in_the_middle(wire: Wire) -> None:
    wire.read(200)


def closes_after_the_object(wire: Wire) -> None:
    asked(wire)


def no_http(wire: Wire) -> None:
    asked(wire)
    wire.send(b"\x02\x00\x00\x00\x00\x10" + b"\xff" * 200)


def half_an_answer(wire: Wire) -> None:
    asked(wire)
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\nContent-Length: 100\r\n\r\n{")


ROWS: list[tuple[Behaviour, str, bool, float]] = [
    (silent, "did not answer in time", False, SHORT),
    (silent_after_the_object, "did not answer in time", True, SHORT),
    (dripping_headers, "did not answer in time", True, SHORT),
    (headers_and_no_more, "did not answer in time", True, SHORT),
    (dripping_body, "did not answer in time", True, SHORT),
    (dripping_body_without_a_length, "did not answer in time", True, SHORT),
    (endless_body, "no answer that can be used", True, 60),
    (endless_headers, "", True, 60),
    (headers_cut_off, "but not that it was stored", True, 60),
    (closes_in_the_middle, "", False, 60),
    (closes_after_the_object, "the connection was lost", True, 60),
    (no_http, "", True, 60),
    (half_an_answer, "the connection was lost", True, 60),
]
FEW = {silent, dripping_headers, headers_cut_off, dripping_body}


@pytest.mark.parametrize(
    ("does", "says", "has_it", "patience"),
    [row if row[0] in FEW else pytest.param(*row, marks=pytest.mark.faults) for row in ROWS],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_an_object_whose_fate_is_unknown_is_stored_again_with_the_same_bytes(
    office, does: Any, says: str, has_it: bool, patience: float
):
    office = office(patience)
    with strange(does, good) as peer:
        url = f"http://127.0.0.1:{peer.port}"
        office.post(make_object(), Destination(name="web", kind="dicomweb", url=url))
        assert office.work(lambda: told(office), 60)
        assert says in told(office)[0], told(office)
        office.sender.settings.dicom.__dict__["dimse_timeout"] = 60.0
        assert office.work(office.settled, 60), told(office)
        (delivery,) = office.deliveries()
        assert (delivery.state, delivery.attempts) == (S.STORED, 2)
        assert len(peer.received) == (2 if has_it else 1)
        assert len(set(peer.received)) == 1


def test_a_webhook_receiver_that_drips_costs_its_time_alone():
    letter = webhooks.Letter(call=WebhookCall(), url="", secret="a secret", body=b"{}")
    with strange(dripping_headers_alone) as peer, requests.Session() as http:
        http.mount("http://", patience.BoundedAdapter(SHORT))
        with pytest.raises(PeerError, match="did not answer in time"):
            webhooks.post(http, dataclasses.replace(letter, url=f"http://127.0.0.1:{peer.port}/"))


def dripping_headers_alone(wire: Wire) -> None:
    wire.send(b"HTTP/1.1 200 OK\r\n")
    drips(wire, b"X-Patience: is a virtue\r\n")


def test_an_audit_repository_that_drips_is_left_after_its_time():
    def endless(wire: Wire) -> None:
        drips(wire, b".")

    with strange(endless) as peer:
        audit = AuditSettings(messages="syslog", host="127.0.0.1", port=peer.port, tls=False)
        sinks.SyslogSink(audit, seconds=SHORT).send([b"<AuditMessage/>"])
        assert peer.connections == 1
