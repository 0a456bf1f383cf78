"""What comes from an archive: objects are put away as the receiver does it, as images that were fetched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError

from config import Settings
from config.network import Archive
from db import Database, batches
from db.intake import Arrival, Origin
from db.objects import ObjectStore
from db.states import Priority
from pacs_node import statuses
from pacs_node.putaway import put_away
from pacs_node.received import Answer, Caller, Received, check
from pacs_node.spool import Spool

log = structlog.get_logger(__name__)


def our_title(archive: Archive, settings: Settings) -> str:
    """What we call ourselves to an archive."""
    return archive.calling_ae_title or settings.dicom.ae_title


@dataclass(frozen=True)
class Wish:
    """For what an object was fetched: the batch, its wishes for the job, and the study by its number."""

    batch_id: int
    item_id: int
    requested: dict[str, Any]


def arrival_of(received: Received, wish: Wish | None, priority: Priority = Priority.ROUTINE) -> Arrival:
    """An object at the door; `priority` is for what was sent: fetched ones wait behind everything."""
    return Arrival(
        file=received.incoming.path,
        media_type="application/dicom",
        sop_class_uid=received.sop_class_uid,
        sop_instance_uid=received.sop_instance_uid,
        transfer_syntax_uid=received.transfer_syntax_uid,
        priority=priority if wish is None else Priority.BULK,
        requested={} if wish is None else wish.requested,
        batch_id=None if wish is None else wish.batch_id,
    )


def move_of(database: Database, settings: Settings, received: Received) -> Wish | None:
    """For what an object was moved to us, None where nobody asked for it."""
    if not settings.archives or not received.move_originator or received.move_message_id is None:
        return None
    with database.read() as session:
        for item, batch in batches.by_move(session, received.move_message_id):
            archive = settings.archive(batch.archive or "")
            if archive is not None and our_title(archive, settings) == received.move_originator:
                return Wish(batch.id, item.id, requested(batch.query))
    return None


def count_moved(database: Database, wish: Wish) -> None:
    """One more object has come by a move. A failure to count is only logged: the object is safe."""
    try:
        with database.write() as session:
            batches.arrived(session, wish.item_id)
    except SQLAlchemyError as error:
        log.warning("fetch.uncounted", study=wish.item_id, error=type(error).__name__)


def requested(query: Mapping[str, Any] | None) -> dict[str, Any]:
    """The wishes for the jobs in the query of a batch."""
    return dict((query or {}).get("requested") or {})


@dataclass
class Basket:
    """Takes the objects of one study; counts them, and keeps why some could not be taken.

    `given_up` says whether the fetch is to end before its time. Objects are refused from then on.
    """

    settings: Settings
    database: Database
    store: ObjectStore
    spool: Spool
    archive: Archive
    claim: batches.Claim
    given_up: Callable[[], bool] = lambda: False
    received: int = 0
    known: int = 0
    """Of `received`: those that were here already."""
    refused: list[str] = field(default_factory=list)
    """Why objects were refused that will be refused again."""
    trouble: str | None = None
    """Why nothing can be taken at the moment: no room, a silent database."""

    @property
    def caller(self) -> Caller:
        return Caller(
            ae_title=self.archive.ae_title or self.archive.name[:16],
            called_ae_title=our_title(self.archive, self.settings),
            address=self.archive.host,
        )

    def put(self, received: Received) -> Answer:
        """Put one whole object away; the answer is for the archive. Its file is gone afterwards."""
        try:
            received.incoming.finish()
            if self.given_up():
                return Answer(statuses.OUT_OF_RESOURCES, "the fetch was cancelled")
            answer = check(received) or self._take_in(received)
        finally:
            received.incoming.discard()
        if answer.status == statuses.SUCCESS:
            self.received += 1
        elif received.incoming.size > received.incoming.max_bytes:
            self.refused.append(answer.comment or "it is too large")
        elif statuses.row(answer.status).verdict is statuses.Verdict.RETRY:
            self.trouble = answer.comment
        else:
            self.refused.append(answer.comment or "it cannot be read")
        return answer

    def _take_in(self, received: Received) -> Answer:
        claim = self.claim
        arrival = arrival_of(received, Wish(claim.batch_id, claim.item_id, requested(claim.query)))
        caller = received.caller
        origin = Origin(
            "fetch", caller.ae_title, caller.called_ae_title, caller.address or None, actor="fetcher"
        )
        max_waiting = self.settings.queue.max_waiting
        accepted = put_away(self.database, self.store, arrival, origin, max_waiting=max_waiting)
        if isinstance(accepted, Answer):
            return accepted
        self.known += accepted.resend
        log.info("fetched", job=accepted.job_id, source=accepted.source_id, resend=accepted.resend)
        return Answer(statuses.SUCCESS)
