"""Archives by DICOMweb: QIDO-RS to search (PS3.18 section 10.6), WADO-RS to retrieve (10.4)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

from config.network import Archive
from config.settings import DicomSettings
from pacs_node import header
from pacs_node.carrier import PeerError
from pacs_node.fetched import Basket
from pacs_node.multipart import MultipartError, Parts, boundary_of
from pacs_node.pull import (
    Broken,
    Found,
    Query,
    Refused,
    SeriesFound,
    StudyFound,
    of_modality,
)
from pacs_node.received import Received
from pacs_node.spool import Flood
from pacs_node.webclient import WebError, WebSession, spoken

ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
"""Objects as the archive has them."""

_CHUNK = 1 << 16
_TAGS = {
    "PatientName": "00100010",
    "PatientID": "00100020",
    "PatientBirthDate": "00100030",
    "AccessionNumber": "00080050",
    "StudyDate": "00080020",
    "StudyTime": "00080030",
    "StudyDescription": "00081030",
    "ModalitiesInStudy": "00080061",
    "NumberOfStudyRelatedInstances": "00201208",
    "PatientSex": "00100040",
    "IssuerOfPatientID": "00100021",
    "StudyID": "00200010",
    "ReferringPhysicianName": "00080090",
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "Modality": "00080060",
}


class WebSource:
    """One archive over one HTTP session."""

    def __init__(self, archive: Archive, dicom: DicomSettings) -> None:
        self.archive = archive
        self._stack = ExitStack()
        self._session = WebSession(archive, dicom)
        self._stack.callback(self._session.close)

    def __enter__(self) -> WebSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def search(self, query: Query, limit: int) -> Found:
        """See :class:`pacs_node.pull.Source`. A question for each modality: not all archives match lists."""
        found: dict[tuple[str, ...], StudyFound] = {}
        # some servers do not decode a quoted caret: a name is asked for with a wildcard in its place
        matches = {keyword: value.replace("^", "?") for keyword, value in query.matches.items()}
        for modality in query.modalities:
            filters = {**matches, "ModalitiesInStudy": modality} if modality else matches
            with self._spoken():
                answers = self._session.client().search_for_studies(
                    search_filters=filters, limit=limit + 1, fields=list(query.shown)
                )
            for answer in answers:
                study = StudyFound(_text(answer, "StudyInstanceUID"), _shown(answer, query.shown))
                if header.is_safe_uid(study.uid) and of_modality(study, query.modalities):
                    found.setdefault(study.key, study)
        studies = list(found.values())
        return Found(studies[:limit], more=len(studies) > limit)

    def series(self, study: str) -> list[SeriesFound] | None:
        """See :class:`pacs_node.pull.Source`."""
        try:
            with self._spoken():
                answers = self._session.client().search_for_series(study)
        except WebError as error:
            if error.status < 500 or error.status == 501:
                return None
            raise
        found = [
            SeriesFound(uid, _text(answer, "Modality"))
            for answer in answers
            if header.is_safe_uid(uid := _text(answer, "SeriesInstanceUID"))
        ]
        return found or None

    def retrieve(self, study: str, series: Sequence[str] | None, basket: Basket, message_id: int) -> int:
        """See :class:`pacs_node.pull.Source`."""
        paths = [f"studies/{study}"]
        if series is not None:
            paths = [f"studies/{study}/series/{uid}" for uid in series]
        return sum(self._get(path, basket) for path in paths)

    def _spoken(self) -> Any:
        return spoken(self._session.where)

    def _get(self, path: str, basket: Basket) -> int:
        """Retrieve one resource into the basket. Raises what :meth:`retrieve` raises."""
        reached = False
        try:
            with (
                self._spoken(),
                self._session.get(
                    f"{self._session.url}/{path}", headers={"Accept": ACCEPT}, stream=True
                ) as response,
            ):
                if response.status_code == 204:
                    return 0
                response.raise_for_status()
                reached = True
                return _put_all(
                    response.headers.get("Content-Type", ""), response.iter_content(_CHUNK), basket
                )
        except WebError as error:
            if error.status in (404, 410):
                raise Refused("the archive does not have the study any more") from error
            if error.status in (408, 425, 429) or error.status >= 500:
                raise Broken(str(error)) from error
            raise Refused(str(error)) from error
        except PeerError as error:
            if reached and not isinstance(error, Broken):
                raise Broken(str(error)) from error
            raise


def _put_all(content_type: str, chunks: Iterator[bytes], basket: Basket) -> int:
    """Put the objects of an answer away; how many there were."""
    try:
        boundary = boundary_of(content_type)
        if boundary is None:  # one object alone: against the standard, but it is done
            _put(chunks, basket)
            return 1
        sent = 0
        for body in Parts(chunks, boundary):
            _put(body, basket)
            sent += 1
        return sent
    except MultipartError as error:
        raise Broken(f"the archive: {error}") from error


def _put(body: Iterator[bytes], basket: Basket) -> None:
    """Put one file away. Its meta information is written anew, so that an object has the same bytes here
    whatever way it came."""
    beginning = bytearray()
    for piece in body:
        beginning += piece
        if len(beginning) >= header.PREFIX_BYTES:
            break
    if basket.given_up():
        raise Broken("the fetch was cancelled")
    try:
        part10 = header.read_part10(io.BytesIO(beginning))
    except header.HeaderError as error:
        basket.refused.append(str(error))
        for _ in body:
            pass
        return
    meta = header.part10_header(part10.sop_class_uid, part10.sop_instance_uid, part10.transfer_syntax_uid)
    incoming = basket.spool.begin(meta, basket.settings.dicom.max_object_bytes)
    try:
        incoming.write(bytes(beginning[part10.offset :]))
        for piece in body:
            incoming.write(piece)
            if basket.given_up():
                raise Broken("the fetch was cancelled")
    except Flood as error:
        raise Refused("the archive sends an object without end") from error
    except BaseException:
        incoming.discard()
        raise
    basket.put(
        Received(
            caller=basket.caller,
            context_id=0,
            message_id=0,
            abstract_syntax=part10.sop_class_uid,
            transfer_syntax_uid=part10.transfer_syntax_uid,
            sop_class_uid=part10.sop_class_uid,
            sop_instance_uid=part10.sop_instance_uid,
            incoming=incoming,
        )
    )


def _shown(answer: dict[str, Any], keywords: Sequence[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {keyword: _text(answer, keyword) for keyword in keywords}
    shown["ModalitiesInStudy"] = [str(value)[:16] for value in _values(answer, "ModalitiesInStudy")]
    return {keyword: value for keyword, value in shown.items() if value}


def _text(answer: dict[str, Any], keyword: str) -> str:
    for value in _values(answer, keyword):
        if isinstance(value, dict):  # a person's name: the first of its groups that is there
            groups = (value.get(name) for name in ("Alphabetic", "Ideographic", "Phonetic"))
            value = "=".join(str(group or "") for group in groups).rstrip("=")
        return str(value).strip()[:256]
    return ""


def _values(answer: dict[str, Any], keyword: str) -> list[Any]:
    element = answer.get(_TAGS[keyword]) if isinstance(answer, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []
