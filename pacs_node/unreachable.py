"""Why a peer could not be reached or would not associate, in a sentence that says what to do about it."""

from __future__ import annotations

import errno
import socket
import ssl

_VERIFICATION: dict[int, str] = {
    10: "its certificate has expired",
    9: "its certificate is not valid yet; compare the clocks",
    18: "its certificate signs itself and is not in tls_ca",
    19: "the authority of its certificate is not in tls_ca",
    20: "the authority of its certificate is not in tls_ca",
    21: "the authority of its certificate is not in tls_ca",
    23: "its certificate was revoked",
    26: "its certificate is not meant for a server",
    62: "its certificate is made out to another name",
    64: "its certificate is made out to another address",
    66: "its key is too short",
    67: "the key of its authority is too short",
    68: "its certificate is signed with a digest that is no longer secure",
}
"""OpenSSL's results of verifying a certificate (X509_V_ERR_*)."""

_NAME_CODES = (62, 64)

_ALERTS: dict[str, str] = {
    "CERTIFICATE_REQUIRED": "it asks for our certificate; set tls_cert and tls_key",
    "UNKNOWN_CA": "it does not trust the authority of our certificate",
    "BAD_CERTIFICATE": "it does not accept our certificate",
    "CERTIFICATE_EXPIRED": "it says that our certificate has expired",
    "CERTIFICATE_REVOKED": "it says that our certificate was revoked",
    "CERTIFICATE_UNKNOWN": "it does not accept our certificate",
    "UNSUPPORTED_CERTIFICATE": "it cannot use a certificate of this kind",
    "ACCESS_DENIED": "it denies us access",
    "DECRYPT_ERROR": "it could not verify our certificate's signature",
    "HANDSHAKE_FAILURE": "it has no TLS version or cipher in common with us, or asks for our certificate",
    "PROTOCOL_VERSION": "it speaks no TLS version from 1.2 on",
    "INSUFFICIENT_SECURITY": "it asks for stronger ciphers than ours",
    "UNRECOGNIZED_NAME": "it does not answer to the name in host",
}
"""Endings of OpenSSL's names of the alerts that a peer sends, and what they mean for us."""


def why(error: BaseException | None, *, connected: bool, tls: bool) -> str:
    """What stood in the way of an association: a clause after the peer's address, with what to do.

    `connected`: whether the connection itself was made, so that what failed came after it.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        found = _VERIFICATION.get(error.verify_code, "its certificate cannot be verified")
        hint = "; correct host, or set tls_check_host = false" if error.verify_code in _NAME_CODES else ""
        return f"is not trusted: {found}{hint}"
    if isinstance(error, ssl.SSLError):
        return f"made no TLS connection: {_tls(error)}"
    if isinstance(error, TimeoutError):
        if connected:
            return f"did not answer {'the TLS handshake; it may expect no TLS' if tls else 'in time'}"
        return "cannot be reached: no answer; check host and port, and the firewalls in between"
    if isinstance(error, ConnectionRefusedError):
        return "cannot be reached: nothing listens there (refused); check host and port, and whether it runs"
    if isinstance(error, ConnectionError):
        hint = "; it may expect no TLS, or refuse our certificate" if tls else "; it may expect TLS"
        return f"closed the connection before the association{hint}"
    if isinstance(error, socket.gaierror):
        return "cannot be reached: the name cannot be resolved; check host"
    if isinstance(error, OSError) and error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return "cannot be reached: there is no route to it"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be reached: {error.strerror}"
    return "cannot be reached"


def advice(source: int | None, reason: int | None, calling: str, called: str) -> str:
    """What to do about an association that was rejected with this source and reason (PS3.8 Table 9-21)."""
    hints = {
        (1, 3): f"let it know us as {calling}, or set calling_ae_title",
        (1, 7): f"it is not called {called}; correct ae_title",
        (3, 1): "it is busy now",
        (3, 2): "it has as many associations as it takes now",
    }
    return hints.get((source or 0, reason or 0), "see its log")


def _tls(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    for ending, meaning in _ALERTS.items():
        if reason.endswith(ending):
            return meaning
    if reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return "what it answers is not TLS; check the port, or set tls = false"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "it closed the connection; it may expect no TLS, or refuse our certificate"
    return reason.lower().replace("_", " ") or "the handshake failed"


def unheard(error: ssl.SSLError) -> str:
    """Why a caller's handshake with us failed: a clause for the log."""
    reason = error.reason or ""
    known = {
        "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate",
        "NO_SHARED_CIPHER": "it has no cipher in common with us",
        "UNSUPPORTED_PROTOCOL": "it speaks no TLS version from 1.2 on",
        "WRONG_VERSION_NUMBER": "it does not speak TLS",
        "HTTP_REQUEST": "it speaks HTTP",
        "NO_SUITABLE_SIGNATURE_ALGORITHM": "it cannot verify a certificate like ours",
    }
    if reason in known:
        return known[reason]
    if isinstance(error, ssl.SSLCertVerificationError):
        found = _VERIFICATION.get(error.verify_code, "its certificate cannot be verified")
        return found.replace("tls_ca", "dicom.tls.ca").replace("server", "client")
    if reason.endswith(("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN", "CERTIFICATE_EXPIRED")):
        return "it does not accept our certificate"
    return reason.lower().replace("_", " ") or "the handshake failed"
