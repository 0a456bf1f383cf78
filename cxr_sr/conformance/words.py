"""What several chapters say in the same words: UIDs with their names, SOP classes, yes and no."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.datadict import dictionary_description, tag_for_keyword
from pydicom.uid import UID

from pacs_node import codecs

AE = "CXR_SR"
"""What the statement calls our only application entity; the title is configured."""


def code(text: object) -> str:
    """In the letters of a program."""
    return f"`{text}`"


def sop_class(uid: str) -> tuple[str, str]:
    """Name and UID of a SOP class."""
    return UID(uid).name, code(uid)


def syntax(uid: str) -> str:
    """Name and UID of a transfer syntax, as our own table calls it."""
    return f"{codecs.CODECS[uid].name} {code(uid)}"


def syntaxes(uids: Iterable[str]) -> str:
    """Names and UIDs of transfer syntaxes, in the order given."""
    return "; ".join(syntax(uid) for uid in uids)


def attribute(keyword: str) -> tuple[str, str]:
    """Name and tag of an attribute."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return dictionary_description(tag), f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def yes(fact: bool) -> str:
    """Y or N, as PS3.2 writes it."""
    return "Y" if fact else "N"


def hexadecimal(first: int, last: int) -> str:
    """A status, or a range of them."""
    return f"0x{first:04X}" if first == last else f"0x{first:04X} to 0x{last:04X}"
