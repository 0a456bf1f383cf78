"""Being asked to promise that we keep what was sent to us: requests are written down, answers follow.

Our yes means that an archive has promised to keep the original (DICOM PS3.4 Annex J). The answer goes out on
an association of its own to the destination that has the caller's AE title; a caller that is none is told on
its own association, as long as that is open.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import timedelta

import structlog
from pydicom.dataset import Dataset
from pynetdicom import build_role
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from config import Destination, Settings
from db import Database, commitment_requests
from db.commitment_requests import Instance, Kept, Taken
from db.exchange import CommitmentRequest
from db.types import utcnow
from pacs_node import commitment, scu, statuses
from pacs_node.acceptor import Acceptor
from pacs_node.normalized import Report, Request
from pacs_node.received import Answer

log = structlog.get_logger(__name__)

PATIENCE = timedelta(hours=72)
"""How long an archive may take to promise an original before we answer no."""
GRACE = timedelta(hours=24)
"""How long we go on trying to tell a caller after that."""
LONGEST_PAUSE = timedelta(minutes=1)
"""Between two looks at a request about which nothing can be said yet."""
_CLAIM_SECONDS = 300.0

_REASONS: dict[Kept, int | None] = {
    Kept.PROMISED: None,
    Kept.OPEN: statuses.PROCESSING_FAILURE,
    Kept.NEVER: statuses.PROCESSING_FAILURE,
    Kept.MISSING: statuses.NO_SUCH_INSTANCE,
    Kept.CONFLICT: statuses.CLASS_INSTANCE_CONFLICT,
}
"""The failure reason of each verdict, None for yes. What is open still when the time is over has failed."""


def caller_of(settings: Settings, ae_title: str) -> Destination | None:
    """The destination that answers to a caller are sent to."""
    return next((d for d in settings.destinations if d.kind == "dimse" and d.ae_title == ae_title), None)


def event_of(verdicts: dict[Instance, Kept], transaction_uid: str) -> tuple[int, Dataset]:
    """Event type and data set of the answer that these verdicts make."""
    reasons = {name: _REASONS[kept] for name, kept in verdicts.items()}
    return commitment.event_information(transaction_uid, reasons)


def decided(database: Database, row: CommitmentRequest) -> tuple[int, Dataset] | None:
    """The answer to a request, None while an archive may still promise something."""
    with database.read() as session:
        verdicts = commitment_requests.verdicts(session, row)
    if Kept.OPEN in verdicts.values() and not commitment_requests.overdue(row):
        return None
    return event_of(verdicts, row.transaction_uid)


class Desk:
    """Takes requests at the receiver, and answers those callers there that can be told nowhere else."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings, self.database = settings, database
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._open: dict[int, Acceptor] = {}
        self._thread: threading.Thread | None = None

    def take(self, request: Request, ds: Dataset, assoc: Acceptor) -> Answer:
        """Answer an N-ACTION: success when the request is written down (PS3.7 10.1.4)."""
        command, caller = request.command, request.caller
        if command.sop_instance_uid != commitment.SOP_INSTANCE:
            return Answer(statuses.NO_SUCH_INSTANCE, "not the instance of the service")
        if command.type_id != commitment.REQUEST:
            return Answer(statuses.NO_SUCH_ACTION, "no such action type")
        try:
            transaction, instances = commitment.read_action(ds)
        except commitment.Unusable as error:
            return Answer(statuses.INVALID_ARGUMENT, str(error))
        known = caller_of(self.settings, caller.ae_title) is not None
        comment = None if known else "no destination has its AE title: told on its own association alone"
        try:
            with self.database.write() as session:
                taken, number = commitment_requests.take(
                    session,
                    transaction_uid=transaction,
                    calling=caller.ae_title,
                    called=caller.called_ae_title,
                    address=caller.address,
                    instances=dict.fromkeys(instances),
                    patience=PATIENCE,
                    comment=comment,
                )
        except SQLAlchemyError as error:
            log.error("commitment.database", error=type(error).__name__)
            return Answer(statuses.RESOURCE_LIMITATION, "the database does not answer")
        say = log.info if known else log.warning
        say("commitment.request", caller=caller.ae_title, transaction=transaction, became=taken, why=comment)
        if taken is Taken.CLASH:
            return Answer(statuses.INVALID_ARGUMENT, "the transaction UID is in use")
        if not known:
            self._watch(number, assoc)
        return Answer(statuses.SUCCESS)

    def close(self) -> None:
        """Stop answering."""
        self._stop.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(10)

    def _watch(self, number: int, assoc: Acceptor) -> None:
        with self._lock:
            self._open[number] = assoc
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._answer_all, name="commitment-desk", daemon=True)
                self._thread.start()

    def _answer_all(self) -> None:
        """Look at what is open until nothing is."""
        while not self._stop.wait(self.settings.queue.poll_seconds):
            with self._lock:
                self._open = {n: assoc for n, assoc in self._open.items() if assoc.is_established}
                if not self._open:
                    self._thread = None
                    return
                waiting = dict(self._open)
            try:
                for number, assoc in waiting.items():
                    self._answer(number, assoc)
            except SQLAlchemyError as error:
                log.error("commitment.database", error=type(error).__name__)

    def _answer(self, number: int, assoc: Acceptor) -> None:
        with self.database.read() as session:
            row = session.get_one(CommitmentRequest, number)
        answer = decided(self.database, row)
        if answer is None:
            return
        with self._lock:
            self._open.pop(number, None)
        event_type, ds = answer

        def then(status: int | None) -> None:
            log.info(
                "commitment.told", caller=row.calling_ae_title, status=status, transaction=row.transaction_uid
            )
            if status is None:
                return
            try:
                with self.database.write() as session:
                    _note(session, number, status)
            except SQLAlchemyError as error:
                log.error("commitment.database", error=type(error).__name__)

        assoc.reports.put(Report(commitment.SOP_CLASS, commitment.SOP_INSTANCE, event_type, ds, then))


