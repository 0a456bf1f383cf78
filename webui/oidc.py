"""Speaking to a provider of OpenID Connect: authorization code flow with PKCE, state and nonce.

The provider's document and keys are kept for an hour; a token by a key that is not among them has them read
again. What is asked for goes to addresses that the document names, which are as safe as the issuer's own.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from threading import BoundedSemaphore, Lock
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from requests.adapters import HTTPAdapter

from config.signin import OidcSettings
from db.outsiders import Visitor

KEPT_SECONDS = 3600.0
"""How long the provider's document and keys are believed without another look."""
PAUSE_SECONDS = 5.0
"""After a failure nobody waits for the provider for so long."""
BEGUN_SECONDS = 600
"""How long somebody may take at the provider."""
LEEWAY_SECONDS = 60
"""By how much the clocks may differ."""
AT_ONCE = 8
"""Sign-ins that may speak to the provider at once: a slow one must not hold every thread of the pages."""
TURN_SECONDS = 1.0
"""How long another waits for its turn."""
MOST_BYTES = 1 << 20
"""Of an answer of the provider."""
_BASIC = "client_secret_basic"
ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
)  # fmt: skip
"""Signatures by a key that the provider alone has: never `none`, never the shared secret."""


class ProviderDown(Exception):
    """The provider does not answer, or what it answers is no OpenID Connect; the message is for the log."""


class Unproved(Exception):
    """What came back proves nothing; the message is for the log."""


@dataclass(frozen=True)
class Begun:
    """What the browser keeps, sealed, while somebody is at the provider. next: where they wanted to go."""

    state: str
    nonce: str
    verifier: str
    next: str


@dataclass(frozen=True)
class Proof:
    """Who it is, and the token that says so: it goes back to the provider at the logout."""

    visitor: Visitor
    id_token: str


