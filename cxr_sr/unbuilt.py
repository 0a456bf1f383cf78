"""Settings that have a name already but no code yet: a node that was asked for one does not start.

Ignoring them would be worse than refusing: a promise that somebody asked for would be taken as given.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cxr_sr.failure import Failure

if TYPE_CHECKING:
    from config import Settings


def asked_for(settings: Settings) -> Iterator[str]:
    """The keys that ask for what is not there, each with what to do."""
    if not settings.storage.url.startswith("file:"):
        yield "storage.url: only file:// is built yet"


def refuse(settings: Settings) -> None:
    """Raise :class:`Failure` with the first of :func:`asked_for`."""
    for sentence in asked_for(settings):
        raise Failure(sentence)
