"""Each way in which a peer cannot be reached ends in its own time, with a sentence that says what to do."""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from config import Destination
from config.network import Peer
from config.settings import DicomSettings
from pacs_node.echo import echo
from pacs_node.unreachable import advice, unheard, why
from tests.pacs_node.certificates import Authority
from tests.pacs_node.nodes import associated, make_settings, receiving

QUICK = {"connection_timeout": 0.5, "handshake_timeout": 0.5, "acse_timeout": 0.5, "dimse_timeout": 0.5}


def ask(port: int, *, waits: dict[str, float] | None = None, **more: object) -> str:
    """What an echo of that port ends in; every wait is an hour but those that are given."""
    hour = dict.fromkeys(QUICK, 3600.0)
    dicom = DicomSettings(ae_title="CXR_SR", network_timeout=3600, **(hour | (waits or {})))
    given = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port}
    result = echo(Destination(**(given | more)), dicom)
    assert not result.ok
    return result.message


@contextlib.contextmanager
def listening(backlog: int = 5) -> Iterator[socket.socket]:
    """A port where the system takes connections and nobody says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(backlog)
        yield listener


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def test_where_nothing_listens(free_port):
    assert "nothing listens there" in ask(free_port())


def test_a_name_that_nobody_knows():
    assert "the name cannot be resolved" in ask(104, host="no-such-host.invalid")


def test_pynetdicom_569_a_dead_host_costs_the_connection_timeout_and_no_more():
    """A full queue of a listener is, for whoever connects, a host that is switched off."""
    with listening(backlog=0) as listener, contextlib.ExitStack() as stack:
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port_of(listener)))
        said = ask(port_of(listener), waits={"connection_timeout": 0.5})
    assert "cannot be reached: no answer; check host and port, and the firewalls in between" in said


def test_a_peer_that_is_silent_at_the_handshake_costs_the_handshake_timeout(tmp_path):
    ca = Authority(tmp_path).ca
    with listening() as listener:
        said = ask(port_of(listener), waits={"handshake_timeout": 0.5}, tls=True, tls_ca=ca)
    assert "did not answer the TLS handshake; it may expect no TLS" in said


def test_a_peer_that_is_silent_when_asked_for_an_association_costs_the_acse_timeout():
    with listening() as listener:
        said = ask(port_of(listener), waits={"acse_timeout": 0.5})
    assert "did not answer the association request; it may expect TLS" in said


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_peer_that_hangs_up_at_once(tmp_path, encrypted):
    ca = Authority(tmp_path).ca
    with listening() as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        said = ask(port_of(listener), waits={"acse_timeout": 20.0}, tls=encrypted, tls_ca=ca)
        thread.join()
    assert ("it may expect no TLS" if encrypted else "it may expect TLS") in said


def test_certificates_of_ours_that_cannot_be_used_are_named(tmp_path):
    pair = Authority(tmp_path).issue("client")
    pair.key.write_text("nothing")
    said = ask(104, tls=True, tls_cert=pair.cert, tls_key=pair.key)
    assert f"no usable certificate and key in PEM in {pair.cert}" in said


@pytest.mark.parametrize(
    ("dicom", "remote", "says"),
    [
        (
            {"ae_title": "OTHER"},
            {},
            "Called AE title not recognised; it is not called PACS; correct ae_title",
        ),
        (
            {"ae_title": "PACS", "allow": (Peer(ae_title="OTHER"),)},
            {"calling_ae_title": "WE"},
            "Calling AE title not recognised; let it know us as WE, or set calling_ae_title",
        ),
        (
            {"ae_title": "PACS", "max_associations": 1},
            {},
            "Local limit exceeded; it has as many associations as it takes now",
        ),
    ],
)
def test_a_rejection_is_told_with_its_remedy(tmp_path, dicom, remote, says):
    with receiving(make_settings(tmp_path, dicom=dicom)) as node, contextlib.ExitStack() as stack:
        if "max_associations" in dicom:
            stack.enter_context(associated(node.port, called="PACS"))
        assert says in ask(node.port, **remote)


def fault(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, reason)
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (fault("TLSV13_ALERT_CERTIFICATE_REQUIRED"), "it asks for our certificate"),
        (fault("TLSV1_ALERT_UNKNOWN_CA"), "it does not trust the authority of our certificate"),
        (fault("SSLV3_ALERT_CERTIFICATE_EXPIRED"), "it says that our certificate has expired"),
        (fault("SSLV3_ALERT_HANDSHAKE_FAILURE"), "no TLS version or cipher in common"),
        (fault("TLSV1_ALERT_PROTOCOL_VERSION"), "no TLS version from 1.2 on"),
        (fault("WRONG_VERSION_NUMBER"), "what it answers is not TLS; check the port"),
        (fault("SOMETHING_NEW"), "something new"),
        (ConnectionResetError(), "closed the connection before the association"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), "there is no route to it"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), "Cannot assign requested address"),
        (None, "cannot be reached"),
    ],
)
def test_what_stood_in_the_way_is_said_in_words(error, says):
    assert says in why(error, connected=True, tls=True)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (fault("PEER_DID_NOT_RETURN_A_CERTIFICATE"), "it shows no certificate"),
        (fault("NO_SHARED_CIPHER"), "no cipher in common"),
        (fault("HTTP_REQUEST"), "it speaks HTTP"),
        (fault("TLSV1_ALERT_UNKNOWN_CA"), "it does not accept our certificate"),
        (fault("SOMETHING_NEW"), "something new"),
    ],
)
def test_why_a_caller_was_not_heard_is_said_in_words(error, says):
    assert says in unheard(error)


def test_an_unknown_rejection_sends_to_the_peers_log():
    assert advice(1, 1, "WE", "PACS") == advice(None, None, "WE", "PACS") == "see its log"
    assert advice(3, 1, "WE", "PACS") == "it is busy now"
