"""Where audit messages go: a file, or a repository by syslog (RFC 5424) over TLS (RFC 5425) or plain TCP.

A sink takes a few messages at once and returns when they have arrived, as far as its protocol can tell.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

import structlog

from config.network import Remote
from config.settings import AuditSettings, Settings
from db.files import private_folder, sync_folder
from db.types import utcnow
from pacs_node.audit.message import timestamp
from pacs_node.tls import TlsError, client_context

log = structlog.get_logger(__name__)

PRIORITY = 10 * 8 + 5
"""Facility authpriv, severity notice."""
MESSAGE_ID = "DICOM+RFC3881"
"""By which repositories know audit messages of DICOM."""
SECONDS = 10.0
"""Longest wait for each step of a connection."""
_BOM = b"\xef\xbb\xbf"


class SinkError(Exception):
    """The messages have not (all) arrived: send them again later. The sentence is for an administrator."""


class Sink(Protocol):
    """A place for audit messages."""

    def send(self, messages: Sequence[bytes]) -> None:
        """Put the messages there, in order. Raises :class:`SinkError`; some may have arrived then."""


def open_sink(settings: Settings) -> Sink | None:
    """The sink that the settings name, or None where no messages are wanted."""
    audit = settings.audit
    if audit.messages == "file":
        return FileSink(Path(str(audit.file).replace("{data_dir}", str(settings.data_dir.absolute()))))
    if audit.messages == "syslog":
        return SyslogSink(audit)
    return None


class FileSink:
    """Adds each message as a line to a file for its owner alone.

    The file is opened anew each time: it may be moved away (logrotate) at any moment.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def send(self, messages: Sequence[bytes]) -> None:
        """Write the lines and wait until they are on stable storage."""
        try:
            private_folder(self.path.parent)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            with os.fdopen(os.open(self.path, flags, 0o600), "r+b", buffering=0) as file:
                os.fchmod(file.fileno(), 0o600)
                data = b"".join(message + b"\n" for message in messages)
                end = file.seek(0, os.SEEK_END)
                if not end:
                    sync_folder(self.path.parent)  # perhaps it is new
                if end and os.pread(file.fileno(), 1, end - 1) != b"\n":
                    data = b"\n" + data  # a crash or a full disk has cut the last line short
                while data:
                    data = data[file.write(data) :]
                os.fsync(file.fileno())
        except OSError as error:
            raise SinkError(f"the audit file {self.path} cannot be written: {error.strerror}") from error


class SyslogSink:
    """Sends messages to an audit repository, each batch on a connection of its own.

    Syslog has no answer. The connection is therefore ended in order after each batch: the peer's own end
    says that it has read everything before ours.
    """

    def __init__(self, settings: AuditSettings, *, seconds: float = SECONDS) -> None:
        self.settings, self.seconds = settings, seconds
        self._told = False

    def send(self, messages: Sequence[bytes]) -> None:
        """Connect, send, end. Certificates are read again when their files change."""
        where = f"{self.settings.host}:{self.settings.port}"
        try:
            connection = self._connect()
        except (OSError, ValueError, TlsError) as error:  # ValueError: a host name that is none
            raise SinkError(f"the audit repository {where} cannot be reached: {_why(error)}") from error
        with connection:
            try:
                for message in messages:
                    connection.sendall(frame(message, now=utcnow()))
                self._end(connection)
            except OSError as error:
                raise SinkError(f"the audit repository {where} broke off: {_why(error)}") from error

    def _connect(self) -> socket.socket:
        audit = self.settings
        plain = socket.create_connection((audit.host, audit.port), timeout=self.seconds)
        if not audit.tls:
            return plain
        try:
            return client_context(self._remote()).wrap_socket(plain, server_hostname=audit.host)
        except BaseException:
            plain.close()
            raise

    def _remote(self) -> Remote:
        """The repository as TLS sees it: profile BCP 195, certificates that may change."""
        audit = self.settings
        return Remote(
            name="audit",
            kind="dicomweb",
            url=f"https://{audit.host}:{audit.port}",
            tls_ca=audit.ca,
            tls_cert=audit.cert,
            tls_key=audit.key,
        )

    def _end(self, connection: socket.socket) -> None:
        """Say that nothing more comes and wait for the peer to say the same.

        A peer that just closes has read our end; a reset or an alert means that it has not (with TLS 1.3 a
        certificate is refused as late as this, and what follows is a socket that is no longer connected).
        """
        try:
            if isinstance(connection, ssl.SSLSocket):
                with contextlib.suppress(ssl.SSLEOFError, ssl.SSLZeroReturnError):
                    connection = connection.unwrap()
            connection.shutdown(socket.SHUT_WR)
            deadline = time.monotonic() + self.seconds
            while connection.recv(4096):
                if time.monotonic() > deadline:  # a time-out begins anew with each byte that comes
                    raise TimeoutError
        except TimeoutError:
            if not self._told:
                log.warning("audit.unconfirmed", why="the repository does not end connections")
            self._told = True
        except ssl.SSLError as error:
            if error.reason != "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":
                raise  # with TLS 1.3 a certificate of ours is refused only now


def frame(message: bytes, *, now: datetime) -> bytes:
    """A message as RFC 5424 writes it, in the octet counting of RFC 5425."""
    host = socket.gethostname()[:255] or "-"
    head = f"<{PRIORITY}>1 {timestamp(now)} {host} cxr-sr {os.getpid()} {MESSAGE_ID} - "
    line = head.encode("ascii", "replace") + _BOM + message
    return f"{len(line)} ".encode("ascii") + line


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or 'unknown'})"
    if isinstance(error, TimeoutError):
        return "it does not answer"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
