"""Asking archives to promise that they keep what they stored, and hearing their answers.

A question goes out on an association of its own. The answer may come on that one, or later on one that the
archive opens to our receiver: both write it to the database, and both always answer the archive.
"""

from __future__ import annotations

import io
import queue
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import groupby
from typing import Any

import structlog
from pydantic import ValidationError
from pydicom.dataset import Dataset
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT
from pynetdicom.dsutils import decode, encode
from sqlalchemy.exc import SQLAlchemyError

from config import Destination, Settings
from config.settings import DicomSettings
from db import Database, commitments
from db.exchange import Commitment
from pacs_node import codecs, commitment, scu, statuses
from pacs_node.echo import EchoResult
from pacs_node.received import Answer

log = structlog.get_logger(__name__)

LINGER_SECONDS = 2.0
"""How long an association stays open for archives that answer on it."""
_CLAIM_SECONDS = 300.0


def take_report(database: Database, settings: Settings, ds: Dataset, *, caller: str) -> Answer:
    """Write down an archive's answer (an N-EVENT-REPORT), whoever brought it: the transaction's name, which
    only the archive knows, says what it is about."""
    try:
        transaction, answers = commitment.read_event(ds)
    except commitment.Unusable as error:
        return Answer(statuses.INVALID_ARGUMENT, str(error))
    pause = timedelta(seconds=settings.queue.retry_max_seconds)
    try:
        with database.write() as session:
            known = commitments.answered(session, transaction, answers, pause=pause, actor=f"peer {caller}")
    except SQLAlchemyError as error:
        log.error("commitment.database", error=type(error).__name__)
        return Answer(statuses.RESOURCE_LIMITATION, "the database does not answer")
    refused = sum(answer is not None for answer in answers.values())
    say = log.info if known and not refused else log.warning
    say("commitment.answered", transaction=transaction, caller=caller, known=known, refused=refused)
    return Answer(statuses.SUCCESS) if known else Answer(statuses.INVALID_ARGUMENT, "unknown transaction")


def offers(destination: Destination, dicom: DicomSettings) -> EchoResult:
    """Whether a destination accepts the service; nothing is asked. Never raises for what the peer does."""
    began = time.monotonic()
    try:
        with scu.association(destination, dicom, [commitment.context()]):
            pass
    except scu.NotAccepted:
        return EchoResult(False, time.monotonic() - began, "the destination offers no storage commitment")
    except scu.PeerError as error:
        return EchoResult(False, time.monotonic() - began, str(error))
    return EchoResult(True, time.monotonic() - began, f"{destination.ae_title} offers storage commitment")


class Asker:
    """Puts the open questions about one destination's deliveries to it."""

    def __init__(self, settings: Settings, database: Database, name: str, owner: str) -> None:
        self.settings, self.database, self.name, self.owner = settings, database, name, owner

    def run(self) -> None:
        """Ask all that is due, once. Never raises for what the peer does."""
        with self.database.write() as session:
            claimed = commitments.claim(session, self.name, _CLAIM_SECONDS)
            asked = [(row, dict(row.delivery.destination)) for row in claimed]
        for settings, group in groupby(asked, key=lambda pair: pair[1]):
            rows = [row for row, _ in group]
            try:
                self._ask_all(Destination.stored(settings), rows)
            except ValidationError:
                self._give_up(rows, "the destination's settings are not valid")

    def _ask_all(self, destination: Destination, rows: list[Commitment]) -> None:
        left = {row.id: row for row in rows}
        why = "the association ended"
        try:
            with (
                scu.association(destination, self.settings.dicom, [commitment.context()]) as assoc,
                scu.paused(assoc),
            ):
                self._converse(Conversation(assoc, self._report), left)
        except scu.NotAccepted:
            self._give_up(left.values(), "the destination offers no storage commitment")
            return
        except scu.PeerError as error:
            why = str(error)
        for row in left.values():
            self._later(row, why)

    def _converse(self, talk: Conversation, left: dict[int, Commitment]) -> None:
        """Ask one after another; what the archive has taken, or will never take, leaves `left`.

        Raises `scu.Interrupted`.
        """
        taken = 0
        for message_id, row in enumerate(list(left.values()), 1):
            status, comment = talk.ask(row, message_id, self.settings.dicom.dimse_timeout)
            log.info(
                "commitment.asked", destination=self.name, delivery=row.delivery_id, status=f"{status:04X}"
            )
            del left[row.id]
            verdict = statuses.row(status).verdict
            if verdict.arrived:
                taken += 1
                with self.database.write() as session:
                    commitments.asked(session, row.id)
            elif verdict is statuses.Verdict.RETRY:
                self._later(row, statuses.describe(status, comment))
            else:
                self._give_up([row], statuses.describe(status, comment))
        talk.listen(taken, LINGER_SECONDS)

    def _report(self, ds: Dataset) -> Answer:
        return take_report(self.database, self.settings, ds, caller=self.name)

    def _later(self, row: Commitment, why: str) -> None:
        log.warning("commitment.postponed", destination=self.name, delivery=row.delivery_id, why=why)
        waits = self.settings.queue
        with self.database.write() as session:
            commitments.ask_later(
                session, row.id, why, base=waits.retry_base_seconds, longest=waits.retry_max_seconds
            )

    def _give_up(self, rows: Iterable[Commitment], why: str) -> None:
        for row in rows:
            log.error("commitment.impossible", destination=self.name, delivery=row.delivery_id, why=why)
            with self.database.write() as session:
                commitments.give_up(session, row.id, why, actor=self.owner)


