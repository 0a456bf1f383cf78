"""HTTP to archives that speak DICOMweb: signed in, encrypted, bounded in what an answer may cost.

`dicomweb-client` makes the requests of a search. Objects do not go through it, as it holds each one in memory
several times: `pacs_node.stow` and `pacs_node.wado` stream them over the session that is made here.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import quote_plus

import requests
from dicomweb_client.web import DICOMwebClient
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.exceptions import ReadTimeoutError

from config.network import Remote
from config.settings import DicomSettings
from pacs_node.carrier import PeerError
from pacs_node.patience import BoundedAdapter, cut_off
from pacs_node.tls import TlsError, client_context

MAX_ANSWER_BYTES = 32 << 20
"""Longest answer that is not an object; a search for a thousand studies takes about two megabytes."""

_TOKEN_MARGIN = 30.0
"""Seconds before its end at which a token is replaced."""

_CHUNK = 1 << 16


class WebError(PeerError):
    """The archive answered with a status that is not success; the message holds no patient data."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class SignInError(PeerError):
    """We are not let in, and shall not be until somebody changes that."""


def describe(status: int) -> str:
    """An HTTP status for people."""
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def quiet_libraries() -> None:
    """Keep the HTTP libraries from logging: their messages repeat addresses with what was searched for."""
    for name in ("dicomweb_client", "urllib3", "requests"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


@contextmanager
def session(remote: Remote, dicom: DicomSettings) -> Iterator[WebSession]:
    """A session with a `dicomweb` system, closed at the end. Raises :class:`PeerError`."""
    made = WebSession(remote, dicom)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def spoken(where: str) -> Iterator[None]:
    """Turn what the HTTP libraries raise into :class:`PeerError` with a sentence that repeats no address."""
    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise SignInError(f"{where} does not let us in: {describe(status)}") from None
        raise WebError(status, f"{where} answered {describe(status)}") from None
    except requests.exceptions.SSLError as error:
        raise PeerError(f"{where}: no secure connection: {_tls_reason(error)}") from None
    except requests.exceptions.ConnectTimeout:
        raise PeerError(f"{where} cannot be reached") from None
    except requests.exceptions.Timeout:
        raise PeerError(f"{where} did not answer in time") from None
    except requests.exceptions.JSONDecodeError:
        raise PeerError(f"{where} answered something that is no JSON") from None
    except requests.exceptions.ChunkedEncodingError:
        raise PeerError(f"{where}: the connection was lost") from None
    except requests.exceptions.ConnectionError as error:
        if isinstance(error.args[0] if error.args else None, ReadTimeoutError):  # in the middle of its answer
            raise PeerError(f"{where} did not answer in time") from None
        lost = any(word in str(error) for word in ("aborted", "reset", "broken", "Disconnected"))
        raise PeerError(
            f"{where}: the connection was lost" if lost else f"{where} cannot be reached"
        ) from None
    except (requests.RequestException, ValueError) as error:
        raise PeerError(f"{where} gave no answer that can be used ({type(error).__name__})") from None


class WebSession(requests.Session):
    """A session of requests for one system: its authentication, its TLS, its time-outs.

    An answer that is not streamed is read to `MAX_ANSWER_BYTES` and no further. A redirection of a request
    with a body is never followed. Raises what requests raises; :func:`spoken` puts it into words. Making
    one raises :class:`SignInError`.
    """

    def __init__(self, remote: Remote, dicom: DicomSettings) -> None:
        quiet_libraries()
        super().__init__()
        self.remote = remote
        self.max_redirects = 3
        self.url = remote.url.rstrip("/")
        self.timeout = (dicom.connection_timeout, dicom.dimse_timeout)
        self.headers["User-Agent"] = "cxr-sr"
        try:
            for scheme in ("https://", "http://"):
                self.mount(scheme, _SecureAdapter(remote, self.timeout[1]))
        except TlsError as error:
            raise SignInError(str(error)) from error
        self.auth = _sign_in(remote, self)

    @property
    def where(self) -> str:
        """The system's name for messages: its host, without path and parameters."""
        return self.url.partition("://")[2].partition("/")[0].rpartition("@")[2]

    def client(self) -> DICOMwebClient:
        """A client for searches over this session; it does not try again by itself."""
        client = DICOMwebClient(self.url, session=self, timeout=self.timeout)
        client.set_http_retry_params(retry=False)
        return client

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send a request; with a token that the system accepts no more, once again with a new one."""
        stream = bool(options.pop("stream", False))
        if request.url and "?" in request.url:
            request.url = _legible(request.url)
        if request.body is not None:
            options["allow_redirects"] = False
        options["timeout"] = options.get("timeout") or self.timeout
        response = super().send(request, stream=True, **options)
        rewind = getattr(request.body, "rewind", None)
        auth = self.auth
        if (
            response.status_code == HTTPStatus.UNAUTHORIZED
            and isinstance(auth, _ClientCredentials)
            and (rewind or not request.body)
            and auth.forget(request.headers.get("Authorization"))
        ):
            response.close()
            if rewind:
                rewind()
            response = super().send(auth(request), stream=True, **options)
        if not stream:
            _read(response, self.timeout[1])
        return response


def _legible(url: str) -> str:
    """Wildcards and spaces as archives expect them: Orthanc takes a quoted wildcard for letters."""
    address, _, query = url.partition("?")
    return f"{address}?{query.replace('%2A', '*').replace('%3F', '?').replace('+', '%20')}"


def _read(response: requests.Response, seconds: float) -> None:
    """Read an answer to its end, within a length and a time."""
    whole, late = bytearray(), threading.Event()
    try:
        with response, cut_off(getattr(response.raw, "wire", None), 4 * seconds, late):
            for chunk in response.iter_content(_CHUNK):
                whole += chunk
                if len(whole) > MAX_ANSWER_BYTES:
                    raise requests.exceptions.ContentDecodingError("the answer is too long")
                if late.is_set():
                    break
    except (requests.RequestException, OSError):
        if not late.is_set():
            raise
    if late.is_set():
        raise requests.exceptions.ReadTimeout("the answer takes too long")
    response._content = bytes(whole)


class _SecureAdapter(BoundedAdapter):
    """HTTPS with the TLS that the settings ask for, whatever the environment says about certificates."""

    def __init__(self, remote: Remote, seconds: float) -> None:
        self._remote = remote
        super().__init__(seconds)

    def _context(self) -> ssl.SSLContext:
        return client_context(self._remote)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        if self._remote.url.startswith("https://") or self._remote.token_url.startswith("https://"):
            options["ssl_context"] = self._context()
        super().init_poolmanager(*arguments, **options)

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:
        return super().proxy_manager_for(proxy, ssl_context=self._context(), **options)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Nothing to add: the context has the authorities and our certificate."""

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> Any:
        return super().build_connection_pool_key_attributes(request, True, None)


def _sign_in(remote: Remote, session: WebSession) -> AuthBase:
    if remote.auth == "none":
        return _Nobody()
    secret = read_secret(remote)
    if remote.auth == "basic":
        return HTTPBasicAuth(remote.username.encode(), secret.encode())
    if remote.auth == "bearer":
        return _Bearer(secret)
    return _ClientCredentials(remote, secret, session)


def read_secret(remote: Remote) -> str:
    """The password, token or client secret of a system, from its file. Raises :class:`SignInError`."""
    assert remote.secret_file is not None
    try:
        secret = remote.secret_file.read_text("utf-8").strip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise SignInError(f"the secret file {remote.secret_file} cannot be read") from None
    if not secret or "\n" in secret:
        raise SignInError(f"the secret file {remote.secret_file} must hold one line")
    return secret


class _Nobody(AuthBase):
    """No authentication; without it requests would look for one in the user's .netrc."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@dataclass(frozen=True)
class _Token:
    value: str
    until: float
    """On the monotonic clock."""


_tokens: dict[tuple[str, ...], _Token] = {}
_tokens_lock = threading.Lock()


class _ClientCredentials(AuthBase):
    """OAuth 2.0 client credentials (RFC 6749, section 4.4); one token for all sessions of this process."""

    def __init__(self, remote: Remote, secret: str, session: WebSession) -> None:
        self._remote, self._secret, self._session = remote, secret, session
        digest = hashlib.sha256(secret.encode()).hexdigest()
        self._key = (remote.token_url, remote.username, remote.scope, digest)

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._current()}"
        return request

    def forget(self, refused: str | bytes | None) -> bool:
        """Drop a token that the system refused; says whether there was one."""
        with _tokens_lock:
            held = _tokens.get(self._key)
            if held is not None and refused in (f"Bearer {held.value}", f"Bearer {held.value}".encode()):
                del _tokens[self._key]
        return bool(refused)

    def _current(self) -> str:
        with _tokens_lock:
            held = _tokens.get(self._key)
        if held is None or held.until <= time.monotonic():
            held = self._ask()
            with _tokens_lock:
                _tokens[self._key] = held
        return held.value

    def _ask(self) -> _Token:
        """A new token. Raises :class:`SignInError`, :class:`PeerError`."""
        form = {"grant_type": "client_credentials"}
        if self._remote.scope:
            form["scope"] = self._remote.scope
        names = HTTPBasicAuth(quote_plus(self._remote.username), quote_plus(self._secret))
        began = time.monotonic()
        response = self._post(form, names)
        if response.status_code in (400, 401):  # some endpoints read the credentials from the body alone
            own = {"client_id": self._remote.username, "client_secret": self._secret}
            response = self._post(form | own, _Nobody())
        answer = _json(response)
        token, seconds = answer.get("access_token"), answer.get("expires_in")
        if response.status_code in (400, 401, 403):
            why = answer.get("error")
            said = why if isinstance(why, str) and why.isascii() and len(why) < 64 else "no reason given"
            raise SignInError(f"the token endpoint refuses us: {describe(response.status_code)}, {said}")
        if response.status_code != HTTPStatus.OK or not isinstance(token, str) or not token:
            raise PeerError(f"the token endpoint gave no token: {describe(response.status_code)}")
        if str(answer.get("token_type", "bearer")).lower() != "bearer":
            raise SignInError("the token endpoint gives tokens of another kind than bearer")
        try:
            life = float(seconds) if seconds is not None else float("inf")
        except (TypeError, ValueError):
            life = 0.0
        return _Token(token, began + life - min(_TOKEN_MARGIN, life / 2))

    def _post(self, form: Mapping[str, str], auth: AuthBase) -> requests.Response:
        with spoken("the token endpoint"):
            accept = {"Accept": "application/json"}
            return self._session.post(
                self._remote.token_url, data=form, auth=auth, headers=accept, allow_redirects=False
            )


def _json(response: requests.Response) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        answer = response.json()
        if isinstance(answer, dict):
            return answer
    return {}


def _tls_reason(error: Exception) -> str:
    """The reason of a failed handshake without the address that the library adds."""
    text = str(error)
    for known, words in (
        ("mismatch", "its certificate is made out to another name"),
        ("doesn't match", "its certificate is made out to another name"),
        ("has expired", "its certificate has expired"),
        ("certificate verify failed", "its certificate is not trusted"),
        ("certificate required", "it wants a certificate from us"),
        ("unknown ca", "it does not trust our certificate"),
        ("WRONG_VERSION_NUMBER", "it does not speak TLS there"),
    ):
        if known.lower() in text.lower():
            return words
    return "the handshake failed"
