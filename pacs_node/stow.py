"""Objects by STOW-RS (PS3.18 section 10.5), one a request, streamed from the store.

`dicomweb-client` would hold each object in memory three times (`store_instances` encodes a data set, joins
the parts, and slices the whole); the multipart body here is read from the file as the connection takes it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO
from xml.etree import ElementTree

import requests

from config import Destination
from config.network import Remote
from config.settings import DicomSettings
from pacs_node import statuses, transcode, webclient
from pacs_node.carrier import Parcel, PeerError, Receipt
from pacs_node.statuses import Verdict
from pacs_node.webclient import SignInError, WebSession, describe, spoken

_ALREADY_THERE = frozenset({0x0111, 45070})
"""FailureReasons of an object that the archive has: the standard's, and one of a large cloud PACS."""

_BEING_STORED = 45071
"""The same one's reason for an object that another request is storing at this moment."""

_REFERENCED_SOP, _FAILED_SOP, _OTHER_FAILURES = "00081199", "00081198", "0008119A"
_SOP_INSTANCE, _FAILURE_REASON, _WARNING_REASON = "00081155", "00081197", "00081196"
_MAX_COMMENT = 200
_LENGTHS = ("Content-Length", "Transfer-Encoding")


class StowCarrier:
    """Stores over one HTTP session for as long as the destination's settings stay the same."""

    def __init__(self, dicom: DicomSettings) -> None:
        self.dicom = dicom
        self._session: WebSession | None = None
        self._destination: Destination | None = None
        self._plain_alone = False
        """Whether the destination has refused a compressed object that it took uncompressed."""

    def carry(self, parcel: Parcel) -> Receipt:
        """See :class:`pacs_node.carrier.Carrier`."""
        smaller = None if self._plain_alone else transcode.as_wanted(parcel)
        if smaller is None:
            return self._carry(parcel)
        receipt = self._carry(replace(parcel, stream=transcode.whole_file(smaller)))
        if receipt.verdict is not Verdict.FAIL and receipt.code != 501:
            return receipt
        receipt = self._carry(parcel)
        self._plain_alone = receipt.verdict.arrived
        return receipt

    def _carry(self, parcel: Parcel) -> Receipt:
        try:
            session = self._open(parcel.destination)
            body = Multipart(parcel.stream)
            with spoken(session.where):
                response = session.post(f"{session.url}/studies", data=body, headers=body.headers)
        except SignInError as error:
            return Receipt(Verdict.ALERT, 401, str(error))
        except requests.exceptions.InvalidHeader as error:
            raise PeerError("the secret holds characters that cannot be sent") from error
        receipt = judge(response, parcel.part10.sop_instance_uid)
        if receipt is None:
            return self._looked_up(session, response.status_code, parcel.part10.sop_instance_uid)
        return receipt

    def close(self) -> None:
        """Close the session, if one is open."""
        if self._session is not None:
            self._session.close()
        self._session = None

    def _open(self, destination: Destination) -> WebSession:
        if self._session is None or self._destination != destination:
            self.close()
            self._session, self._destination = WebSession(destination, self.dicom), destination
        return self._session

    def _looked_up(self, session: WebSession, status: int, uid: str) -> Receipt:
        """What became of an object of which the answer says nothing: the archive is asked for it."""
        try:
            with spoken(session.where):
                found = session.client().search_for_instances(search_filters={"SOPInstanceUID": uid}, limit=1)
        except PeerError:
            found = None
        if found:
            return Receipt(Verdict.WARNING, status, f"{describe(status)}; the archive has it")
        if status == 409:
            return Receipt(Verdict.FAIL, status, f"{describe(status)}, without a reason")
        return Receipt(Verdict.RETRY, status, f"{describe(status)}, but not that it was stored")