class Conversation:
    """A paused association on which we ask, and on which the archive may answer: one thread reads it all.

    The library would serve reports in threads of their own, and the association could end before they have
    answered.
    """

    def __init__(self, assoc: Association, report: Callable[[Dataset], Answer]) -> None:
        self.assoc, self.report = assoc, report
        self.reports = 0
        inbox: Any = assoc.dimse.msg_queue
        assoc._serve_request = lambda msg, context_id: inbox.put((context_id, msg))  # type: ignore[method-assign]
        cx = assoc.accepted_contexts[0]
        self.context_id = int(cx.context_id or 0)
        self.implicit = str(cx.transfer_syntax[0]) == codecs.IMPLICIT_VR_LITTLE_ENDIAN

    def ask(self, row: Commitment, message_id: int, timeout: float) -> tuple[int, str | None]:
        """Send one question; status and comment of the response. Raises `scu.Interrupted`."""
        req = N_ACTION()
        req.MessageID = message_id
        req.RequestedSOPClassUID, req.RequestedSOPInstanceUID = commitment.SOP_CLASS, commitment.SOP_INSTANCE
        req.ActionTypeID = commitment.REQUEST
        ds = commitment.action_information(row.transaction_uid, [(row.sop_class_uid, row.sop_instance_uid)])
        req.ActionInformation = io.BytesIO(encode(ds, self.implicit, True) or b"")
        self.assoc.dimse.send_msg(req, self.context_id)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            rsp = self._next(deadline)
            if rsp is None:
                continue
            if not isinstance(rsp, N_ACTION) or rsp.MessageIDBeingRespondedTo != message_id:
                raise scu.Interrupted("an answer to something else")
            comment = str(rsp.ErrorComment).strip() if rsp.ErrorComment else None
            return int(rsp.Status or 0), comment
        raise scu.Interrupted(f"no answer to the N-ACTION within {timeout:g} s")

    def listen(self, wanted: int, seconds: float) -> None:
        """Stay for answers until `wanted` have come or none does for `seconds`."""
        deadline = time.monotonic() + seconds
        while self.reports < wanted and time.monotonic() < deadline:
            before = self.reports
            self._next(deadline)
            if self.reports > before:
                deadline = time.monotonic() + seconds

    def _next(self, deadline: float) -> Any:
        """The next message that is no report; None after a report or a moment without any. Raises
        `scu.Interrupted`."""
        try:
            _, msg = self.assoc.dimse.msg_queue.get(timeout=max(0.0, min(0.2, deadline - time.monotonic())))
        except queue.Empty:
            if not self.assoc.dul.is_alive() or self.assoc.acse.is_aborted():
                raise scu.Interrupted("the archive ended the association") from None
            return None
        if isinstance(msg, N_EVENT_REPORT) and msg.MessageID is not None:
            self._hear(msg)
            return None
        return msg

    def _hear(self, req: N_EVENT_REPORT) -> None:
        """Answer a report; whatever it holds, an answer is owed."""
        self.reports += 1
        try:
            information = req.EventInformation
            answer = self.report(decode(information or io.BytesIO(), self.implicit, True))
        except Exception:  # noqa: BLE001 - what a stranger calls a data set
            answer = Answer(statuses.INVALID_ARGUMENT, "the event information cannot be read")
        rsp = N_EVENT_REPORT()
        rsp.MessageIDBeingRespondedTo = req.MessageID
        rsp.AffectedSOPClassUID, rsp.AffectedSOPInstanceUID = commitment.SOP_CLASS, commitment.SOP_INSTANCE
        rsp.EventTypeID = req.EventTypeID
        rsp.Status = answer.status
        self.assoc.dimse.send_msg(rsp, self.context_id)
