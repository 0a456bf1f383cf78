"""Small HTTP servers that play an archive's DICOMweb door and an OAuth token endpoint."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answered:
    """What a server says."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/dicom+json"
    headers: dict[str, str] = field(default_factory=dict)


Script = Callable[[Asked], Answered]


@dataclass
class WebPeer:
    """A running server, its address, and what was asked of it."""

    url: str
    asked: list[Asked] = field(default_factory=list)

    def paths(self, method: str) -> list[str]:
        return [one.path for one in self.asked if one.method == method]


@contextmanager
def web_peer(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[WebPeer]:
    """A server on loopback that answers as `script` says, in threads, until the block ends."""
    peer = WebPeer("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            asked = Asked(self.command, self.path, dict(self.headers), self.rfile.read(length))
            peer.asked.append(asked)
            said = script(asked)
            self.send_response(said.status)
            for name, value in ({"Content-Type": said.content_type} | said.headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            self.wfile.write(said.body)

        do_GET = do_POST = _serve  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            """Nothing: the tests look at `asked`."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A handshake that fails is what a test is about."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "https" if tls is not None else "http"
    peer.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield peer
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def stored(uid: str, warning: int | None = None) -> dict[str, Any]:
    """A store answer that has taken an object."""
    item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [uid]}}
    if warning is not None:
        item["00081196"] = {"vr": "US", "Value": [warning]}
    return {"00081199": {"vr": "SQ", "Value": [item]}}


def refused(uid: str, reason: int | None) -> dict[str, Any]:
    """A store answer that has not taken an object."""
    item: dict[str, Any] = {"00081155": {"vr": "UI", "Value": [uid]}}
    if reason is not None:
        item["00081197"] = {"vr": "US", "Value": [reason]}
    return {"00081198": {"vr": "SQ", "Value": [item]}}


def as_json(answer: Any) -> bytes:
    return json.dumps(answer).encode()
