"""How long the certificates last that are configured: ours, and the authorities that we trust."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

from config import Settings

SOON = timedelta(days=30)
"""Time before the end from which people are warned."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """One configured file: the settings that name it, whom it is made out to, and until when it is good.

    Of a chain the first end counts, of a file of authorities the last: an old one may stay beside the new.
    `problem` is why it cannot be read; `subject` is then empty and `until` None.
    """

    keys: tuple[str, ...]
    path: Path
    subject: str
    until: datetime | None
    problem: str | None = None

    def trouble(self, now: datetime) -> str | None:
        """What somebody has to do about it; None while all is well."""
        if self.until is None:
            return self.problem
        if self.until <= now:
            return f"has expired on {self.until:%Y-%m-%d}; replace it"
        if self.until - now <= SOON:
            days = (self.until - now).days
            return f"expires on {self.until:%Y-%m-%d}, in {days} {'day' if days == 1 else 'days'}; replace it"
        return None


def certificates(settings: Settings) -> list[Certificate]:
    """Every certificate file that is configured, once."""
    found: dict[Path, list[str]] = {}
    for key, path in _configured(settings):
        found.setdefault(path, []).append(key)
    return [_read(tuple(keys), path) for path, keys in found.items()]


def _configured(settings: Settings) -> Iterator[tuple[str, Path]]:
    """Settings that name a certificate file, by their keys; those of remotes by the remote's name."""
    named: list[tuple[str, Path | None]] = []
    if (tls := settings.dicom.tls) is not None:
        named += [("dicom.tls.cert", tls.cert), ("dicom.tls.ca", tls.ca)]
    for kind, remotes in (("destination", settings.destinations), ("archive", settings.archives)):
        for remote in remotes:
            named += [(f"{kind} {remote.name}: tls_cert", remote.tls_cert)]
            named += [(f"{kind} {remote.name}: tls_ca", remote.tls_ca)]
    named += [("audit.cert", settings.audit.cert), ("audit.ca", settings.audit.ca)]
    named += [("web.tls_cert", settings.web.tls_cert)]
    return ((key, path) for key, path in named if path is not None)


def _read(keys: tuple[str, ...], path: Path) -> Certificate:
    try:
        chain = x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        return Certificate(keys, path, "", None, f"cannot be read: {error.strerror}")
    except ValueError:
        return Certificate(keys, path, "", None, "holds no certificate in PEM")
    ends = [certificate.not_valid_after_utc for certificate in chain]
    authorities = all(key.endswith("ca") for key in keys)
    until = max(ends) if authorities else min(ends)
    return Certificate(keys, path, _subject(chain[0]), until.astimezone(UTC))


def _subject(certificate: x509.Certificate) -> str:
    """Common name, else the first name that it is made out to, else the whole subject."""
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME):
        return str(attribute.value)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        names = x509.SubjectAlternativeName([])
    return next(iter(names.get_values_for_type(x509.DNSName)), certificate.subject.rfc4514_string())


def told(found: Iterable[Certificate], now: datetime) -> list[dict[str, str | None]]:
    """The certificates as the system page shows them: what is told of a role is JSON."""
    return [
        {
            "keys": ", ".join(one.keys),
            "subject": one.subject,
            "until": one.until.isoformat() if one.until else None,
            "trouble": one.trouble(now),
        }
        for one in found
    ]
