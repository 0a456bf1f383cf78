"""Asking a directory (LDAP, Active Directory) whether a password is somebody's, and which role they have.

A person is looked up by the node's own account; then the directory is asked to bind as them. Referrals are
not followed: no password goes anywhere but to the configured server.
"""

from __future__ import annotations

import math
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ldap3 import ANONYMOUS, BASE, NONE, SIMPLE, SUBTREE, Connection, Server, Tls
from ldap3.core.exceptions import LDAPException, LDAPSASLPrepError
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import parse_dn

from config.signin import LdapSettings
from db.outsiders import Visitor
from db.people import Role

AT_ONCE = 8
"""Logins that may ask at once: a slow directory must not hold every thread of the pages."""
TURN_SECONDS = 1.0
"""How long another waits for its turn."""

IN_CHAIN = "1.2.840.113556.1.4.1941"
"""LDAP_MATCHING_RULE_IN_CHAIN of Active Directory: membership through groups in groups."""

_SUCCESS, _NO_SUCH_OBJECT, _WRONG_CREDENTIALS = 0, 32, 49
_DATA = re.compile(r"\bdata ([0-9a-f]{3,4})\b")
_NOT_LET_IN = frozenset({"530", "531", "532", "533", "701", "773"})
"""What Active Directory adds to a refusal where the password was right: not at this time or computer,
password expired, account disabled, account expired, password to be changed. A wrong one is 52e, nobody's name
525; a locked account, 775, is told to whoever asks, and so not told apart from a wrong password.
"""
_SUBJECTS = ("objectGUID", "entryUUID")
"""Attributes that stay with a person who is renamed or moved, and never come back with another."""

Found = TypeVar("Found")


class DirectoryDown(Exception):
    """The directory does not answer, or answers what cannot be used; the message is for the log."""


class WrongPassword(Exception):
    """Nobody has that name and password there."""


class NotLetIn(Exception):
    """The password is right, and yet the directory refuses; code: its reason."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Directory:
    """A directory as the settings name it. It keeps no connection."""

    def __init__(self, settings: LdapSettings) -> None:
        self.settings = settings
        self._turns = BoundedSemaphore(AT_ONCE)

    def find(self, name: str, password: str) -> Visitor:
        """Whoever has that name and password.

        Raises :class:`WrongPassword`, :class:`NotLetIn`, :class:`DirectoryDown`.
        """
        if (
            not name or not password
        ):  # a bind without a password succeeds (RFC 4513, 5.1.2) and proves nothing
            raise WrongPassword
        if not self._turns.acquire(timeout=TURN_SECONDS):
            raise DirectoryDown("too many logins wait for it")
        try:
            return self._guarded(lambda: self._find(name, password))
        finally:
            self._turns.release()

    def check(self) -> str:
        """Look for the base by the node's own account. Raises :class:`DirectoryDown`."""

        def look() -> str:
            with self._connection() as own:
                own.search(self.settings.base, "(objectClass=*)", search_scope=BASE, attributes=["1.1"])
                if own.result["result"] != _SUCCESS:
                    raise DirectoryDown(f"it knows no {self.settings.base} ({own.result['description']})")
            return f"{self.settings.url} answers, and has {self.settings.base}"

        return self._guarded(look)

    def _guarded(self, act: Callable[[], Found]) -> Found:
        try:
            return act()
        except (WrongPassword, NotLetIn, DirectoryDown):
            raise
        except LDAPException as error:
            raise DirectoryDown(f"{type(error).__name__}: {error}"[:300]) from error
        except Exception as error:
            raise DirectoryDown(f"{type(error).__name__}: {error}"[:300]) from error

    def _find(self, name: str, password: str) -> Visitor:
        with self._connection() as own:
            entry = self._entry(own, name)
            dn = str(entry["dn"])
            try:
                with self._connection(dn, password):
                    pass
            except LDAPSASLPrepError as error:  # signs that no password may have (RFC 4013)
                raise WrongPassword from error
            return Visitor("ldap", _subject(entry), self._name(entry), self._role(own, entry))

    @contextmanager
    def _connection(self, dn: str | None = None, password: str = "") -> Iterator[Connection]:
        """A connection as that person, or as the node's own account."""
        settings, parts = self.settings, urlsplit(self.settings.url)
        if dn is None:
            dn, password = settings.bind_dn, settings.password
            refused: Callable[[Connection], Exception] = _own_refused
        else:
            refused = _person_refused
        server = Server(
            parts.hostname,
            port=parts.port or (636 if parts.scheme == "ldaps" else 389),
            use_ssl=parts.scheme == "ldaps",
            tls=_Checked(parts.hostname or "", settings),
            get_info=NONE,
            connect_timeout=settings.timeout,
        )
        how = (
            {"user": dn, "password": password, "authentication": SIMPLE}
            if dn
            else {"authentication": ANONYMOUS}
        )
        connection = Connection(
            server,
            **how,
            check_names=False,
            auto_referrals=False,
            auto_range=False,
            receive_timeout=math.ceil(settings.timeout),
        )
        try:
            connection.open(read_server_info=False)
            if settings.start_tls and not connection.start_tls(read_server_info=False):
                raise DirectoryDown("it refuses StartTLS")
            if not connection.bind(read_server_info=False):
                raise refused(connection)
            yield connection
        finally:
            raw = connection.socket
            with _quiet():
                connection.unbind()
            if raw is not None:  # the library leaves one open that it could not use
                raw.close()

    def _entry(self, own: Connection, name: str) -> dict[str, Any]:
        """The one entry that the filter finds."""
        settings = self.settings
        wanted = [
            settings.name_attribute,
            *_SUBJECTS,
            *(["memberOf"] if settings.groups == "memberOf" else []),
        ]
        own.search(
            settings.base,
            settings.user_filter.replace("{name}", escape_filter_chars(name)),
            search_scope=SUBTREE,
            attributes=wanted,
            size_limit=2,
            time_limit=math.ceil(settings.timeout),
        )
        if own.result["result"] not in {_SUCCESS, 4}:  # 4: more than the two that were asked for
            raise DirectoryDown(f"it does not search {settings.base}: {own.result['description']}")
        found = [one for one in own.response or () if one.get("type") == "searchResEntry" and one.get("dn")]
        if len(found) > 1:
            raise DirectoryDown("the user_filter finds several people of one name")
        if not found:
            raise WrongPassword
        return dict(found[0])

    def _name(self, entry: dict[str, Any]) -> str:
        values = _values(entry, self.settings.name_attribute)
        return values[0].decode("utf-8", "replace").strip() if values else ""

    def _role(self, own: Connection, entry: dict[str, Any]) -> Role | None:
        wanted: tuple[tuple[Role, tuple[str, ...]], ...] = (
            ("admin", self.settings.admins),
            ("radiologist", self.settings.radiologists),
        )
        of = {_plain(value.decode("utf-8", "replace")) for value in _values(entry, "memberOf")}
        for role, groups in wanted:
            for group in groups:
                if self.settings.groups == "memberOf":
                    inside = _plain(group) in of
                else:
                    inside = self._is_member(own, entry, group)
                if inside:
                    return role
        return "radiologist" if self.settings.default_role == "radiologist" else None

    def _is_member(self, own: Connection, entry: dict[str, Any], group: str) -> bool:
        """Ask the directory, for a group of any size."""
        dn, attribute = str(entry["dn"]), self.settings.member_attribute
        if self.settings.groups == "nested":
            base, condition = dn, f"(memberOf:{IN_CHAIN}:={escape_filter_chars(group)})"
        else:
            value = self._name(entry) if attribute.lower() == "memberuid" else dn
            base, condition = group, f"({attribute}={escape_filter_chars(value)})"
        own.search(base, condition, search_scope=BASE, attributes=["1.1"])
        if own.result["result"] not in {_SUCCESS, _NO_SUCH_OBJECT}:
            raise DirectoryDown(f"it does not say who is in {group}: {own.result['description']}")
        return any(one.get("type") == "searchResEntry" for one in own.response or ())


