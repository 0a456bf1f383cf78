"""Whether an archive has an instance already: asked by C-FIND, or by QIDO-RS, before an original is sent."""

from __future__ import annotations

from dataclasses import dataclass

from pydicom.dataset import Dataset
from pynetdicom.presentation import build_context

from config import Destination
from config.settings import DicomSettings
from pacs_node import codecs, scu, webclient
from pacs_node.carrier import PeerError

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_PENDING = (0xFF00, 0xFF01)


@dataclass(frozen=True, slots=True)
class Name:
    """An instance and what it is part of: a query at image level names all three (PS3.4 C.4.1.2.2)."""

    study: str
    series: str
    instance: str


class CannotTell(Exception):
    """The archive answers no such question; the message is for people."""


def has(destination: Destination, dicom: DicomSettings, name: Name) -> bool:
    """Whether the destination says that it has the instance.

    Raises :class:`CannotTell` where it answers no queries, :class:`pacs_node.carrier.PeerError` where it
    cannot be reached or does not answer.
    """
    ask = _by_web if destination.kind == "dicomweb" else _by_dimse
    return ask(destination, dicom, name)


def _by_dimse(destination: Destination, dicom: DicomSettings, name: Name) -> bool:
    context = build_context(
        STUDY_ROOT_FIND, [codecs.EXPLICIT_VR_LITTLE_ENDIAN, codecs.IMPLICIT_VR_LITTLE_ENDIAN]
    )
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID, query.SeriesInstanceUID = name.study, name.series
    query.SOPInstanceUID = name.instance
    try:
        with scu.association(destination, dicom, [context]) as assoc:
            found = False
            status: int | None = None
            for answer, identifier in assoc.send_c_find(query, STUDY_ROOT_FIND):
                status = answer.get("Status")
                if status in _PENDING and identifier is not None:
                    found = found or str(identifier.get("SOPInstanceUID") or "").strip("\0 ") == name.instance
    except scu.NotAccepted as error:
        raise CannotTell("it answers no queries") from error
    if status is None:
        raise PeerError(f"{destination.host}:{destination.port} did not answer a query")
    if status != 0:
        raise CannotTell(f"it answered a query with status {status:04X}")
    return found


def _by_web(destination: Destination, dicom: DicomSettings, name: Name) -> bool:
    try:
        with webclient.session(destination, dicom) as session, webclient.spoken(session.where):
            found = session.client().search_for_instances(
                name.study, name.series, search_filters={"SOPInstanceUID": name.instance}
            )
    except webclient.WebError as error:
        if error.status == 404:  # neither the study nor the series is there
            return False
        if 400 <= error.status < 500 or error.status == 501:
            raise CannotTell(f"it answered a query with {webclient.describe(error.status)}") from error
        raise
    return any(item.get("00080018", {}).get("Value") == [name.instance] for item in found)
