"""TLS for DICOM, on both sides: versions and ciphers, and certificates that are read again when they change.

Two secure transport connection profiles of PS3.15 can be chosen (`Remote.tls_profile`, `DicomTls.profile`):

* B.12, BCP 195 (RFC 8996 and 9325): TLS 1.2 with the four suites that RFC 9325 section 4.2 recommends, and
  TLS 1.3.
* B.13, its modification: TLS 1.2 with the longer list of that section, and TLS 1.3. Left out of it are the
  Camellia suites, which OpenSSL does not have, and the two CCM suites of TLS 1.3, which Python cannot switch
  on.

A peer that talks plain DICOM to a TLS port, or the other way round, gets no connection: nothing falls back.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from config.network import DicomTls, Remote, TlsProfile

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Profile:
    """A secure transport connection profile: its title, its section, and its suites by their IANA names.

    Suites of TLS 1.2 are those that we switch on, best first; OpenSSL's names follow from them. Those of
    TLS 1.3 are what OpenSSL offers by itself.
    """

    title: str
    section: str
    tls12: tuple[str, ...]
    tls13: tuple[str, ...] = (
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_GCM_SHA256",
    )


_GCM = (
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
)

PROFILES: dict[TlsProfile, Profile] = {
    "bcp195": Profile("BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile", "PS3.15 B.12", _GCM),
    "bcp195-extended": Profile(
        "Modified BCP 195 RFC 8996, 9325 TLS Secure Transport Connection Profile",
        "PS3.15 B.13",
        (
            *_GCM[:2],
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            "TLS_ECDHE_ECDSA_WITH_AES_256_CCM",
            "TLS_ECDHE_ECDSA_WITH_AES_256_CCM_8",
            *_GCM[2:],
            "TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
            "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8",
        ),
    ),
}
"""What can be chosen; the conformance statement prints it."""


class TlsError(Exception):
    """Certificates or keys that are configured cannot be used; the message says which file and why."""


@dataclass(frozen=True, slots=True)
class Files:
    """The PEM files of one side of a connection; cert and key come together."""

    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    def stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Something that changes when one of the files does."""
        return tuple(_stamp(path) for path in (self.cert, self.key, self.ca))


class Credentials:
    """A TLS context that follows its files: :meth:`context` is asked for each connection.

    Files that cannot be read any more, or do not go together, leave the context as it was; `trouble` says why
    until they are sound again. Raises :class:`TlsError` where there is no former context to keep.
    """

    def __init__(self, name: str, files: Files, make: Callable[[Files], ssl.SSLContext]) -> None:
        self.name, self.files = name, files
        self.trouble: str | None = None
        self._make = make
        self._lock = threading.Lock()
        self._stamp = files.stamp()
        self._context = self._build()

    def context(self) -> ssl.SSLContext:
        """The context of the files as they are now, or of the last ones that were sound."""
        with self._lock:
            stamp = self.files.stamp()
            if stamp == self._stamp and self.trouble is None:
                return self._context
            self._stamp = stamp
            try:
                self._context = self._build()
            except TlsError as error:
                if self.trouble != (trouble := str(error)):
                    log.warning("tls.kept", of=self.name, why=trouble)
                self.trouble = trouble
            else:
                self.trouble = None
                log.info("tls.reloaded", of=self.name)
            return self._context

    def _build(self) -> ssl.SSLContext:
        try:
            return self._make(self.files)
        except (OSError, ValueError) as error:
            raise TlsError(f"{self.name}: {_unusable(error, self.files)}") from error


def server_credentials(tls: DicomTls) -> Credentials:
    """What the TLS listener shows its callers, and asks of them. Raises :class:`TlsError`."""

    def make(files: Files) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _harden(context, tls.profile)
        context.num_tickets = 0  # nobody resumes a DICOM connection, and an unread ticket can cost its end
        _load_own(context, files)
        if files.ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cafile=files.ca)
        return context

    return Credentials("dicom.tls", Files(tls.cert, tls.key, tls.ca), make)


def client_context(remote: Remote) -> ssl.SSLContext:
    """The context for connections to an archive or destination, by DIMSE or HTTPS.

    It trusts `tls_ca` (else the authorities of the system), shows `tls_cert` where there is one, and checks
    the name or address that it is given as `server_hostname` unless `tls_check_host` is off. Ask for it anew
    for each connection: it follows its files. Raises :class:`TlsError` when they cannot be used.
    """
    return client_credentials(remote).context()


def client_credentials(remote: Remote) -> Credentials:
    """The credentials behind :func:`client_context`; one for all remotes that are configured alike."""
    files = Files(remote.tls_cert, remote.tls_key, remote.tls_ca)
    key = (files, remote.tls_profile, remote.tls_check_host)
    with _clients_lock:
        if key not in _clients:
            _clients[key] = _client_credentials(remote.name, files, remote.tls_profile, remote.tls_check_host)
        return _clients[key]


_clients: dict[tuple[Files, TlsProfile, bool], Credentials] = {}
_clients_lock = threading.Lock()


def _client_credentials(name: str, files: Files, profile: TlsProfile, check_host: bool) -> Credentials:
    def make(files: Files) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _harden(context, profile)
        context.check_hostname = check_host
        if files.ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(cafile=files.ca)
        if files.cert is not None:
            _load_own(context, files)
        return context

    return Credentials(name, files, make)


def _harden(context: ssl.SSLContext, profile: TlsProfile) -> None:
    """Versions and suites of a profile; keys of at least 112 bits of strength (RSA 2048, ECC 224)."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers("@SECLEVEL=2:" + ":".join(_openssl(suite) for suite in PROFILES[profile].tls12))


def _openssl(suite: str) -> str:
    """OpenSSL's name of a suite of TLS 1.2 from its IANA name."""
    name = suite.removeprefix("TLS_").replace("_WITH_", "_")
    name = name.replace("AES_256", "AES256").replace("AES_128", "AES128").replace("CCM_8", "CCM8")
    return name.replace("POLY1305_SHA256", "POLY1305").replace("_", "-")


def _load_own(context: ssl.SSLContext, files: Files) -> None:
    if files.cert is not None:
        # a key under a password would ask for it on the terminal of a service: an empty one fails instead
        context.load_cert_chain(files.cert, files.key, password=lambda: "")


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _locked(key: Path | None) -> bool:
    """Whether a key is protected by a password."""
    with contextlib.suppress(OSError):
        return key is not None and b"ENCRYPTED" in key.read_bytes()
    return False


def _unusable(error: Exception, files: Files) -> str:
    """Why files cannot be used, naming them."""
    named = ", ".join(str(path) for path in (files.cert, files.key, files.ca) if path is not None)
    if isinstance(error, ssl.SSLError):
        if _locked(files.key):
            return f"the key {files.key} is protected by a password; store it without one"
        known = {
            "KEY_VALUES_MISMATCH": f"the key {files.key} does not belong to the certificate {files.cert}",
            "NO_CERTIFICATE_OR_CRL_FOUND": f"{files.ca} holds no certificate in PEM",
            "EE_KEY_TOO_SMALL": f"the key of {files.cert} is too short; RSA needs 2048 bits",
            "CA_MD_TOO_WEAK": f"{files.cert} is signed with a digest that is no longer secure",
        }
        return known.get(error.reason or "", f"no usable certificate and key in PEM in {named}")
    missing = [str(path) for path in (files.cert, files.key, files.ca) if path and not path.is_file()]
    if missing:
        return f"there is no file {missing[0]}"
    if isinstance(error, OSError):
        return f"{error.strerror or 'cannot be read'}: {error.filename or named}"
    return f"no usable certificate and key in PEM in {named}"