@dataclass
class Teller:
    """Tells one caller, on associations of our own, what became of its requests."""

    settings: Settings
    database: Database
    caller: str
    stop: threading.Event

    def run(self) -> None:
        """Look at every request of the caller that is due, once."""
        while not self.stop.is_set():
            with self.database.write() as session:
                row = commitment_requests.claim(session, self.caller, _CLAIM_SECONDS)
            if row is None:
                return
            answer = decided(self.database, row)
            destination = caller_of(self.settings, self.caller)
            if destination is not None and answer is not None:
                self._tell(row, destination, *answer)
            elif destination is None and commitment_requests.overdue(row):
                self._failed(row, f"no destination has the AE title {self.caller}: the caller was not told")
            else:
                with self.database.write() as session:
                    commitment_requests.not_yet(session, row.id, self._pause(row))

    def _tell(self, row: CommitmentRequest, destination: Destination, event_type: int, ds: Dataset) -> None:
        role = build_role(commitment.SOP_CLASS, scp_role=True)
        own = destination.model_copy(update={"calling_ae_title": row.called_ae_title})
        try:
            with scu.association(own, self.settings.dicom, [commitment.context()], roles=[role]) as assoc:
                status = assoc.send_n_event_report(
                    ds, event_type, commitment.SOP_CLASS, commitment.SOP_INSTANCE
                )[0].get("Status")
            if status is None:
                raise scu.PeerError("no answer to the N-EVENT-REPORT")
        except scu.PeerError as error:
            self._later(row, str(error))
            return
        log.info(
            "commitment.told", caller=self.caller, transaction=row.transaction_uid, status=f"{status:04X}"
        )
        if statuses.row(status).verdict is statuses.Verdict.RETRY:
            self._later(row, statuses.describe(status))
        else:
            with self.database.write() as session:
                _note(session, row.id, status)

    def _pause(self, row: CommitmentRequest) -> timedelta:
        """Before the next look: longer the older the request is."""
        shortest = timedelta(seconds=self.settings.queue.retry_base_seconds)
        return max(shortest, min((utcnow() - row.received_at) / 20, LONGEST_PAUSE))

    def _later(self, row: CommitmentRequest, why: str) -> None:
        if row.expires_at + GRACE < utcnow():
            self._failed(row, why)
            return
        log.warning("commitment.untold", caller=self.caller, transaction=row.transaction_uid, why=why)
        waits = self.settings.queue
        with self.database.write() as session:
            commitment_requests.tell_later(
                session, row.id, why, base=waits.retry_base_seconds, longest=waits.retry_max_seconds
            )

    def _failed(self, row: CommitmentRequest, why: str) -> None:
        log.error("commitment.untold", caller=self.caller, transaction=row.transaction_uid, why=why)
        with self.database.write() as session:
            commitment_requests.failed(session, row.id, why)


def _note(session: Session, request_id: int, status: int) -> None:
    """Write down how a caller took its answer."""
    if statuses.row(status).verdict.arrived:
        commitment_requests.answered(session, request_id)
    else:
        commitment_requests.failed(
            session, request_id, f"the caller refused its answer: {statuses.describe(status)}"
        )
