"""Providers of OpenID Connect on real sockets: one of others, and one that misbehaves as it is told."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import requests
from flask import Flask, Response, redirect, request
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet
from werkzeug.serving import make_server

CLIENT, SECRET = "cxr-sr", "a secret between two"
Claims = dict[str, Any]


class OwnProvider:
    """Signs everybody in as `claims` at once. `bend` changes header and claims, or gives a token itself."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.claims: Claims = {"sub": "s-1", "preferred_username": "oona", "groups": ["readers"]}
        self.only_by_userinfo: Claims = {}
        self.key = _key("first")
        self.shown_keys = [self.key]
        self.bend: Callable[[Claims, Claims], str | None] = lambda header, claims: None
        self.document: Claims = {}
        self.asked: list[str] = []
        self.codes: dict[str, Claims] = {}
        self.token_answer: Response | None = None
        app = Flask("own provider")
        app.add_url_rule("/.well-known/openid-configuration", view_func=self._document)
        app.add_url_rule("/keys", view_func=self._keys)
        app.add_url_rule("/authorize", view_func=self._authorize)
        app.add_url_rule("/token", view_func=self._token, methods=["POST"])
        app.add_url_rule("/userinfo", view_func=self._userinfo)
        app.add_url_rule("/logout", view_func=self._logout)
        app.before_request(lambda: self.asked.append(request.path))
        self.server = make_server("127.0.0.1", 0, app, threaded=True)
        self.issuer = f"http://{host}:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    def close(self) -> None:
        """Go away; nobody answers at the port any more."""
        if self.thread.is_alive():
            self.server.shutdown()
            self.thread.join(10)
            self.server.server_close()

    def rotate(self, *, name: str = "second") -> None:
        """Another key signs from now on, and the old one is gone."""
        self.key = _key(name)
        self.shown_keys = [self.key]

    def _document(self) -> Claims:
        made = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "end_session_endpoint": f"{self.issuer}/logout",
            "jwks_uri": f"{self.issuer}/keys",
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        }
        return {key: value for key, value in {**made, **self.document}.items() if value is not None}

    def _keys(self) -> Claims:
        return {
            "keys": [
                {"kty": "odd", "kid": "of the future"},
                *(key.as_dict(private=False) for key in self.shown_keys),
            ]
        }

    def _authorize(self) -> Any:
        wanted = request.args
        assert wanted["response_type"] == "code"
        assert wanted["client_id"] == CLIENT
        assert wanted["code_challenge_method"] == "S256"
        assert "openid" in wanted["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = dict(wanted)
        return redirect(f"{wanted['redirect_uri']}?{urlencode({'code': code, 'state': wanted['state']})}")

    def _token(self) -> Any:
        if self.token_answer is not None:
            return self.token_answer
        begun = self.codes.pop(request.form.get("code", ""), None)
        login = request.authorization
        known = (
            (login.username, login.password)
            if login
            else (request.form.get("client_id"), request.form.get("client_secret"))
        )
        verifier = request.form.get("code_verifier", "").encode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier).digest()).rstrip(b"=").decode()
        if begun is None or known != (CLIENT, SECRET):
            return {"error": "invalid_grant", "error_description": "<b>not repeated</b>"}, 400
        if challenge != begun["code_challenge"] or request.form.get("redirect_uri") != begun["redirect_uri"]:
            return {"error": "invalid_grant"}, 400
        return {
            "access_token": "opens-userinfo",
            "token_type": "Bearer",
            "id_token": self.id_token(begun["nonce"]),
        }

    def id_token(self, nonce: str) -> str:
        """As it would be for whoever began with that nonce."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "iat": now,
            "exp": now + 300,
            "nonce": nonce,
            **self.claims,
        }
        header: Claims = {"alg": "ES256", "kid": self.key.kid}
        bent = self.bend(header, claims)
        return bent if bent is not None else jwt.encode(header, claims, self.key)

    def _userinfo(self) -> Any:
        if request.headers.get("Authorization") != "Bearer opens-userinfo":
            return {}, 401
        return {"sub": self.claims["sub"], **self.only_by_userinfo}

    def _logout(self) -> Any:
        assert request.args["client_id"] == CLIENT
        hint = jwt.decode(request.args["id_token_hint"], KeySet([self.key]))
        assert hint.claims["sub"] == self.claims["sub"]
        return redirect(request.args["post_logout_redirect_uri"])


def unsigned(header: Claims, claims: Claims) -> str:
    """A token with `alg: none`."""
    parts = ({**header, "alg": "none"}, claims)
    return (
        ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts) + "."
    )


def _key(name: str) -> ECKey:
    return ECKey.generate_key("P-256", {"kid": name, "use": "sig"})


@contextmanager
def provider_of_others() -> Iterator[str]:
    """Run oidc-provider-mock as a process of its own; its issuer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    issuer = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "oidc_provider_mock",
        "--port",
        str(port),
        "--require-nonce",
        "true",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                requests.get(f"{issuer}/jwks", timeout=5).raise_for_status()
                break
            except requests.RequestException:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield issuer
    finally:
        process.terminate()
        process.wait(30)
