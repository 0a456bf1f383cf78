"""The web role: gunicorn's threaded worker in this process, one thread a request.

One process and many threads, because event streams share a poller and hold a thread each; whoever supervises
the roles restarts the process, so gunicorn's own master has nothing to do here.
"""

from __future__ import annotations

import errno
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ
from typing import Any
from weakref import WeakSet

import structlog
from gunicorn.config import Config
from gunicorn.workers.gthread import ThreadWorker

from config import Settings
from config.origins import fingerprint
from db import Database, schema
from db.presence import Presence
from webui.app import create_app
from webui.services import KEY
from webui.wire import Certificate, Connection, Crowd

log = structlog.get_logger(__name__)

GRACE_SECONDS = 3


def run(settings: Settings, stop: threading.Event) -> None:
    """Serve until `stop` is set, then let requests finish for three seconds.

    Raises OSError when the address cannot be had, :class:`db.schema.SchemaError` for a database of another
    version.
    """
    _raise_file_limit()
    database = Database(settings.database_url)
    try:
        schema.check(database)
        with listen(settings.web.host, settings.web.port) as listener:
            port = listener.getsockname()[1]
            scheme = "https" if settings.web.tls_cert else "http"
            info = {"host": settings.web.host, "port": port, "scheme": scheme}
            with Presence(database, "web", {**info, "settings": fingerprint(settings)}):
                log.info("web listens", **info)
                serve(settings, database, listener, stop)
    finally:
        database.close()
    log.info("web stopped")


def serve(settings: Settings, database: Database, listener: socket.socket, stop: threading.Event) -> None:
    """Answer what arrives at a listening socket until `stop` is set."""
    app = create_app(settings, database)
    web = settings.web
    certificate = Certificate(web.tls_cert, web.tls_key) if web.tls_cert is not None else None
    worker = Worker(configuration(settings), app, listener, certificate)
    watcher = threading.Thread(
        target=_stop_when_asked, args=(stop, worker, app), name="web-stop", daemon=True
    )
    watcher.start()
    try:
        worker.init_process()
    finally:
        stop.set()
        watcher.join()
        worker.close()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one."""
    family, kind, protocol, _name, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(512)
    except BaseException:
        listener.close()
        raise
    return listener


def configuration(settings: Settings) -> Any:
    """gunicorn's configuration: threads, limits of requests, TLS. Forwarding headers are left to us."""
    web = settings.web
    cfg = Config()
    values: dict[str, Any] = {
        "threads": web.threads,
        "worker_connections": web.threads * 4,
        "keepalive": 5,
        "sendfile": False,  # every byte passes by `webui.wire`
        "graceful_timeout": GRACE_SECONDS,
        "forwarded_allow_ips": "",
        "proxy_allow_ips": "",
        "limit_request_line": 4094,
        "limit_request_fields": 64,
        "limit_request_field_size": 8190,
        "accesslog": None,
    }
    if web.tls_cert is not None:
        values |= {"certfile": str(web.tls_cert), "keyfile": str(web.tls_key) if web.tls_key else None}
    for name, value in values.items():
        cfg.set(name, value)
    return cfg


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's threaded worker without a master: signals stay with the role, life with its supervisor."""

    def __init__(
        self, cfg: Any, app: Any, listener: socket.socket, certificate: Certificate | None = None
    ) -> None:
        super().__init__(0, os.getppid(), [listener], _Wsgi(app), cfg.timeout, cfg, Log())
        self.connections: WeakSet[Any] = WeakSet()
        self.crowd, self.certificate = Crowd(cfg.threads), certificate

    def accept(self, listener: socket.socket) -> None:
        """Take a connection; a thread looks after it once there is something to read."""
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                time.sleep(0.1)  # it waits in line until another has gone
            return
        if len(self.pending_conns) >= self.worker_connections // 2:
            self._drop_the_longest_silent()
        self.nr_conns += 1
        conn = Connection(self.cfg, sock, client, listener.getsockname(), self.crowd, self.certificate)
        conn.timeout = time.monotonic() + self.cfg.keepalive
        self.connections.add(conn)
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def on_pending_socket_readable(self, conn: Any, client: Any) -> None:
        """Hand a connection that begins to speak to a thread, unless it was dropped just now."""
        if conn in self.pending_conns:
            super().on_pending_socket_readable(conn, client)

    def _drop_the_longest_silent(self) -> None:
        conn = self.pending_conns.popleft()
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def set_accept_enabled(self, enabled: bool) -> None:
        """Accept or not; at the end those who have said nothing are not waited for."""
        super().set_accept_enabled(enabled)
        while not self.alive and self.pending_conns:
            self._drop_the_longest_silent()

    def handle(self, conn: Any) -> Any:
        keep = super().handle(conn)
        if not keep:
            conn.part()
        return keep

    def handle_request(self, req: Any, conn: Any) -> Any:
        conn.sock.in_head = False
        return super().handle_request(req, conn)

    def init_signals(self) -> None:
        """The command line has set the handlers; they end in `stop`."""

    def is_parent_alive(self) -> bool:
        return True

    def stop(self) -> None:
        """Accept nothing more and let requests finish; from any thread."""
        self.handle_exit(None, None)

    def close(self) -> None:
        """Cut what is still busy after the time of grace, so that no thread keeps the process alive."""
        for conn in list(self.connections):
            with suppress(OSError):
                conn.sock.shutdown(socket.SHUT_RDWR)
        deadline = time.monotonic() + 1
        for thread in self.tpool._threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))
        for conn in list(self.connections):
            with suppress(OSError):
                conn.close()
        self.tmp.close()
        for descriptor in self.PIPE:
            os.close(descriptor)


class _Wsgi:
    def __init__(self, app: Any) -> None:
        self.app = app

    def wsgi(self) -> Any:
        return self.app


class Log:
    """gunicorn's messages in ours, without what they quote: a request's address may hold patient data."""

    def __init__(self) -> None:
        self.log = structlog.get_logger("webui.gunicorn")

    def access(self, *_args: object) -> None:
        """Requests are counted in the metrics, not logged."""

    def exception(self, message: str, *_args: object, **_more: object) -> None:
        kind = sys.exc_info()[0]
        self.log.error(_fixed_part(message), error=kind.__name__ if kind else None)

    def _say(self, level: int) -> Callable[..., None]:
        def say(message: object, *_args: object, **_more: object) -> None:
            self.log.log(level, _fixed_part(str(message)))

        return say

    def __getattr__(self, name: str) -> Any:
        levels = {"info": 20, "warning": 30, "error": 40, "critical": 50}
        if name in levels:
            return self._say(levels[name])
        if name in {"debug", "close_on_exec", "reopen_files"}:
            return lambda *_args: None
        raise AttributeError(name)


def _fixed_part(message: str) -> str:
    """A message up to where it begins to quote."""
    return message.split("%", 1)[0].split(":", 1)[0].strip() or "message"


def _stop_when_asked(stop: threading.Event, worker: Worker, app: Any) -> None:
    stop.wait()
    app.extensions[KEY].broadcaster.close()
    worker.stop()


def _raise_file_limit() -> None:
    """As many open files as we may have: streams, uploads and connections each need one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65536 if hard == resource.RLIM_INFINITY else min(hard, 65536)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
