from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from config import Settings
from config.origins import fingerprint
from config.settings import WebSettings
from db import Database, presence, schema
from tests.webui.conftest import PASSWORD, Running, dicom
from webui import server


def _ask(running: Running, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)) as connection:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_the_role_listens_on_a_free_port_and_says_which(
    run_server: Callable[..., Running], database: Database, settings: Settings
) -> None:
    running = run_server()
    assert _ask(running, "GET", "/healthz") == (200, b'{"status":"ok"}')
    with database.read() as session:
        (row,) = presence.alive(session)
    assert row.info.pop("settings") == fingerprint(settings)
    assert row.info == {"host": "127.0.0.1", "port": running.port, "scheme": "http"}


def test_a_stopped_server_frees_its_port_and_its_presence(
    run_server: Callable[..., Running], database: Database
) -> None:
    running = run_server()
    _ask(running, "GET", "/healthz")
    running.stop.set()
    running.thread.join(timeout=15)
    assert not running.thread.is_alive()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", running.port), timeout=1)
    with database.read() as session:
        assert presence.alive(session) == []


def test_a_client_that_says_nothing_holds_nobody_up_and_does_not_delay_the_stop(
    run_server: Callable[..., Running],
) -> None:
    running = run_server()
    silent = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(30)]
    half = socket.create_connection(("127.0.0.1", running.port))
    half.sendall(b"POST /login HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\nname=")
    try:
        assert _ask(running, "GET", "/healthz")[0] == 200
        running.stop.set()
        running.thread.join(timeout=15)
        assert not running.thread.is_alive()
    finally:
        for sock in (*silent, half):
            sock.close()


def test_an_upload_streams_through_the_real_server(run_server: Callable[..., Running]) -> None:
    running = run_server()
    status, _ = _ask(running, "GET", "/api/v1/me")
    assert status == 401
    cookie, token = _login(running)
    boundary = "b0undary"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="a.dcm"\r\n\r\n'
    body = head.encode() + dicom(pixels=bytes(3 << 20)) + f"\r\n--{boundary}--\r\n".encode()
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Cookie": cookie,
        "X-CSRF-Token": token,
    }
    status, answer = _ask(running, "POST", "/api/v1/jobs", body, **headers)
    assert status == 202, answer
    assert json.loads(answer)["jobs"][0]["state"] == "queued"


def test_a_chunked_upload_without_a_length_is_held_to_the_limit(run_server: Callable[..., Running]) -> None:
    running = run_server()
    cookie, token = _login(running)
    head = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.dcm"\r\n\r\n'

    def endless() -> Iterator[bytes]:
        yield head.encode() + dicom()
        for _ in range(12):
            yield bytes(1 << 20)
        yield b"\r\n--b--\r\n"

    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)) as connection:
        headers = {"Content-Type": "multipart/form-data; boundary=b", "Cookie": cookie, "X-CSRF-Token": token}
        connection.request("POST", "/api/v1/jobs", endless(), headers, encode_chunked=True)
        assert connection.getresponse().status == 413


def test_broken_http_is_answered_without_quoting_it(run_server: Callable[..., Running]) -> None:
    running = run_server()
    with closing(socket.create_connection(("127.0.0.1", running.port), timeout=5)) as sock:
        sock.sendall(b"GET /Zzyzx?name=Zzyzx HTTP/9.9\r\n\r\n")
        answer = sock.recv(4096)
    assert answer.startswith(b"HTTP/1.1 ")
    assert b"Traceback" not in answer
    assert _ask(running, "GET", "/healthz")[0] == 200


def test_https_is_served_with_the_certificate_of_the_settings(
    run_server: Callable[..., Running], settings: Settings, tmp_path: Path
) -> None:
    certificate, key = _self_signed(tmp_path)
    web = WebSettings(port=0, tls_cert=certificate, tls_key=key)
    running = run_server(settings.model_copy(update={"web": web}))
    assert running.url.startswith("https://")
    context = ssl.create_default_context(cafile=certificate)
    connection = http.client.HTTPSConnection("localhost", running.port, timeout=10, context=context)
    silent = socket.create_connection(("127.0.0.1", running.port))
    with closing(connection), closing(silent):
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["Strict-Transport-Security"]


def test_a_database_of_another_version_stops_the_start(
    settings: Settings, tmp_path: Path, hashes: None
) -> None:
    import threading

    empty = settings.model_copy(update={"data_dir": tmp_path / "empty"})
    empty.data_dir.mkdir()
    with pytest.raises(schema.SchemaError):
        server.run(empty, threading.Event())


def test_gunicorns_messages_are_logged_without_what_they_quote() -> None:
    assert server._fixed_part("Error handling request %s %s") == "Error handling request"
    assert (
        server._fixed_part("Invalid request from ip=1.2.3.4: /x?name=Doe")
        == "Invalid request from ip=1.2.3.4"
    )


def _login(running: Running) -> tuple[str, str]:
    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=10)) as connection:
        form = f"name=anna&password={PASSWORD.replace(' ', '+')}"
        connection.request("POST", "/login", form, {"Content-Type": "application/x-www-form-urlencoded"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 303
        cookie = str(answer.headers["Set-Cookie"]).split(";", 1)[0]
        connection.request("GET", "/api/v1/me", headers={"Cookie": cookie})
        return cookie, json.loads(connection.getresponse().read())["csrf_token"]


def _self_signed(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
    ]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
