"""N-ACTION and N-EVENT-REPORT on associations that others open: requests in memory, answers, our reports.

Only the command and its data set are of interest here; what they mean is the service's part.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT
from pynetdicom.dsutils import decode, encode

from pacs_node import codecs, header
from pacs_node.commandset import N_ACTION_RQ, Command
from pacs_node.outline import Stored, walk
from pacs_node.received import Answer, Caller
from pacs_node.spool import Flood

MAX_DATA_BYTES = 2 << 20
"""Largest data set of such a request: room for ten thousand references and more."""
MAX_ELEMENTS = 60_000
"""Elements and items in it: a reference takes five where lengths are not stated."""


class Note:
    """A data set that is kept in memory while it comes. Raises :class:`pacs_node.spool.Flood` beyond its
    limit."""

    def __init__(self, limit: int = MAX_DATA_BYTES) -> None:
        self.limit = limit
        self.data = bytearray()

    def write(self, fragment: bytes) -> None:
        """Add what has come."""
        if len(self.data) + len(fragment) > self.limit:
            raise Flood
        self.data += fragment

    def discard(self) -> None:
        """Forget everything."""
        self.data = bytearray()


@dataclass
class Request:
    """An N-ACTION or N-EVENT-REPORT request as it came; UIDs are the peer's own words, unchecked."""

    caller: Caller
    context_id: int
    abstract_syntax: str
    transfer_syntax_uid: str
    command: Command
    incoming: Note = field(default_factory=Note)

    @property
    def is_action(self) -> bool:
        """Whether it is an N-ACTION, not an N-EVENT-REPORT."""
        return self.command.field == N_ACTION_RQ

    def data_set(self) -> Dataset:
        """The data set, decoded. Raises whatever a decoder raises for bytes that are none, or too much."""
        implicit = self.transfer_syntax_uid == codecs.IMPLICIT_VR_LITTLE_ENDIAN
        source = Stored(io.BytesIO(self.incoming.data))
        walk(source, explicit=not implicit, deep=True, max_elements=MAX_ELEMENTS)
        return decode(io.BytesIO(bytes(self.incoming.data)), implicit, True)


@dataclass
class Report:
    """An N-EVENT-REPORT that we send on a caller's association; `then` is told the status, None without."""

    sop_class_uid: str
    sop_instance_uid: str
    event_type: int
    data_set: Dataset
    then: Callable[[int | None], None]
    told: bool = False

    def tell(self, status: int | None) -> None:
        """Say what came of it."""
        self.told = True
        self.then(status)


def response(request: Request, answer: Answer) -> N_ACTION | N_EVENT_REPORT:
    """The answer to a request as the library sends it."""
    command = request.command
    rsp = N_ACTION() if request.is_action else N_EVENT_REPORT()
    rsp.MessageIDBeingRespondedTo = command.message_id
    if header.is_safe_uid(command.sop_class_uid):
        rsp.AffectedSOPClassUID = command.sop_class_uid
    if header.is_safe_uid(command.sop_instance_uid):
        rsp.AffectedSOPInstanceUID = command.sop_instance_uid
    if isinstance(rsp, N_ACTION):
        rsp.ActionTypeID = command.type_id
    else:
        rsp.EventTypeID = command.type_id
    rsp.Status = answer.status
    if answer.comment:
        rsp.ErrorComment = answer.comment[:64]  # type: ignore[assignment]
    return rsp


def event(report: Report, message_id: int, transfer_syntax_uid: str) -> N_EVENT_REPORT:
    """A report as the library sends it."""
    req = N_EVENT_REPORT()
    req.MessageID = message_id
    req.AffectedSOPClassUID = report.sop_class_uid
    req.AffectedSOPInstanceUID = report.sop_instance_uid
    req.EventTypeID = report.event_type
    implicit = transfer_syntax_uid == codecs.IMPLICIT_VR_LITTLE_ENDIAN
    req.EventInformation = io.BytesIO(encode(report.data_set, implicit, True) or b"")
    return req


class Reports:
    """Reports on one association that a caller opened: put in from any thread, sent by its own."""

    def __init__(self, assoc: Association) -> None:
        self.assoc = assoc
        self._closed = False
        self._lock = threading.Lock()
        self._waiting: list[Report] = []
        self._sent: dict[int, Report] = {}

    def put(self, report: Report) -> None:
        """Have a report sent; its `then` is called in any case, once."""
        with self._lock:
            if not self._closed:
                self._waiting.append(report)
                return
        report.tell(None)

    def send(self) -> None:
        """Send what waits; the association's own thread calls this between two requests."""
        if not self._waiting:
            return
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for report in waiting:
            cx = next(
                (c for c in self.assoc.accepted_contexts if c.abstract_syntax == report.sop_class_uid), None
            )
            if cx is None or cx.context_id is None or not self.assoc.is_established:
                report.tell(None)
                continue
            message_id = len(self._sent) % 65535 + 1
            self._sent[message_id] = report
            self.assoc.dimse.send_msg(event(report, message_id, str(cx.transfer_syntax[0])), cx.context_id)

    def answered(self, command: Command) -> bool:
        """Take the answer to a report; whether it was ours."""
        report = self._sent.get(command.message_id)
        if report is None or report.told:
            return False
        report.tell(command.status)
        return True

    def close(self) -> None:
        """The association has ended: whoever waits for an answer is told that none will come."""
        with self._lock:
            self._closed = True
        for report in [*self._waiting, *self._sent.values()]:
            if not report.told:
                report.tell(None)
