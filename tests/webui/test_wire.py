"""What strangers do to a connection: nothing, little, slowly, or two requests where one was announced."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes as digests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from config import Settings
from config.settings import WebSettings
from db import Database, people
from tests.webui.conftest import PASSWORD, Running
from webui import wire

THREADS = 8
HELLO = b"GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"


class Clock:
    """Time that passes only while a socket waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Dripping:
    """A socket whose peer takes `pause` seconds for each piece."""

    def __init__(self, clock: Clock, pause: float, piece: bytes) -> None:
        self.clock, self.pause, self.piece, self.timeout = clock, pause, piece, 0.0

    def setblocking(self, _blocking: bool) -> None:
        """As a socket."""

    def settimeout(self, seconds: float) -> None:
        self.timeout = seconds

    def recv(self, _size: int) -> bytes:
        self.clock.now += min(self.pause, self.timeout)
        if self.pause > self.timeout:
            raise TimeoutError
        return self.piece

    def sendall(self, _data: Any) -> None:
        self.recv(0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(wire, "time", made)
    return made


def _reads(sock: wire.PacedSocket, most: int) -> int:
    """How many pieces come before patience ends."""
    for number in range(most):
        try:
            sock.recv(1024)
        except ConnectionResetError:
            return number
    return most


def test_a_peer_that_says_nothing_is_waited_for_no_longer_than_patience_lasts(clock: Clock) -> None:
    sock = wire.PacedSocket(Dripping(clock, 3600, b""), wire.Crowd(8))
    assert _reads(sock, 10) == 0
    assert clock.now == wire.PATIENCE_SECONDS


def test_a_peer_that_drips_is_cut_off(clock: Clock) -> None:
    sock = wire.PacedSocket(Dripping(clock, 1, b"x"), wire.Crowd(8))
    assert _reads(sock, 1000) == 15
    assert clock.now < 16


def test_a_slow_upload_that_goes_on_is_never_cut_off(clock: Clock) -> None:
    sock = wire.PacedSocket(Dripping(clock, 2, bytes(wire.SLOWEST_BYTES_PER_SECOND * 2)), wire.Crowd(8))
    assert _reads(sock, 10_000) == 10_000


def test_many_bytes_at_first_buy_no_more_than_the_usual_patience(clock: Clock) -> None:
    dripping = Dripping(clock, 0.001, bytes(1 << 20))
    sock = wire.PacedSocket(dripping, wire.Crowd(8))
    assert _reads(sock, 100) == 100
    dripping.pause, dripping.piece, clock.now = 1, b"x", 0
    assert _reads(sock, 1000) < 17


def test_another_request_has_patience_anew(clock: Clock) -> None:
    sock = wire.PacedSocket(Dripping(clock, 1, b"x"), wire.Crowd(8))
    assert _reads(sock, 10) == 10
    sock.begin()
    assert _reads(sock, 10) == 10


def test_where_many_wait_patience_is_short(clock: Clock) -> None:
    crowd = wire.Crowd(8)
    sock = wire.PacedSocket(Dripping(clock, 3600, b""), crowd)
    with crowd, crowd, crowd:
        assert _reads(sock, 10) == 0
    assert clock.now == wire.CROWDED_HEAD_SECONDS
    sock.begin()
    sock.in_head = False
    clock.now = 0
    with crowd, crowd, crowd:
        assert _reads(sock, 10) == 0
    assert clock.now == wire.CROWDED_SECONDS
    assert not crowd.crowded


def test_a_reader_that_reads_nothing_is_cut_off_and_a_slow_one_is_not(clock: Clock) -> None:
    stuck = wire.PacedSocket(Dripping(clock, 3600, b""), wire.Crowd(8))
    with pytest.raises(ConnectionResetError):
        stuck.sendall(bytes(1 << 20))
    assert clock.now == wire.PATIENCE_SECONDS
    slow = wire.PacedSocket(Dripping(clock, 7, b""), wire.Crowd(8))
    slow.sendall(bytes(1 << 20))


# with a real server


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less patience, so that the tests need less."""
    monkeypatch.setattr(wire, "PATIENCE_SECONDS", 2.0)
    monkeypatch.setattr(wire, "CROWDED_HEAD_SECONDS", 0.2)
    monkeypatch.setattr(wire, "CROWDED_SECONDS", 0.2)


@pytest.fixture
def few_threads(hurried: None, settings: Settings) -> Settings:
    return settings.model_copy(update={"web": WebSettings(port=0, threads=THREADS)})


class Drips:
    """Clients that send one byte at a time, as long as they are let."""

    def __init__(self, running: Running, number: int, first: bytes, byte: bytes) -> None:
        self.clients = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(number)]
        self.byte, self.over = byte, threading.Event()
        self.gone = 0
        for client in self.clients:
            client.sendall(first)
        self.thread = threading.Thread(target=self._drip)

    def __enter__(self) -> Drips:
        self.thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.over.set()
        self.thread.join()
        for client in self.clients:
            client.close()

    def _drip(self) -> None:
        left = list(self.clients)
        while left and not self.over.wait(0.1):
            for client in list(left):
                try:
                    client.sendall(self.byte)
                except OSError:
                    left.remove(client)
                    self.gone += 1


def _well(running: Running) -> bool:
    """Whether somebody else is answered, by and by."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(OSError), closing(_http(running)) as connection:
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return True
    return False


def _http(running: Running) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", running.port, timeout=30)


@pytest.mark.parametrize(
    "first",
    [
        b"GET /healthz HTTP/1.1\r\nHost: t\r\nX-Slow: ",
        (
            b"POST /login HTTP/1.1\r\nHost: t\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            b"Content-Length: 100000\r\n\r\nname="
        ),
    ],
    ids=["head", "body"],
)
def test_more_slow_senders_than_threads_do_not_shut_the_others_out(
    run_server: Callable[..., Running], few_threads: Settings, first: bytes
) -> None:
    running = run_server(few_threads)
    with Drips(running, THREADS * 3, first, b"x") as drips:
        time.sleep(0.3)
        assert _well(running)
        assert drips.gone, "with nobody let go, all threads would be taken"


def test_more_silent_clients_than_connections_do_not_shut_the_others_out(
    run_server: Callable[..., Running], few_threads: Settings
) -> None:
    running = run_server(few_threads)
    silent = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(THREADS * 8)]
    try:
        assert _well(running)
    finally:
        for client in silent:
            client.close()


