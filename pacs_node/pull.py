"""Searching archives and fetching from them: what is asked, what is found, whichever protocol carries it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol

from config.network import Archive
from config.settings import DicomSettings
from pacs_node import header
from pacs_node.carrier import PeerError
from pacs_node.fetched import Basket

MODALITIES = ("CR", "DX")
"""What is looked for when nobody names a modality."""

TERMS = {
    "patient": "PatientID",
    "name": "PatientName",
    "accession": "AccessionNumber",
    "date": "StudyDate",
    "modality": "ModalitiesInStudy",
    "study": "StudyInstanceUID",
}
"""What a search may name, and the attribute that is meant."""

SHOWN = (
    "PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate", "StudyTime",
    "StudyDescription", "ModalitiesInStudy", "NumberOfStudyRelatedInstances",
)  # fmt: skip
"""Attributes that archives are asked for: people choose by them."""

ANY_MODALITY = ("",)
"""Of a search that takes studies of whatever modality."""

_DATE = re.compile(r"(\d{8})?(-)?(\d{8})?")
_MODALITY = re.compile(r"[A-Z0-9_ ]{1,16}")
_UNSAFE = re.compile(r"[\\\x00-\x1f\x7f]")
_ONLY_WILDCARDS = re.compile(r"[*?^, ]*")


class QueryError(ValueError):
    """A search that cannot be asked; the message repeats nothing of what was searched for."""


class Refused(Exception):
    """The archive will not give the study, now or later; the message is for people."""


class Broken(PeerError):
    """The archive was reached, but the study did not come whole: another attempt may do better."""


@dataclass(frozen=True)
class Query:
    """A search for studies. matches: keywords to what their values must be; modalities: one of them; shown:
    keywords that the archive is asked for."""

    matches: Mapping[str, str] = field(default_factory=dict)
    modalities: tuple[str, ...] = MODALITIES
    shown: tuple[str, ...] = SHOWN


@dataclass(frozen=True)
class StudyFound:
    """A study of an archive; shown: keywords that were asked for to text, or a list of texts."""

    uid: str
    shown: dict[str, Any]

    @property
    def key(self) -> tuple[str, ...]:
        """Two answers with the same one are the same study of the same patient."""
        return self.uid, str(self.shown.get("PatientID", "")), str(self.shown.get("IssuerOfPatientID", ""))


@dataclass(frozen=True)
class SeriesFound:
    """A series of a study; modality: empty where the archive does not say."""

    uid: str
    modality: str


@dataclass(frozen=True)
class Found:
    """What a search found; `more`: there is more than was asked for."""

    studies: list[StudyFound]
    more: bool = False


class Source(Protocol):
    """An archive in its own protocol. Methods raise :class:`PeerError`, the last also :class:`Refused`."""

    def search(self, query: Query, limit: int) -> Found:
        """Studies that match, at most `limit`."""

    def series(self, study: str) -> list[SeriesFound] | None:
        """The series of a study; None where the archive cannot tell."""

    def retrieve(self, study: str, series: Sequence[str] | None, basket: Basket, message_id: int) -> int:
        """Fetch these series of a study, or all of it, into the basket; returns how many the archive sent.

        message_id: of a C-MOVE, by which the receiver knows what comes of it.
        """


def parse(terms: Mapping[str, str]) -> Query:
    """A search from its terms (names of :data:`TERMS`). Raises :class:`QueryError`."""
    matches: dict[str, str] = {}
    modalities: tuple[str, ...] = MODALITIES
    for name, value in terms.items():
        keyword, value = TERMS.get(name), value.strip()
        if keyword is None:
            raise QueryError(f"there is no search by that name; there are {', '.join(TERMS)}")
        if not value:
            continue
        if name == "modality":
            modalities = tuple(dict.fromkeys(part.strip().upper() for part in value.split(",")))
            if not all(_MODALITY.fullmatch(part) for part in modalities):
                raise QueryError("modality: expected codes like CR or CR,DX")
        else:
            matches[keyword] = _checked(name, value)
    if not any(not _ONLY_WILDCARDS.fullmatch(value) for value in matches.values()):
        raise QueryError("a search needs a patient, a name, an accession number, a date or a study")
    return Query(matches, modalities)


def _checked(name: str, value: str) -> str:
    if len(value) > 64 or _UNSAFE.search(value):
        raise QueryError(f"{name}: at most 64 characters, no backslash and no control character")
    if name == "study" and not header.is_safe_uid(value):
        raise QueryError("study: expected a Study Instance UID")
    if name == "date":
        return _dates(value)
    return value


def _dates(value: str) -> str:
    found = _DATE.fullmatch(value)
    days = [day for day in (found[1], found[3]) if day] if found else []
    try:
        for day in days:
            date(int(day[:4]), int(day[4:6]), int(day[6:]))
    except ValueError:
        days = []
    if not days or (len(days) == 2 and (not found or not found[2] or days[0] > days[1])):
        raise QueryError("date: expected YYYYMMDD, YYYYMMDD-YYYYMMDD, or one of them open at an end")
    return value


def wanted(series: Sequence[SeriesFound], modalities: Sequence[str]) -> list[str]:
    """UIDs of the series of those modalities, and of those that do not say theirs."""
    return [one.uid for one in series if not one.modality or one.modality.upper() in modalities]


def of_modality(study: StudyFound, modalities: Sequence[str]) -> bool:
    """Whether a study may hold one of these modalities: archives may ignore what they were asked."""
    said = study.shown.get("ModalitiesInStudy") or []
    values = {str(value).upper() for value in ([said] if isinstance(said, str) else said)}
    return not values or modalities == ANY_MODALITY or bool(values.intersection(modalities))


@contextmanager
def opened(archive: Archive, dicom: DicomSettings) -> Iterator[Source]:
    """An archive to work with; a connection is made by the first request. Raises :class:`PeerError`."""
    from pacs_node.pull_dimse import DimseSource
    from pacs_node.pull_web import WebSource

    make: Callable[[Archive, DicomSettings], AbstractContextManager[Source]] = (
        WebSource if archive.kind == "dicomweb" else DimseSource
    )
    with make(archive, dicom) as source:
        yield source
