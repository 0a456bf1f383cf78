"""Those whom alerts are told to, as small as they can be: a mail server and a web server of the tests."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hearer:
    """Where it listens, what it was told; `refuses` makes it say no."""

    url: str = ""
    heard: list[tuple[str, str]] = field(default_factory=list)
    """Title and text of each message."""
    refuses: bool = False
    hangs: threading.Event | None = None
    """Set: it answers only once this is set."""

    def take(self, title: str, text: str) -> bool:
        """Note a message; whether it is taken."""
        if self.hangs is not None:
            self.hangs.wait(30)
        if not self.refuses:
            self.heard.append((title, text.strip()))
        return not self.refuses


@contextmanager
def web_server() -> Iterator[Hearer]:
    """A web server that takes JSON; its address has a user, a password and a path that are secret."""
    hearer = Hearer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            taken = hearer.take(body["title"], body["message"])
            self.send_response(204 if taken else 503)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        hearer.url = f"json://robot:geheim-1@127.0.0.1:{port}/hidden-path"
        yield hearer


@contextmanager
def mail_server() -> Iterator[Hearer]:
    """A mail server without encryption that knows as much SMTP (RFC 5321) as a client needs."""
    hearer = Hearer()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self._say("220 tests")
            while line := self.rfile.readline():
                verb = line.split()[0].upper().decode() if line.split() else ""
                if verb == "DATA":
                    self._say("354 go on")
                    self._say("250 taken" if self._data() else "554 no")
                elif verb == "QUIT":
                    return self._say("221 bye")
                else:
                    self._say("250 tests" if verb in {"EHLO", "HELO"} else "250 ok")
            return None

        def _data(self) -> bool:
            lines = []
            while (line := self.rfile.readline()) not in {b".\r\n", b""}:
                lines.append(line.removeprefix(b"."))
            mail = message_from_bytes(b"".join(lines), policy=policy.default)
            body = mail.get_body(("plain", "html"))
            return hearer.take(str(mail["Subject"]), body.get_content() if body else "")

        def _say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with _serving(server) as port:
        hearer.url = (
            f"mailto://127.0.0.1:{port}?from=node@hospital.example&to=ops@hospital.example&mode=insecure"
        )
        yield hearer


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=10)
