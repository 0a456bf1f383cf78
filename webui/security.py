"""What every answer says to browsers about safety, and which proxies are believed."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request
from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "font-src 'self'",
        "connect-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

DECODER_POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'"
"""The policy of the viewer's worker, which alone may compile WebAssembly: it decodes compressed pixels and
has no page to change. A worker is bound by the policy of its own answer, not by that of its page."""
_DECODER = re.compile(r"/assets/decodeImageFrameWorker-[\w-]+\.js$")

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer a browser posts our own forms with "Origin: null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
HSTS = "max-age=31536000"
_FORWARDED = (
    "HTTP_X_FORWARDED_FOR",
    "HTTP_X_FORWARDED_PROTO",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PORT",
    "HTTP_X_FORWARDED_PREFIX",
    "HTTP_FORWARDED",
)


def register(app: Flask, *, secure: bool) -> None:
    """Add the headers to every answer. `secure`: browsers reach us by HTTPS."""

    @app.after_request
    def _headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if secure and request.is_secure:
            response.headers.setdefault("Strict-Transport-Security", HSTS)
        if request.endpoint == "static" and response.status_code < 400:  # a page of an error is somebody's
            hashed = "/assets/" in request.path
            response.headers["Cache-Control"] = (
                "public, max-age=31536000, immutable" if hashed else "no-cache"
            )
        else:
            response.headers.setdefault("Cache-Control", "no-store")
        if request.endpoint == "static" and _DECODER.search(request.path):
            response.headers["Content-Security-Policy"] = DECODER_POLICY
        return response


class TrustedProxies:
    """WSGI middleware: forwarding headers count from the named proxies alone, others are removed."""

    def __init__(self, app: WSGIApplication, proxies: Sequence[str]) -> None:
        self.app = app
        self.networks = tuple(ipaddress.ip_network(proxy, strict=False) for proxy in proxies)
        self.fixed = ProxyFix(app, x_for=1, x_proto=1, x_host=1)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if self._trusted(environ.get("REMOTE_ADDR")):
            return self.fixed(environ, start_response)
        for name in _FORWARDED:
            environ.pop(name, None)
        return self.app(environ, start_response)

    def _trusted(self, address: Any) -> bool:
        try:
            peer = ipaddress.ip_address(str(address))
        except ValueError:
            return False
        if isinstance(peer, ipaddress.IPv6Address):  # a socket of both kinds writes ::ffff:10.1.2.3
            peer = peer.ipv4_mapped or peer
        return any(peer in network for network in self.networks)


def client_address() -> str | None:
    """Address of the client, that of the person behind a trusted proxy."""
    return request.remote_addr[:64] if request.remote_addr else None