def test_readers_who_never_read_do_not_shut_the_others_out(
    run_server: Callable[..., Running], few_threads: Settings
) -> None:
    running = run_server(few_threads)
    stuck = []
    for _ in range(THREADS * 2):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", running.port))
        client.sendall(b"GET /api/openapi.json HTTP/1.1\r\nHost: t\r\n\r\n" * 20)
        stuck.append(client)
    try:
        assert _well(running)
    finally:
        for client in stuck:
            client.close()


def test_half_a_handshake_holds_nobody_up(
    run_server: Callable[..., Running], few_threads: Settings, tmp_path: Path
) -> None:
    web = few_threads.web.model_copy(
        update=dict(zip(("tls_cert", "tls_key"), certify(tmp_path), strict=True))
    )
    running = run_server(few_threads.model_copy(update={"web": web}))
    halves = []
    for _ in range(THREADS * 2):
        client = socket.create_connection(("127.0.0.1", running.port))
        client.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        halves.append(client)
    try:
        assert _speaks(running, tmp_path / "cert.pem") == 200
    finally:
        for client in halves:
            client.close()


def _speaks(running: Running, trusted: Path) -> int:
    context = ssl.create_default_context(cafile=trusted)
    connection = http.client.HTTPSConnection("localhost", running.port, timeout=60, context=context)
    with closing(connection):
        connection.request("GET", "/healthz")
        return connection.getresponse().status


# requests within requests


@pytest.fixture
def running(run_server: Callable[..., Running]) -> Running:
    return run_server()


