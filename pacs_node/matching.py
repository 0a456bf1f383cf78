"""What an entry of a rule's `match` means: a name, the patterns for its values, and whether one fits.

An entry names a DICOM attribute, by keyword or as eight hexadecimal digits, or something by one of our names.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag

from config.settings import Settings
from pacs_node import anatomy
from pacs_node.facts import text, words

OF_THE_CALLER = {
    "CallingAETitle": "AE title of whoever sent the object",
    "CalledAETitle": "AE title of ours that it was sent to",
    "CallingAddress": "IP address that it came from; a pattern may be a network, `192.0.2.0/24`",
    "Origin": "door that it came through: `dimse`, `stow`, `fetch` or `upload`",
}
OF_THE_IMAGE = {
    "Anatomy": "part of the body: `BodyPartExamined`, else the anatomic region, else the words of series, "
    "protocol, procedure and study: `CHEST`, `ABDOMEN`, `HAND`, ...",
    "View": "`FRONTAL`, `PA`, `AP`, `LATERAL`, `OBLIQUE`, `DECUBITUS`, `LORDOTIC`, `OTHER`: view position, "
    "else view code, else the words of series and protocol",
}
"""Names of ours that a rule may match on, beside DICOM keywords."""

_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_ITEM_TEXTS = ("CodeValue", "CodeMeaning")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An entry that did not fit: its name, what was wanted, and what the object has."""

    entry: str
    wanted: tuple[str, ...]
    found: tuple[str, ...]

    def __str__(self) -> str:
        wanted = " or ".join(_shown(pattern) for pattern in self.wanted)
        if is_about_patient(self.entry):
            return f"{self.entry} is not {wanted}"
        return f"{self.entry} is {', '.join(self.found) or 'missing or empty'}, not {wanted}"


def mismatch(
    match: Mapping[str, str | tuple[str, ...]], header: Dataset, caller: Mapping[str, str]
) -> Mismatch | None:
    """The first entry that does not fit `header` and what is known of the `caller`; None where all do."""
    for entry, patterns in match.items():
        wanted = (patterns,) if isinstance(patterns, str) else tuple(patterns)
        found = values_of(entry, header, caller)
        if not _fits(entry, wanted, found):
            return Mismatch(entry, wanted, tuple(found))
    return None


def by_caller(match: Mapping[str, str | tuple[str, ...]], caller: Mapping[str, str]) -> bool | None:
    """Whether the entries fit, as far as the caller alone can tell; None where the image has to."""
    known = {entry: patterns for entry, patterns in match.items() if entry in OF_THE_CALLER}
    if mismatch(known, Dataset(), caller) is not None:
        return False
    return True if len(known) == len(match) else None


def values_of(entry: str, header: Dataset, caller: Mapping[str, str]) -> list[str]:
    """What stands under the name of an entry, in capitals; of a sequence its items' codes and meanings."""
    if entry in OF_THE_CALLER:
        return [value for value in (caller.get(entry, "").strip().upper(),) if value]
    if entry == "Anatomy":
        return list(anatomy.regions(header))
    if entry == "View":
        return list(anatomy.views(header))
    if _TAG.fullmatch(entry):
        element = header.get(Tag(int(entry, 16)))
        value = "" if element is None else str(element.value)
        return [word.strip().upper() for word in value.split("\\") if word.strip()]
    if entry.endswith("Sequence"):
        items = header.get(entry)
        if not isinstance(items, Items):
            return []
        return [said for item in items for key in _ITEM_TEXTS if (said := text(item, key).upper())]
    return words(header, entry)


def problems(settings: Settings) -> Iterable[str]:
    """The entries of rules that can never match as they are written, each in a sentence."""
    for number, rule in enumerate(settings.rules):
        for entry, patterns in rule.match.items():
            where = f"rules.{number}.match.{entry}"
            if entry not in OF_THE_CALLER and entry not in OF_THE_IMAGE and not _is_attribute(entry):
                ours = ", ".join((*OF_THE_CALLER, *OF_THE_IMAGE))
                yield f"{where}: expected a DICOM keyword, eight hexadecimal digits of a tag, or {ours}"
            if entry == "CallingAddress":
                for pattern in (patterns,) if isinstance(patterns, str) else patterns:
                    if "/" in pattern and _network(pattern) is None:
                        yield f"{where}: expected a network such as 192.0.2.0/24, got {pattern!r}"


def is_about_patient(entry: str) -> bool:
    """Whether an entry's values must not be repeated in messages."""
    tag = int(entry, 16) if _TAG.fullmatch(entry) else tag_for_keyword(entry)
    return tag is not None and (tag >> 16 == 0x0010 or bool((tag >> 16) % 2))


def _fits(entry: str, wanted: Iterable[str], found: list[str]) -> bool:
    """One pattern has to fit one of the values; an empty pattern fits where there is none."""
    patterns = [pattern.strip().upper() for pattern in wanted]
    if not found:
        return "" in patterns
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
    if entry == "CallingAddress":
        networks = [net for pattern in patterns if (net := _network(pattern)) is not None]
    return any(
        pattern and fnmatchcase(value, pattern.replace("[", "[[]")) for pattern in patterns for value in found
    ) or any(_within(value, network) for network in networks for value in found)


def _network(pattern: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(pattern, strict=False)
    except ValueError:
        return None


def _within(value: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        address = ipaddress.ip_address(value.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)  # how a socket for both families shows an IPv4 caller
    return (mapped or address) in network


def _is_attribute(entry: str) -> bool:
    return bool(_TAG.fullmatch(entry)) or tag_for_keyword(entry) is not None


def _shown(pattern: str) -> str:
    return pattern if pattern.strip() else "missing or empty"
