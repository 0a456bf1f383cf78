"""Every setting in force, with where it came from and without its secrets; and what differs between two."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from config import reference
from config.section import Section
from config.settings import Settings
from config.sources import Key, Origin, Sources

MASK = "•••"
"""What stands in place of a secret."""

_PASSWORD = re.compile(r"(://)([^:/?#\s]*):.*@")
_SIGNED = re.compile(r"((?:^|[?&])[^=&]*(?:pass|secret|token|key|sig)[^=&]*=)[^&#]*", re.IGNORECASE)
_SECRET_NAME = re.compile(r"(password|secret|token|credentials?)$")
_SCHEME_ALONE = {"alerts.urls"}
"""Settings whose every part may be a secret: of a notification service the whole address is."""


@dataclass(frozen=True)
class Effective:
    """One setting in force: `key` as in the reference with the number of a list's item, `value` and `default`
    in TOML, secrets masked."""

    key: str
    value: str
    default: str
    description: str
    origin: Origin
    masked: bool = False

    @property
    def section(self) -> str:
        """The part of the key before its first dot."""
        return re.split(r"[.\[]", self.key, maxsplit=1)[0] if "." in self.key else ""


def effective(settings: Settings) -> list[Effective]:
    """Every setting in force, in the order of the models; each item of a list of tables has its own rows."""
    return list(_rows(settings, (), settings.sources))


def differing(now: Settings, then: Settings) -> list[str]:
    """Keys whose values differ, secrets included."""
    ours, theirs = (_values(each, ()) for each in (now, then))
    keys = {**ours, **theirs}
    return [name(key) for key in keys if ours.get(key, ...) != theirs.get(key, ...)]


def fingerprint(settings: Settings) -> str:
    """Twelve hexadecimal digits that change with any setting: which settings a role was started with.

    Guesses at a secret can be checked by it: it is for administrators alone.
    """
    text = settings.model_dump_json()
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def name(key: Key) -> str:
    """A key as people write it: `rules[0].match`."""
    text = ""
    for part in key:
        text += f"[{part}]" if part.isdecimal() else f".{part}" if text else part
    return text


def masked(key: str, value: Any) -> Any:
    """A value without what is secret in it: passwords in addresses, tokens, addresses of notifications."""
    plain = re.sub(r"\[\d+\]", "", key)
    if isinstance(value, tuple | list):
        return tuple(masked(key, item) for item in value)
    if not isinstance(value, str):
        return value
    if plain in _SCHEME_ALONE:
        return f"{value.partition('://')[0]}://{MASK}" if "://" in value else MASK
    if value and _SECRET_NAME.search(plain.rpartition(".")[2]):
        return MASK
    if "://" in value:
        value = _PASSWORD.sub(rf"\1\2:{MASK}@", value)
        place, mark, query = value.partition("?")
        return place + mark + _SIGNED.sub(rf"\1{MASK}", query)
    return value


def _rows(model: BaseModel, above: Key, sources: Sources) -> Iterator[Effective]:
    for field_name, info in type(model).model_fields.items():
        key, value = (*above, field_name), getattr(model, field_name)
        if isinstance(value, Section):
            yield from _rows(value, key, sources)
        elif isinstance(value, tuple) and value and isinstance(value[0], Section):
            for number, item in enumerate(value):
                yield from _rows(item, (*key, str(number)), sources)
        else:
            default = reference.default_of(info)
            shown = masked(name(key), value)
            yield Effective(
                key=name(key),
                value=reference.toml(shown),
                default=default,
                description=info.description or "",
                origin=sources.origin(key, reference.toml(value) == default),
                masked=shown != value,
            )


def _values(model: BaseModel, above: Key) -> dict[Key, Any]:
    found: dict[Key, Any] = {}
    for field_name in type(model).model_fields:
        key, value = (*above, field_name), getattr(model, field_name)
        if isinstance(value, Section):
            found |= _values(value, key)
        elif isinstance(value, tuple) and value and isinstance(value[0], Section):
            for number, item in enumerate(value):
                found |= _values(item, (*key, str(number)))
        else:
            found[key] = value
    return found