def talk(running: Running, said: bytes) -> bytes:
    """Everything that is answered to some bytes."""
    heard = b""
    with closing(socket.create_connection(("127.0.0.1", running.port), timeout=30)) as sock:
        with suppress(ConnectionResetError, BrokenPipeError):
            sock.sendall(said)
            while data := sock.recv(65536):
                heard += data
    return heard


def statuses(heard: bytes) -> list[int]:
    """Statuses of the answers that stand in what was heard."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", heard)]


INNER = b"GET /api/openapi.json HTTP/1.1\r\nHost: t\r\n\r\n"
AMBIGUOUS = {
    "a length and chunks": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
    "two lengths in one": b"Content-Length: 0, 5\r\n\r\n",
    "a length with a sign": b"Content-Length: +0\r\n\r\n",
    "a negative length": b"Content-Length: -1\r\n\r\n",
    "a length in hexadecimals": b"Content-Length: 0x0\r\n\r\n",
    "a length in other digits": "Content-Length: \u00b2\r\n\r\n".encode("latin-1"),
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n",
    "chunks twice": b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunks that are not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded line": b"X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n",
    "a bare line end": b"X-A: b\rTransfer-Encoding: chunked\r\n\r\n",
    "a null": b"X-A: \x00\r\n\r\n",
    "a chunk of no size": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a chunk of negative size": b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
}


def test_a_request_whose_end_is_doubtful_ends_its_connection(running: Running) -> None:
    two = talk(running, b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n" + HELLO)
    assert statuses(two) == [200, 200], "a second request would be seen"
    for what, head in AMBIGUOUS.items():
        heard = talk(running, b"POST /login HTTP/1.1\r\nHost: t\r\n" + head + INNER)
        assert b'"openapi"' not in heard, what
        assert statuses(heard), what
        assert all(400 <= status < 600 for status in statuses(heard)), what
        assert b"Traceback" not in heard, what
    old = b"POST /login HTTP/1.0\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER
    assert statuses(talk(running, old)) == [400]


ABSURD = {
    "address": (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: t\r\n\r\n", 414),
    "line": (b"GET /healthz HTTP/1.1\r\nHost: t\r\nX-A: " + b"a" * 9000 + b"\r\n\r\n", 431),
    "lines": (b"GET /healthz HTTP/1.1\r\nHost: t\r\n" + b"X-A: b\r\n" * 100 + b"\r\n", 431),
    "endless": (b"GET /healthz HTTP/1.1\r\nHost: t\r\n" + b"X-A: b" * (1 << 20), 431),
    "method": (b"BREW /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n", 405),
    "small letters": (b"get /healthz HTTP/1.1\r\nHost: t\r\n\r\n", 400),
    "version": (b"GET http://evil.example/healthz HTTP/9.9\r\nHost: t\r\n\r\n", 400),
    "markup": (b"GET /<script>alert(1)</script> HTTP/9.9\r\nHost: t\r\n\r\n", 400),
}


def test_absurd_heads_are_refused_and_come_back_as_text_alone(running: Running) -> None:
    for what, (head, status) in ABSURD.items():
        heard = talk(running, head)
        assert statuses(heard) in ([status], []), what  # the answer may be lost beside what is not read
        assert b"<script>" not in heard, what
    assert _well(running)


def test_headers_that_pass_for_a_proxys_are_no_use_to_strangers(running: Running) -> None:
    said = (
        b"GET /queue HTTP/1.1\r\nHost: t\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n"
        b"X-Forwarded-Prefix: /evil\r\nForwarded: host=evil.example;proto=https\r\nX-Forwarded-Ssl: on\r\n"
        b"X_Forwarded_Proto: https\r\nScript_Name: /evil\r\nScript-Name: /evil\r\n"
        b"Connection: close\r\n\r\n"
    )
    heard = talk(running, said)
    assert statuses(heard) == [303]
    assert b"evil" not in heard
    assert b"Strict-Transport-Security" not in heard
    assert b"Location: /login?next=%2Fqueue" in heard


def test_a_body_without_a_length_is_held_to_the_limit_of_small_requests(
    running: Running, database: Database
) -> None:
    """Chunked bodies state none; where no files are taken a request may have a megabyte."""
    with database.write() as session:
        anna = people.named(session, "anna")
        assert anna is not None
        bearer = people.create_token(session, anna, "script")[0]
    for size, status in ((1 << 16, 422), (4 << 20, 413)):
        body = b'{"patient": "' + b"x" * size + b'"}'
        with closing(_http(running)) as connection:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {bearer}"}
            with suppress(ConnectionError):  # the rest is not read
                connection.request("POST", "/api/v1/jobs/search", iter([body]), headers, encode_chunked=True)
            assert connection.getresponse().status == status


# TLS


def certify(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A certificate for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, digests.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return cert_file, key_file


@pytest.fixture
def safe(run_server: Callable[..., Running], settings: Settings, tmp_path: Path) -> Running:
    """A server with TLS."""
    cert, key = certify(tmp_path)
    return run_server(settings.model_copy(update={"web": WebSettings(port=0, tls_cert=cert, tls_key=key)}))


def _shake(running: Running, context: ssl.SSLContext) -> tuple[str, str, str]:
    """Version, cipher and the certificate's name of a handshake."""
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        closing(socket.create_connection(("127.0.0.1", running.port), timeout=30)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        whole = sock.getpeercert(binary_form=True)
        assert whole is not None
        (name,) = x509.load_der_x509_certificate(whole).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        cipher = sock.cipher()
        assert cipher is not None
        return str(sock.version()), cipher[0], str(name.value)


def test_tls_is_1_2_or_newer_with_forward_secrecy(safe: Running) -> None:
    assert _shake(safe, ssl.create_default_context())[0] == "TLSv1.3"
    older = ssl.create_default_context()
    older.maximum_version = ssl.TLSVersion.TLSv1_2
    version, cipher, _name = _shake(safe, older)
    assert (version, cipher[:6]) == ("TLSv1.2", "ECDHE-")
    oldest = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    oldest.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLS"):
        oldest.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLS"):
        oldest.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        _shake(safe, oldest)
    weak = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    weak.maximum_version = ssl.TLSVersion.TLSv1_2
    weak.set_ciphers("AES128-SHA:AES256-SHA:ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        _shake(safe, weak)


def test_a_renewed_certificate_counts_without_a_restart_and_a_broken_one_never(
    safe: Running, tmp_path: Path
) -> None:
    assert _shake(safe, ssl.create_default_context())[2] == "localhost"
    certify(tmp_path, "renewed")
    assert _shake(safe, ssl.create_default_context())[2] == "renewed"
    (tmp_path / "cert.pem").write_text("half a certifi")
    assert _shake(safe, ssl.create_default_context())[2] == "renewed"
    (tmp_path / "cert.pem").unlink()
    assert _shake(safe, ssl.create_default_context())[2] == "renewed"
    certify(tmp_path, "again")
    assert _shake(safe, ssl.create_default_context())[2] == "again"


def test_plain_http_to_the_port_of_https_is_no_answer_of_ours(safe: Running) -> None:
    assert b"ok" not in talk(safe, HELLO)
    assert _speaks_after(safe)


def _speaks_after(running: Running) -> bool:
    return _shake(running, ssl.create_default_context())[0] == "TLSv1.3"


def test_the_cookie_of_https_is_bound_to_this_host(safe: Running, tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    connection = http.client.HTTPSConnection("localhost", safe.port, timeout=30, context=context)
    with closing(connection):
        form = f"name=anna&password={PASSWORD.replace(' ', '+')}"
        connection.request("POST", "/login", form, {"Content-Type": "application/x-www-form-urlencoded"})
        answer = connection.getresponse()
        cookie = str(answer.headers["Set-Cookie"])
        assert answer.status == 303
        assert answer.headers["Strict-Transport-Security"]
        answer.read()
        assert cookie.startswith("__Host-")
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
        assert "Domain" not in cookie
        connection.request("GET", "/api/v1/me", headers={"Cookie": cookie.split(";", 1)[0]})
        assert connection.getresponse().status == 200
