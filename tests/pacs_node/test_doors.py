"""Both doors of the receiver: who is let in, who is refused and how, and what silent callers cost."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import pydicom
import pytest
from pynetdicom.presentation import build_context
from structlog.testing import capture_logs

from config import Destination
from config.network import DicomTls, Peer
from config.settings import DicomSettings
from db import presence
from pacs_node import receiver, scu, tls
from pacs_node.echo import echo
from pacs_node.guests import GRACE_SECONDS
from tests.interop.conftest import Roles
from tests.pacs_node.certificates import Authority
from tests.pacs_node.nodes import (
    CR,
    EXPLICIT,
    PATIENT,
    associated,
    dicom_threads,
    encoded,
    eventually,
    make_database,
    make_object,
    make_settings,
    receiving,
    rejection,
    sources,
    still_receives,
    wire,
)


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


def door(authority, *, mutual=True, **more) -> DicomTls:
    pair = authority.issue("server")
    return DicomTls(port=0, cert=pair.cert, key=pair.key, ca=authority.ca if mutual else None, **more)


def node_at(port: int, authority, *, show: str | None = "client", **more) -> Destination:
    """Our node as a destination, so that our own SCU is its modality."""
    pair = authority.issue(show) if show else None
    own = {"tls_cert": pair.cert, "tls_key": pair.key} if pair else {}
    given = {"name": "node", "ae_title": "CXR_SR", "host": "127.0.0.1", "port": port, "tls": True}
    return Destination(**(given | {"tls_ca": authority.ca} | own | more))


CALLER = DicomSettings(**({"ae_title": "MODALITY"} | PATIENT))


def sent(destination: Destination, ds=None) -> int:
    """Store one object there; the status."""
    ds = ds or make_object()
    context = build_context(CR, EXPLICIT)
    with scu.association(destination, CALLER, [context]) as assoc:
        (cx,) = assoc.accepted_contexts
        data = io.BytesIO(encoded(ds))
        return scu.store(assoc, cx, CR, ds.SOPInstanceUID, data, message_id=1, timeout=60).status


def test_an_object_comes_through_the_tls_door_beside_the_plain_one(tmp_path, authority):
    ds = make_object(size=1024)
    with receiving(make_settings(tmp_path / "node", dicom={"tls": door(authority)})) as node:
        assert sent(node_at(node.tls_port, authority), ds) == 0
        assert still_receives(node)
        (first, _) = sources(node)
        assert (first.origin_ae_title, first.origin_address) == ("MODALITY", "127.0.0.1")
        with node.store.open(first.object_key) as stream:
            assert stream.read().endswith(encoded(ds))
    assert eventually(lambda: not dicom_threads())


def test_the_plain_door_can_stay_closed(tmp_path, authority):
    settings = make_settings(tmp_path / "node", dicom={"tls": door(authority, only=True)})
    with receiving(settings) as node:
        assert node.port == 0
        assert sent(node_at(node.tls_port, authority)) == 0


def test_a_certificate_is_no_substitute_for_a_place_on_the_list(tmp_path, authority):
    dicom = {"tls": door(authority), "allow": (Peer(ae_title="OTHER"),)}
    with receiving(make_settings(tmp_path / "node", dicom=dicom)) as node:
        answer = echo(node_at(node.tls_port, authority), CALLER)
        assert "Calling AE title not recognised; let it know us as MODALITY" in answer.message
        assert echo(node_at(node.tls_port, authority, calling_ae_title="OTHER"), CALLER).ok
        assert node.receiver.facts()["refused"] == {"calling": 1}


@pytest.mark.parametrize(
    ("show", "says"),
    [
        (None, "it asks for our certificate; set tls_cert and tls_key"),
        ("stranger", "it does not trust the authority of our certificate"),
    ],
)
def test_who_has_no_certificate_of_our_authority_is_refused_logged_and_counted(
    tmp_path, authority, show, says
):
    with receiving(make_settings(tmp_path / "node", dicom={"tls": door(authority)})) as node:
        caller = node_at(node.tls_port, authority, show=None)
        if show:
            pair = Authority(tmp_path / "strange", "Strange").issue("client")
            caller = caller.model_copy(update={"tls_cert": pair.cert, "tls_key": pair.key})
        with capture_logs() as logs:
            answer = echo(caller, CALLER)
            assert eventually(lambda: node.receiver.server.open_connections() == 0)
        assert says in answer.message or "refuse our certificate" in answer.message
        assert not answer.ok
        assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == ["tls.refused"]
        assert node.receiver.facts()["refused"] == {"tls": 1}
        assert sent(node_at(node.tls_port, authority)) == 0


def test_without_an_authority_callers_show_nothing(tmp_path, authority):
    with receiving(make_settings(tmp_path / "node", dicom={"tls": door(authority, mutual=False)})) as node:
        assert echo(node_at(node.tls_port, authority, show=None), CALLER).ok


def test_who_speaks_in_clear_to_the_tls_door_or_tls_to_the_plain_one_is_told(tmp_path, authority):
    settings = make_settings(tmp_path / "node", dicom={"tls": door(authority), "acse_timeout": 20})
    with receiving(settings) as node:
        clear = Destination(name="node", ae_title="CXR_SR", host="127.0.0.1", port=node.tls_port)
        assert "it may expect TLS" in echo(clear, CALLER).message
        assert "expect no TLS" in echo(node_at(node.port, authority), CALLER).message
        assert eventually(lambda: node.receiver.facts()["refused"] == {"tls": 2})


def test_a_certificate_replaced_while_running_is_used_by_the_next_association(tmp_path, authority):
    with receiving(make_settings(tmp_path / "node", dicom={"tls": door(authority)})) as node:
        assert sent(node_at(node.tls_port, authority)) == 0
        new = Authority(tmp_path / "new", "New Authority")
        served = node.settings.dicom.tls
        pair = new.issue("server")
        served.cert.write_bytes(pair.cert.read_bytes())
        assert echo(node_at(node.tls_port, authority), CALLER).ok, "half a change changes nothing"
        assert "does not belong" in node.receiver.facts()["problem"]
        served.key.write_bytes(pair.key.read_bytes())
        assert "not in tls_ca" in echo(node_at(node.tls_port, authority), CALLER).message
        trusting = node_at(node.tls_port, authority, tls_ca=new.ca)
        assert sent(trusting) == 0
        assert node.receiver.facts()["problem"] is None


def test_a_tls_door_without_a_usable_certificate_keeps_the_receiver_from_starting(tmp_path, authority):
    broken = door(authority)
    broken.key.write_text("nothing")
    with (
        pytest.raises(tls.TlsError, match="no usable certificate"),
        receiving(make_settings(tmp_path / "node", dicom={"tls": broken})),
    ):
        pass
    assert dicom_threads() == []


def test_a_port_that_is_taken_leaves_no_half_open_receiver(tmp_path, authority):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        second = door(authority).model_copy(update={"port": taken.getsockname()[1]})
        with (
            pytest.raises(OSError, match="in use"),
            receiving(make_settings(tmp_path / "node", dicom={"tls": second})),
        ):
            pass
    assert dicom_threads() == []


def test_every_title_of_ours_is_answered_and_no_other(tmp_path):
    settings = make_settings(tmp_path / "node", dicom={"ae_titles": ("CXR_X2", "CXR_X4")})
    with receiving(settings) as node:
        for title in ("CXR_SR", "CXR_X2", "CXR_X4"):
            with associated(node.port, called=title) as assoc:
                assert assoc.is_established
        with associated(node.port, called="CXR_X8") as assoc:
            assert rejection(assoc) == "Called AE title not recognised"
        assert node.receiver.facts()["refused"] == {"called": 1}


def test_the_pdu_size_that_is_configured_is_announced(tmp_path):
    with receiving(make_settings(tmp_path / "node", dicom={"max_pdu": 32768})) as node:
        with associated(node.port) as assoc:
            assert assoc.acceptor.maximum_length == 32768


def test_dicomhawk_86_one_address_cannot_take_every_association(tmp_path):
    settings = make_settings(tmp_path / "node", dicom={"max_associations_per_peer": 2} | PATIENT)
    with receiving(settings) as node:
        with associated(node.port), associated(node.port), associated(node.port) as third:
            answer = third.acceptor.primitive
            assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)
        assert node.receiver.facts()["refused"] == {"peer-limit": 1}
        assert eventually(lambda: node.receiver.server.open_associations() == 0)
        assert still_receives(node)


def test_fo_dicom_1468_connections_that_nobody_closes_give_way_to_new_ones(tmp_path):
    dicom = PATIENT | {"max_associations_per_peer": 3, "acse_timeout": 600}
    with receiving(make_settings(tmp_path / "node", dicom=dicom)) as node, contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", node.port))) for _ in range(3)]
        assert eventually(lambda: node.receiver.server.open_connections() == 3)
        youngest = max(guest.since for guest in node.receiver.server.guests.all())
        assert eventually(lambda: time.monotonic() - youngest > GRACE_SECONDS)
        assert still_receives(node)
        assert node.receiver.facts()["refused"] == {"silent": 1}
        silent[0].settimeout(60)
        assert silent[0].recv(1) == b"", "the oldest was to give way"


def seconds_to_store(destination: Destination) -> float:
    began = time.monotonic()
    assert sent(destination) == 0
    return time.monotonic() - began


def test_pynetdicom_709_silent_tcp_and_tls_clients_delay_nobody(tmp_path, authority):
    """24 of each, with limits and waits as they are by default.

    One of them in the accept loop would cost a whole time-out; the bound leaves room for a busy machine.
    """
    waits = {key: DicomSettings.model_fields[key].default for key in (*PATIENT, "handshake_timeout")}
    settings = make_settings(tmp_path / "node", dicom=waits | {"tls": door(authority)})
    with receiving(settings) as node, contextlib.ExitStack() as stack:
        plain = Destination(name="node", ae_title="CXR_SR", host="127.0.0.1", port=node.port)
        doors = {"plain": plain, "tls": node_at(node.tls_port, authority)}
        alone = {name: min(seconds_to_store(there) for _ in range(3)) for name, there in doors.items()}
        for port in [node.port] * 24 + [node.tls_port] * 24:
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert eventually(lambda: node.receiver.server.open_connections() == 48)
        for name, there in doors.items():
            beside = min(seconds_to_store(there) for _ in range(3))
            assert beside < alone[name] + min(waits.values()) / 2, "a silent client has delayed it"


def test_a_tls_client_that_stops_in_the_middle_of_its_handshake_is_closed_in_time(tmp_path, authority):
    settings = make_settings(tmp_path / "node", dicom={"tls": door(authority), "handshake_timeout": 0.5})
    with receiving(settings) as node, socket.create_connection(("127.0.0.1", node.tls_port)) as half:
        half.sendall(b"\x16\x03\x01\x02\x00\x01")
        half.settimeout(60)
        with contextlib.suppress(ConnectionError):
            assert half.recv(1) == b""
        assert eventually(lambda: node.receiver.server.open_connections() == 0)


def test_a_tls_client_that_is_silent_after_its_handshake_is_closed_in_time(tmp_path, authority):
    settings = make_settings(tmp_path / "node", dicom={"tls": door(authority), "acse_timeout": 0.5})
    with receiving(settings) as node:
        context = tls.client_context(node_at(node.tls_port, authority))
        with socket.create_connection(("127.0.0.1", node.tls_port)) as connection:
            with context.wrap_socket(connection, server_hostname="127.0.0.1") as silent:
                silent.settimeout(60)
                with contextlib.suppress(ssl.SSLEOFError):
                    assert silent.recv(1) == b""
        assert eventually(lambda: node.receiver.server.open_connections() == 0)


def test_pynetdicom_917_overlapping_senders_are_served_without_parsing_a_data_set(tmp_path, monkeypatch):
    """What slows senders that overlap is Python at work on their images: here it touches none of them."""
    objects = [make_object(size=512) for _ in range(4)]
    with receiving(make_settings(tmp_path / "node", dicom=PATIENT)) as node:
        here = Destination(name="node", ae_title="CXR_SR", host="127.0.0.1", port=node.port)
        answers: list[int] = []
        senders = [threading.Thread(target=lambda ds=ds: answers.append(sent(here, ds))) for ds in objects]

        parsed: list[str] = []

        def watched(name: str, read: Callable[..., Any]) -> Callable[..., Any]:
            def parse(*given: Any, **more: Any) -> Any:
                if threading.current_thread().name.startswith(("AcceptorThread", "dicom-")):
                    parsed.append(name)
                return read(*given, **more)

            return parse

        for name in ("dcmread", "read_dataset", "data_element_generator"):
            monkeypatch.setattr(pydicom.filereader, name, watched(name, getattr(pydicom.filereader, name)))
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        assert answers == [0] * len(objects)
        assert len(sources(node)) == len(objects)
        assert parsed == []


def test_half_a_tls_record_holds_neither_the_association_nor_its_thread(tmp_path, authority):
    """What is readable on the wire is no whole record yet: reading it would wait, and answers with it."""
    settings = make_settings(tmp_path / "node", dicom={"tls": door(authority), "network_timeout": 1})
    with receiving(settings) as node:
        with scu.association(
            node_at(node.tls_port, authority), CALLER, [build_context(CR, EXPLICIT)]
        ) as assoc:
            raw = socket.socket(fileno=os.dup(wire(assoc).fileno()))
            with raw:
                raw.send(b"\x17\x03\x03\x40")
            assert eventually(lambda: node.receiver.server.open_connections() == 0)
        assert sent(node_at(node.tls_port, authority)) == 0


@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("rude", [False, True])
def test_pynetdicom_669_probes_that_open_and_close_leave_no_thread_and_no_descriptor(
    tmp_path, authority, encrypted, rude
):
    with receiving(make_settings(tmp_path / "node", dicom={"tls": door(authority)})) as node:
        port = node.tls_port if encrypted else node.port
        assert still_receives(node)
        assert eventually(lambda: len(dicom_threads()) == 2), "the two that accept"
        descriptors = len(os.listdir("/proc/self/fd"))
        with capture_logs() as logs:
            for _ in range(200):
                with socket.create_connection(("127.0.0.1", port)) as probe:
                    if rude:  # a reset instead of an end, as some load balancers do
                        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                        probe.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            assert eventually(lambda: node.receiver.server.open_connections() == 0)
            assert eventually(lambda: len(dicom_threads()) == 2)
        assert eventually(lambda: len(os.listdir("/proc/self/fd")) <= descriptors)
        assert logs == [], "a probe every few seconds would fill the log"
        assert node.receiver.facts()["refused"] == {}
        assert still_receives(node)


def test_refusals_are_logged_without_what_the_caller_sent_of_patients(tmp_path):
    with receiving(make_settings(tmp_path / "node")) as node, capture_logs() as logs:
        with associated(node.port, called="SOMEBODY"):
            pass
        (entry,) = [entry for entry in logs if entry["event"] == "association.rejected"]
        assert entry == {
            "event": "association.rejected",
            "log_level": "warning",
            "why": "called AE title is not ours",
            "caller": "MODALITY",
            "called": "SOMEBODY",
            "address": "127.0.0.1",
            "tls": False,
        }


def test_the_system_is_told_of_doors_and_refusals(tmp_path, authority):
    with receiving(make_settings(tmp_path / "node", dicom={"tls": door(authority)})) as node:
        assert node.receiver.facts() == {
            "port": node.port,
            "tls_port": node.tls_port,
            "problem": None,
            "associations": 0,
            "connections": 0,
            "refused": {},
        }
    assert receiver.FACTS_SECONDS < 10


def test_the_role_tells_of_its_doors_and_of_refusals_as_they_come(tmp_path, authority, monkeypatch):
    monkeypatch.setattr(receiver, "FACTS_SECONDS", 0.05)
    settings = make_settings(tmp_path / "node", dicom=PATIENT | {"tls": door(authority)})
    database = make_database(settings)

    def told() -> dict[str, Any]:
        with database.read() as session:
            return next((row.info for row in presence.alive(session) if row.role == "receiver"), {})

    with contextlib.closing(database), Roles(settings, receiver.run):
        assert eventually(lambda: told().get("tls_port"), 60)
        assert echo(node_at(told()["tls_port"], authority), CALLER).ok
        assert not echo(node_at(told()["tls_port"], authority, show=None), CALLER).ok
        assert eventually(lambda: told()["refused"] == {"tls": 1}, 60)