class _Checked(Tls):  # type: ignore[misc]  # the library has no annotations
    """TLS by Python's own rules: certificate and name are checked in the handshake, which takes no longer
    than any other answer.
    """

    def __init__(self, host: str, settings: LdapSettings) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self.host = host
        self.context = ssl.create_default_context(cafile=str(settings.ca) if settings.ca else None)
        self.timeout = settings.timeout

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        connection.socket.settimeout(self.timeout)
        connection.socket = self.context.wrap_socket(connection.socket, server_hostname=self.host)


def _own_refused(connection: Connection) -> Exception:
    return DirectoryDown(f"it refuses bind_dn: {connection.result['description']}")


def _person_refused(connection: Connection) -> Exception:
    result = connection.result
    code = _DATA.search(str(result.get("message") or ""))
    if code is not None and code.group(1) in _NOT_LET_IN:
        return NotLetIn(code.group(1))
    if result["result"] == _WRONG_CREDENTIALS:
        return WrongPassword()
    if result["result"] in {
        19,
        53,
    }:  # constraintViolation, unwillingToPerform: locked, or the password is due
        return NotLetIn(str(result["description"]))
    return DirectoryDown(f"it cannot say whether a password is right: {result['description']}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Saying good-bye to a connection that is gone already."""
    try:
        yield
    except (LDAPException, OSError, AttributeError):
        pass


def _values(entry: dict[str, Any], attribute: str) -> list[bytes]:
    for name, values in (entry.get("raw_attributes") or {}).items():
        if name.lower() == attribute.lower():
            return list(values)
    return []


def _subject(entry: dict[str, Any]) -> str:
    """Who it is, for good; by the DN where the directory gives nothing better."""
    for attribute in _SUBJECTS:
        values = _values(entry, attribute)
        if values and values[0]:
            return f"{attribute} {values[0].hex()}"
    return f"dn {_plain(str(entry['dn']))}"


def _plain(dn: str) -> str:
    """A DN for comparison: case and blanks around do not count."""
    try:
        parts = parse_dn(dn, escape=False, strip=True)
    except LDAPException:
        return dn.strip().casefold()
    return "".join(f"{name.strip()}={value.strip()}{mark}" for name, value, mark in parts).casefold()
