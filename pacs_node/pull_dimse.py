"""Archives by DIMSE: C-FIND, then C-GET or C-MOVE in the Study Root information model (PS3.4 Annex C)."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import build_role
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from config.network import Archive
from config.settings import DicomSettings
from pacs_node import codecs, header
from pacs_node.acceptor import MAX_COMMAND_BYTES, MAX_UNANSWERED
from pacs_node.carrier import PeerError
from pacs_node.commandset import C_STORE_RQ, CommandError, parse
from pacs_node.fetched import Basket
from pacs_node.pull import (
    Broken,
    Found,
    Query,
    Refused,
    SeriesFound,
    StudyFound,
    of_modality,
)
from pacs_node.received import Received, response_to
from pacs_node.receiver import SOP_CLASSES
from pacs_node.scu import association, hang_up
from pacs_node.spool import Flood

FIND = StudyRootQueryRetrieveInformationModelFind
GET = StudyRootQueryRetrieveInformationModelGet
MOVE = StudyRootQueryRetrieveInformationModelMove

_UNCOMPRESSED = [codecs.EXPLICIT_VR_LITTLE_ENDIAN, codecs.IMPLICIT_VR_LITTLE_ENDIAN]
_PENDING = (0xFF00, 0xFF01)
_CANCELLED = 0xFE00
_FIND_ID = 1
_MAX_ANSWER_BYTES = 1 << 20
_MOVE_SILENCE = 600.0
"""Seconds without a response after which a C-MOVE counts as broken: archives need not report on the way."""


class _Unanswered(PeerError):
    """The archive ended a search with a failure."""


class DimseSource:
    """One archive; associations are opened as they are needed and closed at the end."""

    def __init__(self, archive: Archive, dicom: DicomSettings) -> None:
        self.archive, self.dicom = archive, dicom
        self._stack = ExitStack()
        self._finding: Association | None = None

    def __enter__(self) -> DimseSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._finding = None
        self._stack.close()

    def search(self, query: Query, limit: int) -> Found:
        """See :class:`pacs_node.pull.Source`. A question for each modality: not all archives match lists."""
        found: dict[tuple[str, ...], StudyFound] = {}
        for modality in query.modalities:
            asked = _identifier("STUDY", StudyInstanceUID="", **dict.fromkeys(query.shown, ""))
            for keyword, value in query.matches.items():
                setattr(asked, keyword, value)
            asked.ModalitiesInStudy = modality
            for answer in self._find_in_unicode(asked, limit + 1):
                study = StudyFound(_text(answer, "StudyInstanceUID"), _shown(answer, query.shown))
                if header.is_safe_uid(study.uid) and of_modality(study, query.modalities):
                    found.setdefault(study.key, study)
        studies = list(found.values())
        return Found(studies[:limit], more=len(studies) > limit)

    def series(self, study: str) -> list[SeriesFound] | None:
        """See :class:`pacs_node.pull.Source`."""
        asked = _identifier("SERIES", StudyInstanceUID=study, SeriesInstanceUID="", Modality="")
        try:
            answers = list(self._find(asked, 10_000))
        except _Unanswered:
            return None
        found = [
            SeriesFound(uid, _text(answer, "Modality"))
            for answer in answers
            if header.is_safe_uid(uid := _text(answer, "SeriesInstanceUID"))
        ]
        return found or None

    def instances(self, study: str, series: Sequence[str] | None) -> list[str]:
        """SOP Instance UIDs of a study or of some series of it."""
        uids: list[str] = []
        for one in series if series is not None else [""]:
            asked = _identifier("IMAGE", StudyInstanceUID=study, SeriesInstanceUID=one, SOPInstanceUID="")
            uids += [_text(answer, "SOPInstanceUID") for answer in self._find(asked, 100_000)]
        return uids

    def retrieve(self, study: str, series: Sequence[str] | None, basket: Basket, message_id: int) -> int:
        """See :class:`pacs_node.pull.Source`."""
        model = GET if self.archive.retrieve == "get" else MOVE
        contexts = [build_context(uid, _UNCOMPRESSED) for uid in (FIND, model)]  # dcmtk wants both
        roles = []
        if model == GET:
            contexts += _storage_contexts()
            roles = [build_role(uid, scp_role=True) for uid in SOP_CLASSES]
        with association(self.archive, self.dicom, contexts, roles) as assoc:
            _accepted(assoc, model, self.archive)
            sent = 0
            for identifier in _levels(study, series):
                if model == GET:
                    with _storing(assoc, basket):
                        sent += _last(assoc.send_c_get(identifier, GET), basket)
                else:
                    assoc.dimse_timeout = max(self.dicom.dimse_timeout, _MOVE_SILENCE)
                    moved = assoc.send_c_move(identifier, basket.settings.dicom.ae_title, MOVE, message_id)
                    sent += _last(moved, basket)
            return sent

    def _find_in_unicode(self, asked: Dataset, limit: int) -> list[Dataset]:
        """Matches of a C-FIND that asks for names in Unicode: archives answer in the character set of the
        question, some of them with holes. One that knows no Unicode is asked without."""
        ascii_alone = all(str(element.value).isascii() for element in asked)
        asked.SpecificCharacterSet = "ISO_IR 192"
        try:
            return list(self._find(asked, limit))
        except _Unanswered:
            if not ascii_alone:
                raise
        del asked.SpecificCharacterSet
        return list(self._find(asked, limit))

    def _find(self, asked: Dataset, limit: int) -> Iterator[Dataset]:
        """Matches of a C-FIND, at most `limit`; then it is cancelled."""
        assoc = self._associated()
        count = 0
        for status, answer in assoc.send_c_find(asked, FIND, _FIND_ID):
            code = status.get("Status")
            if code is None:
                raise PeerError("the archive did not answer the search")
            if code in _PENDING:
                if answer is not None and count < limit:
                    count += 1
                    yield answer
                    if count == limit:
                        assoc.send_c_cancel(_FIND_ID, query_model=FIND)
            elif code not in (0x0000, _CANCELLED):
                raise _Unanswered(f"the archive refused the search with 0x{code:04X}{_comment(status)}")

    def _associated(self) -> Association:
        if self._finding is None or not self._finding.is_established:
            self._stack.close()
            contexts = [build_context(FIND, _UNCOMPRESSED)]
            self._finding = self._stack.enter_context(association(self.archive, self.dicom, contexts))
        return self._finding


def _identifier(level: str, **attributes: str) -> Dataset:
    ds = Dataset()
    ds.QueryRetrieveLevel = level
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


def _levels(study: str, series: Sequence[str] | None) -> Iterator[Dataset]:
    """What to retrieve: the study, or one series after another."""
    if series is None:
        yield _identifier("STUDY", StudyInstanceUID=study)
        return
    for uid in series:
        yield _identifier("SERIES", StudyInstanceUID=study, SeriesInstanceUID=uid)


def _storage_contexts() -> list[PresentationContext]:
    """A context for each SOP class and transfer syntax, so that the archive can send each as it has it."""
    return [build_context(uid, syntax) for uid in SOP_CLASSES for syntax in codecs.decodable()]


def _accepted(assoc: Association, model: str, archive: Archive) -> None:
    if not any(cx.abstract_syntax == model for cx in assoc.accepted_contexts):
        raise Refused(f"{archive.name} does not offer C-{archive.retrieve.upper()}")


def _last(answers: Iterator[tuple[Dataset, Dataset | None]], basket: Basket) -> int:
    """Follow a retrieval to its end; how many objects the archive says it sent.

    Raises :class:`Broken`, :class:`Refused`.
    """
    status = Dataset()
    for status, _ in answers:
        if status.get("Status") in _PENDING and basket.given_up():
            raise Broken("the fetch was cancelled")
    code = status.get("Status")
    if code is None:
        raise Broken("the archive ended the association in the middle")
    sent = int(status.get("NumberOfCompletedSuboperations") or 0)
    sent += int(status.get("NumberOfWarningSuboperations") or 0)
    failed = int(status.get("NumberOfFailedSuboperations") or 0)
    if code == 0x0000 and not failed:
        return sent
    if code == 0xA801:
        raise Refused("the archive does not know us as a destination of C-MOVE: enter our AE title there")
    if code in (0x0122, 0xA900, 0x0124):
        raise Refused(f"the archive refused the retrieval with 0x{code:04X}{_comment(status)}")
    if failed or code == 0xB000:
        total = sent + failed
        raise Broken(f"the archive could not send {failed} of {total} objects{_comment(status)}")
    raise Broken(f"the archive ended the retrieval with 0x{code:04X}{_comment(status)}")


def _comment(status: Dataset) -> str:
    comment = str(status.get("ErrorComment") or "").strip()
    return f": {comment[:64]}" if comment else ""


def _shown(answer: Dataset, keywords: Sequence[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {keyword: _text(answer, keyword) for keyword in keywords}
    modalities = _text(answer, "ModalitiesInStudy")
    shown["ModalitiesInStudy"] = [part for part in modalities.split("\\") if part]
    return {keyword: value for keyword, value in shown.items() if value}


def _text(answer: Dataset, keyword: str) -> str:
    """A value as text, several joined by backslashes; what cannot be read is empty."""
    try:
        value = answer.get(keyword)
        if value is None:
            return ""
        many = value if isinstance(value, list | tuple) or hasattr(value, "append") else [value]
        return "\\".join(str(one).strip() for one in many if one is not None)[:256]
    except Exception:  # noqa: BLE001 - a value that does not fit its VR is no reason to lose the others
        return ""


@contextmanager
def _storing(assoc: Association, basket: Basket) -> Iterator[None]:
    """While the block runs, objects that come over the association go to the basket, through files."""
    before, storing = assoc.dimse, _Storing(assoc, basket)
    assoc.dimse = storing
    try:
        yield
    except BaseException:
        hang_up(assoc)
        raise
    finally:
        storing.discard()
        assoc.dimse = before


class _Storing(DIMSEServiceProvider):
    """Writes the data sets of C-STORE requests to files, and hands everything else to the library."""

    def __init__(self, assoc: Association, basket: Basket) -> None:
        super().__init__(assoc)
        self.basket = basket
        self._command = bytearray()
        self._receiving: Received | None = None
        self._answer_bytes = 0
        self.trouble: str | None = None
        """Why the association was aborted by us."""

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take a P-DATA of the archive. What makes no sense aborts the association (Evt19)."""
        try:
            for context_id, fragment in primitive.presentation_data_value_list:
                self._take(context_id, fragment)
        except CommandError as error:
            self._abort(f"the archive sent {error}")
        except Flood:
            largest = self.basket.settings.dicom.max_object_bytes
            self._abort(f"the archive sends an object of far more than {largest} bytes")

    def _abort(self, why: str) -> None:
        """End the association, and wake whoever waits for a message of it."""
        self.trouble = why
        self.discard()
        self.dul.event_queue.put("Evt19")
        self.msg_queue.put((None, None))

    def get_msg(self, block: bool = False) -> Any:
        """The next message that is no C-STORE request; those are answered here.

        Raises :class:`Broken`, :class:`Refused`. The association's own thread, which never blocks, gets none:
        it asks when the retrieval has ended.
        """
        if not block:
            return None, None
        while True:
            context_id, message = super().get_msg(block=True)
            if self.trouble:  # the library would abort once more, which ends its thread with a traceback
                raise Refused(self.trouble)
            item: Any = message
            if not isinstance(item, Received):
                return context_id, message
            self._store(item)

    def discard(self) -> None:
        """Remove the files of objects that nobody has taken."""
        if self._receiving is not None:
            self._receiving.incoming.discard()
            self._receiving = None
        while True:
            try:
                item: Any = self.msg_queue.get_nowait()[1]
            except queue.Empty:
                return
            if isinstance(item, Received):
                item.incoming.discard()

    def _store(self, received: Received) -> None:
        answer = self.basket.put(received)
        if self.basket.given_up():
            raise Broken("the fetch was cancelled")
        rsp = response_to(received, answer)
        self.send_msg(rsp, received.context_id)

    def _take(self, context_id: int, fragment: bytes) -> None:
        if not fragment:
            raise CommandError("a fragment without its control header")
        if fragment[0] & 1:
            self._command += fragment[1:]
            if self._receiving is not None or len(self._command) > MAX_COMMAND_BYTES:
                raise CommandError("a command where none belongs, or one without end")
            if fragment[0] & 2:
                encoded, self._command = bytes(self._command), bytearray()
                self._begin(context_id, encoded)
        elif self._receiving is None:
            self._answer_bytes += len(fragment)
            if self._answer_bytes > _MAX_ANSWER_BYTES:
                raise CommandError("a response without end")
            self._pass_on(context_id, fragment)
        else:
            self._receiving.incoming.write(fragment[1:])
            if fragment[0] & 2:
                received, self._receiving = self._receiving, None
                self.msg_queue.put((context_id, received))  # type: ignore[arg-type]

    def _begin(self, context_id: int, encoded: bytes) -> None:
        command = parse(encoded)
        self._answer_bytes = 0
        if command.field != C_STORE_RQ:
            self._pass_on(context_id, b"\x03" + encoded)
            return
        cx = self.assoc._accepted_cx.get(context_id)
        if cx is None or not command.has_data_set or self.msg_queue.qsize() >= MAX_UNANSWERED:
            raise CommandError("an object that nobody asked for")
        abstract, syntax = str(cx.abstract_syntax), str(cx.transfer_syntax[0])
        name = command.sop_instance_uid if header.is_safe_uid(command.sop_instance_uid) else "0"
        self._receiving = Received(
            caller=self.basket.caller,
            context_id=context_id,
            message_id=command.message_id,
            abstract_syntax=abstract,
            transfer_syntax_uid=syntax,
            sop_class_uid=command.sop_class_uid,
            sop_instance_uid=command.sop_instance_uid,
            incoming=self.basket.spool.begin(
                header.part10_header(abstract, name, syntax), self.basket.settings.dicom.max_object_bytes
            ),
        )

    def _pass_on(self, context_id: int, fragment: bytes) -> None:
        whole = P_DATA()
        whole.presentation_data_value_list.append((context_id, fragment))
        super().receive_primitive(whole)
