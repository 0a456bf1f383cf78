"""Whose image an uploaded picture is: as a form said, or as an archive said when a person picked it there.

A PNG, JPEG or TIFF names no patient, and typed names are no identity. So what is made of such an upload goes
to an archive only after its patient and study were picked from that archive: :func:`check` says so wherever
a delivery is made (`db.deliveries.add`) and once more where it is sent (`pacs_node.consignment`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from db.models import Source

PICKED = "picked"
"""Key of `Source.demographics`: `archive` (how it is reached), `study` (DICOM keywords, as it answered)."""

REPLACES = "replaces"
"""Key of `Job.requested`: the job whose result is taken back once this one has its own."""

_SAYS_WHO = ("name", "kind", "ae_title", "host", "port", "url")


class NotPicked(Exception):
    """What is made of a picture was to go where its patient and study were not picked. Says so to people."""

    def __init__(self) -> None:
        super().__init__(
            "An image that was not uploaded as DICOM goes to an archive only after its patient and study "
            "were picked from that archive."
        )


def is_picture(source: Source) -> bool:
    """Whether it was uploaded as something else than DICOM."""
    return source.media_type.startswith("image/")


def picked(source: Source) -> dict[str, Any] | None:
    """What was picked for a picture, `archive` and `study`; None where nothing was."""
    found = (source.demographics or {}).get(PICKED)
    return found if isinstance(found, dict) else None


def may_go(source: Source, destination: Mapping[str, Any]) -> bool:
    """Whether what is made of `source` may go to a destination, told by its settings."""
    if not is_picture(source):
        return True
    found = picked(source)
    return found is not None and same_system(found.get("archive") or {}, destination)


def check(source: Source, destination: Mapping[str, Any]) -> None:
    """Raise :class:`NotPicked` unless what is made of `source` may go to that destination."""
    if not may_go(source, destination):
        raise NotPicked


def same_system(archive: Mapping[str, Any], destination: Mapping[str, Any]) -> bool:
    """Whether an entry of `archives` and one of `destinations` are one system, by their settings.

    They are when they have the same name (one that is asked by another protocol or title than it is sent to
    is told so), the same AE title, host and port, or the same URL.
    """
    if archive.get("name") and archive.get("name") == destination.get("name"):
        return True
    kinds = {archive.get("kind"), destination.get("kind")}
    if kinds == {"dicomweb"}:
        return bool(archive.get("url")) and _url(archive) == _url(destination)
    return kinds == {"dimse"} and bool(archive.get("ae_title")) and _peer(archive) == _peer(destination)


def pick(demographics: Mapping[str, Any] | None, archive: Mapping[str, Any], study: Mapping[str, str]) -> Any:
    """The demographics of a picture whose patient and study were picked: what was typed stays beside it."""
    typed = {key: value for key, value in (demographics or {}).items() if key != PICKED}
    where = {key: archive[key] for key in _SAYS_WHO if archive.get(key)}
    return {**typed, PICKED: {"archive": where, "study": dict(study)}}


def _url(settings: Mapping[str, Any]) -> str:
    return str(settings.get("url") or "").rstrip("/").lower()


def _peer(settings: Mapping[str, Any]) -> tuple[str, str, int]:
    host = str(settings.get("host") or "").strip().lower()
    return str(settings.get("ae_title") or "").strip(), host, int(settings.get("port") or 0)
