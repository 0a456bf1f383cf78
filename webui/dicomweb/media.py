"""What a client accepts, and which of our representations that is (PS3.18, 8.7)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flask import request

from webui.errors import ApiProblem

DICOM = "application/dicom"
JSON = "application/dicom+json"
OCTETS = "application/octet-stream"
MULTIPART = "multipart/related"

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_MAX_WISHES = 64
_PART = re.compile(r'\s*([^=;]+?)\s*=\s*("(?:[^"\\]|\\.)*"|[^;]*)\s*(?:;|$)')


@dataclass(frozen=True)
class Wish:
    """One element of an Accept header: a media type in lower case, its parameters, its quality 0 to 1."""

    media: str
    type: str | None = None
    transfer_syntax: str | None = None
    quality: float = 1.0


@dataclass(frozen=True)
class Offer:
    """One representation that we can make.

    syntaxes: transfer syntaxes that it satisfies; needs_syntax: it is given only to those who name one of
    them or `*`, as it is not the default of its media type.
    """

    media: str
    multipart: bool = True
    syntaxes: tuple[str, ...] = ()
    needs_syntax: bool = False

    def fits(self, wish: Wish) -> bool:
        """Whether this is what the wish asks for."""
        if not self._of_kind(wish):
            return False
        if wish.transfer_syntax is None:
            return not self.needs_syntax or "*" in wish.media or "*" in (wish.type or "")
        return wish.transfer_syntax == "*" or not self.syntaxes or wish.transfer_syntax in self.syntaxes

    def _of_kind(self, wish: Wish) -> bool:
        if wish.media == "*/*":
            return True
        if wish.media.startswith("multipart/"):
            return (
                self.multipart
                and wish.media in {MULTIPART, "multipart/*"}
                and (wish.type is None or _within(self.media, wish.type))
            )
        return not self.multipart and _within(self.media, wish.media)


def _within(media: str, pattern: str) -> bool:
    if pattern == "*/*":
        return True
    if pattern.endswith("/*"):
        return media.startswith(pattern[:-1])
    return media == pattern


def wishes() -> list[Wish]:
    """What the request accepts, best first: the query parameter `accept`, else the header (PS3.18, 8.3.3)."""
    given = request.args.getlist("accept") or request.headers.getlist("Accept")
    found = [wish for text in given for part in _split(text) if (wish := parse(part)) is not None]
    if not found and not any(text.strip() for text in given):
        return [Wish("*/*")]
    return sorted((wish for wish in found if wish.quality > 0), key=lambda wish: -wish.quality)


def parse(text: str) -> Wish | None:
    """One element of an Accept header; None when it is none. The `type` may stand without quotes."""
    media, _, rest = text.partition(";")
    media = media.strip().lower()
    if media == "*":
        media = "*/*"
    if media.count("/") != 1:
        return None
    parameters = {name.lower(): _unquote(value) for name, value in _PART.findall(rest)}
    try:
        quality = min(1.0, max(0.0, float(parameters.get("q", "1"))))
    except ValueError:
        return None
    kind = parameters.get("type")
    return Wish(media, kind.lower() if kind else None, parameters.get("transfer-syntax") or None, quality)


def choose(offers: Sequence[Offer], why: str = "") -> Offer:
    """The best offer for this request; among equals the first. Raises 406 when nothing fits."""
    for wish in wishes():
        for offer in offers:
            if offer.fits(wish):
                return offer
    made = ", ".join(dict.fromkeys(_describe(offer) for offer in offers))
    raise ApiProblem(why or f"This is handed out as {made}.", status=406, kind="not-acceptable")


def choose_json() -> str:
    """`application/dicom+json`, or `application/json` where that is what is asked for."""
    offers = (Offer(JSON, multipart=False), Offer("application/json", multipart=False))
    return choose(offers).media


def _describe(offer: Offer) -> str:
    text = f'{MULTIPART}; type="{offer.media}"' if offer.multipart else offer.media
    return f"{text}; transfer-syntax={offer.syntaxes[0]}" if offer.needs_syntax else text


def _split(text: str) -> Iterable[str]:
    """Elements of a list, parted by commas that stand outside of quotes."""
    parts = re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+', text)
    return [part for part in parts[:_MAX_WISHES] if part.strip()]


def _unquote(value: str) -> str:
    value = value.strip()
    return value[1:-1].replace('\\"', '"') if len(value) > 1 and value[0] == value[-1] == '"' else value
