"""What must hold between settings, beyond what each may be for itself."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.settings import Settings


@dataclass(frozen=True)
class Conflict:
    """A setting that does not go with another: its key, what was expected, and the key that asks for it."""

    key: str
    message: str
    because: str


def first_conflict(settings: Settings) -> Conflict | None:
    """The first setting that contradicts another; None when all go together."""
    return _name_conflict(settings) or _door_conflict(settings)


def _name_conflict(settings: Settings) -> Conflict | None:
    for key, names in (
        ("destinations", [d.name for d in settings.destinations]),
        ("archives", [a.name for a in settings.archives]),
        ("rules", [r.name for r in settings.rules]),
    ):
        if (double := _double(names)) is not None:
            return Conflict(key, f"expected different names, {double!r} stands twice", key)
    known = {d.name for d in settings.destinations}
    for number, rule in enumerate(settings.rules):
        for name in rule.destinations or ():
            if name not in known:
                some = ", ".join(sorted(known)) or "none are configured"
                message = f"expected names of destinations ({some}), got {name!r}"
                return Conflict(f"rules.{number}.destinations", message, "destinations")
    return None


def _door_conflict(settings: Settings) -> Conflict | None:
    web, dicom = settings.web, settings.dicom
    if not loopback(dicom.host) and not dicom.allow:
        message = f"expected the callers to accept, because dicom.host {dicom.host!r} is not loopback"
        return Conflict("dicom.allow", message, "dicom.host")
    if dicom.tls is not None and not dicom.tls.only and dicom.tls.port == dicom.port != 0:
        message = "expected another port than dicom.port, or dicom.tls.only"
        return Conflict("dicom.tls.port", message, "dicom.port")
    titles = [dicom.ae_title, *dicom.ae_titles]
    if (double := _double(titles)) is not None:
        return Conflict(
            "dicom.ae_titles", f"expected different titles, {double!r} stands twice", "dicom.ae_titles"
        )
    if settings.audit.messages == "syslog" and not settings.audit.host:
        message = "expected the repository's address, because audit.messages is syslog"
        return Conflict("audit.host", message, "audit.messages")
    if (web.tls_cert is None) != (web.tls_key is None):
        given, missing = ("tls_cert", "tls_key") if web.tls_key is None else ("tls_key", "tls_cert")
        return Conflict(f"web.{missing}", f"expected a file, because web.{given} is given", f"web.{given}")
    if not loopback(web.host) and web.tls_cert is None and not web.trusted_proxies:
        message = (
            f"expected a certificate, or web.trusted_proxies, because web.host {web.host!r} is not loopback: "
            "passwords and images would travel in the clear"
        )
        return Conflict("web.tls_cert", message, "web.host")
    return None


def loopback(host: str) -> bool:
    """Whether an address to listen on is reached only from this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address_or_network(text: str) -> str:
    """The text itself when it is an IP address or a network in CIDR notation. Raises ValueError."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("expected an IP address or a network such as 192.0.2.0/24") from None
    return text


def _double(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