class Provider:
    """A provider as the settings name it; shared by all threads."""

    def __init__(self, settings: OidcSettings, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.clock = clock
        self._lock = Lock()
        self._turns = BoundedSemaphore(AT_ONCE)
        self._document: dict[str, Any] = {}
        self._keys: KeySet | None = None
        self._until = float("-inf")
        self._not_before = float("-inf")

    def begin(self, back: str, target: str, *, again: bool = False) -> tuple[str, Begun]:
        """Where to send a browser, and what it must bring back. back: our address for the answer; again: have
        the provider ask who it is, though it may know.

        Raises :class:`ProviderDown`.
        """
        document, _keys = self._known()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        begun = Begun(state, nonce, verifier, target)
        more = {"prompt": self.settings.prompt or ("login" if again else "")}
        with self._session(back) as session:
            url, _state = session.create_authorization_url(
                _endpoint(document, "authorization_endpoint"),
                state=begun.state,
                code_verifier=begun.verifier,
                nonce=begun.nonce,
                **{key: value for key, value in more.items() if value},
            )
        return str(url), begun

    def finish(self, begun: Begun, back: str, code: str) -> Proof:
        """Who came back with a code. Raises :class:`ProviderDown`, :class:`Unproved`."""
        document, _keys = self._known()
        with self._session(back) as session:
            token = self._token(session, document, code, begun.verifier)
            claims = self._claims(str(token.get("id_token") or ""), begun.nonce, token.get("access_token"))
            wanted = (self.settings.name_claim, self.settings.roles_claim)
            if any(claim(claims, path) is None for path in wanted):
                claims = {**self._more(session, document, claims), **claims}
        return Proof(self._visitor(claims), str(token["id_token"]))

    def logout(self, id_token: str, back: str) -> str | None:
        """Where to send a browser to be logged out there too; None where the provider offers no such."""
        try:
            document, _keys = self._known()
            address = _endpoint(document, "end_session_endpoint")
        except ProviderDown:
            return None
        asked = {"client_id": self.settings.client_id, "post_logout_redirect_uri": back}
        if id_token:
            asked["id_token_hint"] = id_token
        return address + ("&" if "?" in address else "?") + urlencode(asked)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Held while somebody waits for the provider. Raises :class:`ProviderDown`."""
        if not self._turns.acquire(timeout=TURN_SECONDS):
            raise ProviderDown("too many sign-ins wait for it")
        try:
            yield
        finally:
            self._turns.release()

    def check(self) -> str:
        """What the provider offers. Raises :class:`ProviderDown`."""
        document, keys = self._known()
        for name in ("authorization_endpoint", "token_endpoint"):
            _endpoint(document, name)
        logout = "offers" if document.get("end_session_endpoint") else "does not offer"
        return f"{self.settings.issuer} answers; keys: {len(keys.keys)}; it {logout} logout"

    def seal(self, begun: Begun) -> str:
        """For the browser's cookie, which nobody else can make or read."""
        return self._fernet().encrypt(json.dumps(asdict(begun)).encode()).decode()

    def unseal(self, cookie: str) -> Begun | None:
        """What was sealed; None for what was not, or too long ago."""
        try:
            return Begun(**json.loads(self._fernet().decrypt(cookie.encode(), ttl=BEGUN_SECONDS)))
        except (InvalidToken, ValueError, TypeError):
            return None

    def _fernet(self) -> Fernet:
        """Every process of the node derives the same key, from the secret that it has anyway."""
        key = HKDF(SHA256(), 32, None, b"cxr-sr sign-in cookie").derive(self._secret().encode())
        return Fernet(base64.urlsafe_b64encode(key))

    def _secret(self) -> str:
        try:
            return self.settings.secret
        except OSError as error:
            raise ProviderDown(f"client_secret_file cannot be read: {error.strerror or error}") from None

    @contextmanager
    def _session(self, back: str = "") -> Iterator[OAuth2Session]:
        settings = self.settings
        methods = self._document.get("token_endpoint_auth_methods_supported") or [_BASIC]
        with OAuth2Session(
            settings.client_id,
            self._secret(),
            token_endpoint_auth_method=_BASIC if _BASIC in methods else "client_secret_post",
            scope=" ".join(settings.scopes),
            redirect_uri=back,
            code_challenge_method="S256",
            default_timeout=settings.timeout,
        ) as session:
            if settings.ca is not None:
                session.verify = str(settings.ca)
            session.mount("https://", _Bounded(settings.timeout))
            session.mount("http://", _Bounded(settings.timeout))
            yield session

    def _known(self) -> tuple[dict[str, Any], KeySet]:
        """The provider's document and keys, read again when they are old."""
        with self._lock:
            now = self.clock()
            if self._keys is None or now >= self._until:
                if now < self._not_before:
                    raise ProviderDown("it did not answer a moment ago")
                self._read(now)
            assert self._keys is not None
            return self._document, self._keys

    def _read(self, now: float) -> None:
        """With the lock held."""
        try:
            with self._session() as session:
                issuer = self.settings.issuer
                document = _get(session, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
                named = document.get("issuer")
                if named != issuer:
                    raise ProviderDown(f"it calls itself {str(named)[:200]!r}, not {issuer!r}")
                safe = urlsplit(issuer).scheme == "https"
                self._document = {
                    key: value
                    for key, value in document.items()
                    if not (safe and isinstance(value, str) and value.startswith("http:"))
                }
                found = _get(session, _endpoint(self._document, "jwks_uri"))
                self._keys = _key_set(found)
        except ProviderDown:
            self._not_before = now + PAUSE_SECONDS
            raise
        self._until = now + KEPT_SECONDS

    def _token(
        self, session: OAuth2Session, document: dict[str, Any], code: str, verifier: str
    ) -> dict[str, Any]:
        try:
            return dict(
                session.fetch_token(
                    _endpoint(document, "token_endpoint"),
                    code=code,
                    code_verifier=verifier,
                    allow_redirects=False,
                )
            )
        except AuthlibBaseError as error:
            raise Unproved(f"it gives no token: {str(error.error)[:100]}") from error
        except (requests.RequestException, OSError, ValueError, TypeError, AttributeError) as error:
            raise ProviderDown(f"it gives no token: {type(error).__name__}") from error

    def _claims(self, raw: str, nonce: str, access_token: Any) -> dict[str, Any]:
        """The claims of an ID token that is proved: signature, issuer, audience, times, nonce."""
        try:
            decoded = self._decoded(raw)
            claims = CodeIDToken(
                decoded.claims,
                decoded.header,
                {
                    "iss": {"essential": True, "value": self.settings.issuer},
                    "aud": {"essential": True, "value": self.settings.client_id},
                    "exp": {"essential": True},
                    "nonce": {"essential": True, "value": nonce},
                },
                {"nonce": nonce, "client_id": self.settings.client_id, "access_token": access_token},
            )
            claims.validate(now=int(time.time()), leeway=LEEWAY_SECONDS)
        except (JoseError, ValueError, TypeError) as error:
            raise Unproved(f"the ID token is refused: {type(error).__name__}: {str(error)[:100]}") from error
        if not isinstance(claims.get("sub"), str) or not claims["sub"]:
            raise Unproved("the ID token names nobody")
        return dict(claims)

    def _decoded(self, raw: str) -> jwt.Token:
        """Raises what joserfc raises; once with the keys that are known, once with those of now."""
        _document, keys = self._known()
        try:
            return jwt.decode(raw, keys, algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            with self._lock:
                if self._keys is keys:
                    self._read(self.clock())
                assert self._keys is not None
                keys = self._keys
            return jwt.decode(raw, keys, algorithms=ALGORITHMS)

    def _more(
        self, session: OAuth2Session, document: dict[str, Any], claims: dict[str, Any]
    ) -> dict[str, Any]:
        """What the provider says of the same person besides; nothing where it says nothing."""
        if not document.get("userinfo_endpoint") or not session.token:
            return {}
        said = _get(session, _endpoint(document, "userinfo_endpoint"), withhold_token=False)
        if said.get("sub") != claims["sub"]:
            raise Unproved("the userinfo is of somebody else")
        return said

    def _visitor(self, claims: dict[str, Any]) -> Visitor:
        settings, name = self.settings, claim(claims, self.settings.name_claim)
        said = claim(claims, settings.roles_claim)
        several = said if isinstance(said, list) else [said]
        values = {value for value in several if isinstance(value, str)}
        return Visitor(
            "oidc",
            f"{settings.issuer}\n{claims['sub']}",
            name if isinstance(name, str) else "",
            "admin"
            if values & set(settings.admins)
            else "radiologist"
            if values & set(settings.radiologists) or settings.default_role == "radiologist"
            else None,
        )


class _Bounded(HTTPAdapter):
    """Reads an answer whole, but no more than a limit of it, and no longer than another."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def send(self, request: requests.PreparedRequest, *args: Any, **more: Any) -> requests.Response:
        until = time.monotonic() + self.seconds
        response = super().send(request, *args, **{**more, "stream": True})
        body = bytearray()
        while chunk := response.raw.read1(1 << 16, decode_content=True):
            body += chunk
            if len(body) > MOST_BYTES or time.monotonic() > until:
                response.close()
                raise requests.ConnectionError("the answer is too long")
        response._content = bytes(body)
        return response


def claim(claims: Mapping[str, Any], path: str) -> Any:
    """A claim by its name, or by names with dots between that lead into tables; None where there is none."""
    if path in claims:
        return claims[path]
    at: Any = claims
    for name in path.split("."):
        at = at.get(name) if isinstance(at, Mapping) else None
    return at


def _get(session: OAuth2Session, url: str, *, withhold_token: bool = True) -> dict[str, Any]:
    """A JSON object from the provider."""
    try:
        answer = session.get(url, withhold_token=withhold_token, allow_redirects=False)
        if answer.status_code != 200:
            raise ProviderDown(f"{url} answers {answer.status_code}")
        found = answer.json()
    except (requests.RequestException, AuthlibBaseError, OSError, ValueError) as error:
        raise ProviderDown(f"{url}: {type(error).__name__}") from error
    if not isinstance(found, dict):
        raise ProviderDown(f"{url} answers no JSON object")
    return found


def _endpoint(document: dict[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or urlsplit(value).scheme not in {"http", "https"}:
        raise ProviderDown(f"it names no {name} that is safe")
    return value


def _key_set(found: dict[str, Any]) -> KeySet:
    """The keys for signatures; those of a kind that nobody here knows are left out."""
    known = []
    for key in found.get("keys") or ():
        if not isinstance(key, dict) or key.get("use", "sig") != "sig":
            continue
        try:
            known += KeySet.import_key_set({"keys": [key]}).keys
        except (JoseError, ValueError, TypeError, KeyError):
            continue
    if not known:
        raise ProviderDown("it shows no key that signs")
    return KeySet(known)