class Multipart:
    """One DICOM file as the body of a request, read in pieces; `rewind` begins again.

    stream: the whole file, its position does not matter.
    """

    def __init__(self, stream: BinaryIO) -> None:
        boundary = uuid.uuid4().hex
        self.headers = {
            "Content-Type": f'multipart/related; type="application/dicom"; boundary="{boundary}"',
            "Accept": "application/dicom+json",
        }
        self._head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self._stream = stream
        self._size = stream.seek(0, 2)
        self._left = b""
        self._ended = False
        self.rewind()

    def __len__(self) -> int:
        return len(self._head) + self._size + len(self._tail)

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.read(1 << 16):
            yield piece

    def rewind(self) -> None:
        """Begin again: the object is to be sent once more."""
        self._stream.seek(0)
        self._left, self._ended = self._head, False

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, fewer at the seams; none at the end."""
        if size is None or size < 0:
            size = len(self)
        if not self._left:
            if piece := self._stream.read(size):
                return piece
            if self._ended:
                return b""
            self._left, self._ended = self._tail, True
        piece, self._left = self._left[:size], self._left[size:]
        return piece


@dataclass(frozen=True, slots=True)
class _Said:
    """What an answer says of one object. reason: of a failure or a warning."""

    stored: bool
    reason: int | None


def judge(response: requests.Response, uid: str) -> Receipt | None:
    """What an answer to a store request means for the object `uid`; None where it does not say.

    What it says of the object counts before the status of the request: a 200 may carry a failure, a 409 an
    object that was there before.
    """
    status = response.status_code
    answer = _read(response)
    said = _said(answer, uid)
    if said is not None and said.stored:
        if said.reason is None:
            return Receipt(Verdict.STORED, status, describe(status))
        return Receipt(Verdict.WARNING, status, f"{describe(status)}: {statuses.describe(said.reason)}")
    if said is not None:
        return _failed(status, said.reason)
    if status in (200, 201, 204) and not answer and _is_whole(response):
        return Receipt(Verdict.STORED, status, describe(status))
    if 200 <= status < 300 or status == 409:
        return None
    text = describe(status)
    if comment := _comment(answer):
        text = f"{text}: {comment}"
    return Receipt(verdict_of(status), status, text)


def _is_whole(response: requests.Response) -> bool:
    """Whether an answer without content says that it has none: one cut off in its headers does not."""
    return response.status_code == 204 or any(name in response.headers for name in _LENGTHS)


def verdict_of(status: int) -> Verdict:
    """What an HTTP status that is not success means for a delivery."""
    if status in (401, 403, 407):
        return Verdict.ALERT
    if status in (408, 425, 429) or status >= 500:
        return Verdict.RETRY
    return Verdict.FAIL


def _failed(status: int, reason: int | None) -> Receipt:
    """The receipt for an object that the answer names among the failed ones (PS3.18 Table 10.5.3-2)."""
    if reason is None:
        verdict = verdict_of(status) if status >= 400 else Verdict.FAIL
        return Receipt(verdict, status, f"{describe(status)}: refused without a reason")
    if reason in _ALREADY_THERE:
        return Receipt(Verdict.WARNING, status, f"{describe(status)}: it is there already")
    if reason == _BEING_STORED:
        return Receipt(Verdict.RETRY, status, f"{describe(status)}: it is being stored by another request")
    verdict = statuses.row(reason).verdict
    if verdict.arrived or reason == statuses.SUCCESS:
        verdict = Verdict.FAIL  # a warning's code, but it stands among the failures
    return Receipt(verdict, status, f"{describe(status)}: {statuses.describe(reason)}")


def _read(response: requests.Response) -> dict[str, Any]:
    """The answer as a data set in the DICOM JSON model; empty where it is none."""
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    try:
        if kind.endswith("xml"):
            text = response.content.decode("utf-8")
            if "<!" in text:  # entities could grow without limit; no answer needs a declaration
                return {}
            # as text, so that an encoding that the answer declares cannot turn other letters into "<!"
            return _from_xml(ElementTree.fromstring(text))  # noqa: S314 - no declarations
        answer = json.loads(response.content or b"{}")
    except (ValueError, ElementTree.ParseError, RecursionError):
        return {}
    if isinstance(answer, list):
        answer = answer[0] if len(answer) == 1 else {}
    return answer if isinstance(answer, dict) else {}


def _said(answer: Mapping[str, Any], uid: str) -> _Said | None:
    for key, stored, tag in (
        (_FAILED_SOP, False, _FAILURE_REASON),
        (_REFERENCED_SOP, True, _WARNING_REASON),
    ):
        for item in _values(answer, key):
            if isinstance(item, dict) and _values(item, _SOP_INSTANCE)[:1] == [uid]:
                return _Said(stored, _number(_values(item, tag)))
    others = [item for item in _values(answer, _OTHER_FAILURES) if isinstance(item, dict)]
    return _Said(False, _number(_values(others[0], _FAILURE_REASON))) if others else None


def _values(item: Mapping[str, Any], tag: str) -> list[Any]:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _number(values: list[Any]) -> int | None:
    try:
        return int(values[0]) & 0xFFFF if values else None
    except (TypeError, ValueError):
        return None


def _from_xml(element: ElementTree.Element) -> dict[str, Any]:
    """The Native DICOM Model (PS3.19 A.1) as the JSON model, values as text."""
    found: dict[str, Any] = {}
    for child in element:
        if _local(child) != "DicomAttribute":
            continue
        values: list[Any] = [
            _from_xml(part) if _local(part) == "Item" else (part.text or "").strip()
            for part in child
            if _local(part) in ("Item", "Value")
        ]
        found[child.get("tag", "").upper()] = {"Value": values}
    return found


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _comment(answer: Mapping[str, Any]) -> str:
    """What an error's JSON says to people, in one short line."""
    for key in ("detail", "Details", "message", "Message", "title"):
        said = answer.get(key)
        if isinstance(said, str) and said.strip():
            return " ".join(said.split())[:_MAX_COMMENT]
    return ""


def ping(remote: Remote, dicom: DicomSettings) -> None:
    """Ask for one study: the cheapest request that shows that the service is there and lets us in.

    Raises :class:`pacs_node.carrier.PeerError` with a sentence.
    """
    with webclient.session(remote, dicom) as session, spoken(session.where):
        session.client().search_for_studies(limit=1, fields=["StudyInstanceUID"])
