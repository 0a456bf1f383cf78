"""One destination's deliveries, one after another: what the sender runs in a thread of its own for each.

What an object travels by is the carrier's part, chosen by the kind of the destination. Every answer is
written down before the next object is taken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from config import Destination, Settings
from db import Database, commitments, deliveries
from db.intact import intact
from db.leases import Lease, LeaseLost
from db.models import Delivery, PeerStatus
from db.objects import ObjectDamaged, ObjectMissing, ObjectStore
from db.types import utcnow
from pacs_node import header, presence_check, scu, statuses
from pacs_node.carrier import Carrier, Parcel, PeerError, Receipt, Undeliverable
from pacs_node.commitment_scu import Asker
from pacs_node.consignment import Consignment, NothingToSend, NotMade, consignment, result_at
from pacs_node.dimse_carrier import DimseCarrier
from pacs_node.errors import TryLater
from pacs_node.packing import DAMAGED, Packer
from pacs_node.statuses import Verdict
from pacs_node.stow import StowCarrier
from pacs_node.webclient import SignInError

log = structlog.get_logger(__name__)

Step = Callable[[Session], object]


def open_carrier(kind: str, settings: Settings) -> Carrier:
    """The carrier for destinations of that kind. Raises :class:`Undeliverable` for one we do not know."""
    if kind == "dimse":
        return DimseCarrier(settings)
    if kind == "dicomweb":
        return StowCarrier(settings.dicom)
    raise Undeliverable(f"nothing is sent to destinations of kind {kind} yet")


class Needless(Exception):
    """The destination does not need this object; the message is for people."""


@dataclass(frozen=True)
class Task:
    """What a claimed delivery is about, read from its rows. goods: None where they are still to be made."""

    lease: Lease
    job: int
    destination: Destination
    goods: Consignment | None
    what: str
    ask_for: presence_check.Name | None
    """What the destination is asked for first: an original that it has is not sent, nor a note about a result
    that it has not."""


class Courier:
    """Sends the due deliveries of one destination until none is left, the peer fails, or `stop` is set."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        store: ObjectStore,
        name: str,
        owner: str,
        stop: threading.Event,
    ) -> None:
        self.settings, self.database, self.store = settings, database, store
        self.name, self.owner, self.stop = name, owner, stop
        self.lease_seconds = settings.queue.lease_seconds
        self.sent = 0
        self.peer_failed = False
        self._packer = Packer(database, store)
        self._carriers: dict[str, Carrier] = {}

    def run(self) -> None:
        """Work until there is nothing to do; `peer_failed` then says whether the peer was the reason."""
        try:
            while not self.stop.is_set() and not self.peer_failed and (task := self._next()):
                with structlog.contextvars.bound_contextvars(job=task.job), self._kept(task.lease):
                    self._deliver(task)
            if not self.stop.is_set() and not self.peer_failed:
                Asker(self.settings, self.database, self.name, self.owner).run()
        finally:
            self._close()

    def _next(self) -> Task | None:
        """Claim the next delivery; one whose rows make no sense is failed and passed over."""
        while True:
            with self.database.write() as session:
                lease = deliveries.claim(session, self.owner, self.name, self.lease_seconds)
                if lease is None:
                    return None
                delivery = deliveries.held(session, lease)
                try:
                    return _task(session, delivery, lease)
                except Undeliverable as error:
                    deliveries.fail(session, lease, str(error), actor=self.owner)

    def _deliver(self, task: Task) -> None:
        began = time.monotonic()
        try:
            receipt = self._send(task)
        except Needless as error:
            needless = str(error)
            self._settle(task, lambda s: deliveries.needless(s, task.lease, needless, actor=self.owner))
        except Undeliverable as error:
            log.error("delivery.impossible", delivery=task.lease.id, destination=self.name, why=str(error))
            self._fail(task, str(error), None)
        except PeerError as error:
            self.peer_failed = True
            log.warning("delivery.postponed", delivery=task.lease.id, destination=self.name, why=str(error))
            self._note_peer(False, None, str(error))
            web = task.destination.kind == "dicomweb"
            sent = isinstance(error, scu.Interrupted) or (web and not isinstance(error, SignInError))
            self._later(task, str(error), None, perhaps_there=sent)
        except TryLater as error:
            log.error("delivery.packing", delivery=task.lease.id, why=error.reason)
            self._later(task, error.reason, None)
        except OSError as error:
            log.error("delivery.storage", delivery=task.lease.id, error=type(error).__name__)
            self.peer_failed = True
            self._later(task, "the object could not be read from the storage", None)
        else:
            self._record(task, receipt, time.monotonic() - began)

    def _send(self, task: Task) -> Receipt:
        """Make, check and carry one object.

        Raises :class:`Undeliverable`, :class:`PeerError`, :class:`TryLater`, OSError.
        """
        if task.ask_for is not None and self._is_needless(task.destination, task.what, task.ask_for):
            if task.what == "note":
                raise Needless("the result has never arrived there")
            return Receipt(Verdict.WARNING, statuses.SUCCESS, "it was there already and was not sent")
        kind = task.destination.kind
        carrier = self._carriers.get(kind) or open_carrier(kind, self.settings)
        self._carriers[kind] = carrier
        try:
            goods = task.goods or self._packer.pack(task.lease.id)
            with intact(self.store, goods.object_key, goods.sha256) as stream:
                part10 = header.read_part10(stream)
                stream.seek(0)
                return carrier.carry(Parcel(task.destination, part10, stream, task.what != "original"))
        except NothingToSend as error:
            raise Undeliverable(str(error)) from error
        except ObjectMissing as error:
            raise Undeliverable("the stored object is missing") from error
        except ObjectDamaged as error:
            raise Undeliverable(DAMAGED) from error
        except header.HeaderError as error:
            raise Undeliverable(f"the stored object cannot be read: {error}") from error

    def _is_needless(self, destination: Destination, what: str, name: presence_check.Name) -> bool:
        """Whether it has the original, or has not the result that a note is about; one that cannot tell is
        sent either. Raises :class:`PeerError`."""
        try:
            return presence_check.has(destination, self.settings.dicom, name) != (what == "note")
        except presence_check.CannotTell as error:
            log.info("delivery.unasked", destination=self.name, why=str(error))
            return False

    def _record(self, task: Task, receipt: Receipt, seconds: float) -> None:
        lease, verdict = task.lease, receipt.verdict
        plain = verdict is Verdict.STORED
        level = "info" if verdict.arrived else "error" if verdict is Verdict.ALERT else "warning"
        getattr(log, level)(
            "delivery.answered",
            delivery=lease.id,
            destination=self.name,
            status=f"{receipt.code:04X}" if task.destination.kind == "dimse" else receipt.code,
            verdict=verdict,
        )
        self._note_peer(True, seconds, "stored" if plain else receipt.text)
        if verdict.arrived:
            self.sent += 1
            self._settle(
                task, lambda s: self._arrived(s, lease, receipt.code, None if plain else receipt.text)
            )
        elif verdict is Verdict.RETRY:
            self.peer_failed = True  # it has no room now: the next object would be told the same
            self._later(task, receipt.text, receipt.code)
        else:
            self._fail(task, receipt.text, receipt.code)

    def _arrived(self, session: Session, lease: Lease, code: int, comment: str | None) -> None:
        """Write down that an object is there, and the question whether it will be kept."""
        delivery = deliveries.stored(session, lease, code, comment, actor=self.owner)
        if delivery.commitment:
            goods = consignment(session, delivery)
            commitments.want(session, delivery, goods.sop_class_uid, goods.sop_instance_uid)

    def _close(self) -> None:
        for carrier in self._carriers.values():
            carrier.close()

    def _fail(self, task: Task, comment: str, status: int | None) -> None:
        self._settle(
            task,
            lambda s: deliveries.fail(s, task.lease, comment, status_code=status, actor=self.owner),
        )

    def _later(self, task: Task, comment: str, status: int | None, *, perhaps_there: bool = False) -> None:
        queue = self.settings.queue
        self._settle(
            task,
            lambda s: deliveries.retry_later(
                s,
                task.lease,
                comment,
                status_code=status,
                perhaps_there=perhaps_there,
                base=queue.retry_base_seconds,
                longest=queue.retry_max_seconds,
                actor=self.owner,
            ),
        )

    def _settle(self, task: Task, step: Step) -> None:
        """Write down what came of a delivery; one that was cancelled meanwhile stays cancelled."""
        try:
            with self.database.write() as session:
                step(session)
        except LeaseLost:
            log.warning("delivery.lost", delivery=task.lease.id, destination=self.name)

    def _note_peer(self, reachable: bool, seconds: float | None, message: str) -> None:
        note_peer(self.database, self.name, reachable, seconds, message)

    @contextmanager
    def _kept(self, lease: Lease) -> Iterator[None]:
        """Keep the lease while the block runs, however slowly the peer takes the object."""
        done = threading.Event()

        def beat() -> None:
            while not done.wait(self.lease_seconds / 3):
                try:
                    with self.database.write() as session:
                        deliveries.heartbeat(session, lease, self.lease_seconds)
                except LeaseLost:
                    return
                except SQLAlchemyError as error:
                    log.warning("delivery.heartbeat", delivery=lease.id, error=type(error).__name__)

        thread = threading.Thread(target=beat, name=f"lease-{self.name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def note_peer(database: Database, name: str, reachable: bool, seconds: float | None, message: str) -> None:
    """Write the last that was heard of a destination; a failure to write is only logged."""
    now = utcnow()
    row = PeerStatus(name=name, checked_at=now, reachable=reachable, seconds=seconds, message=message[:512])
    try:
        with database.write() as session:
            known = session.get(PeerStatus, name)
            same = known is not None and known.reachable == reachable
            row.changed_at = (known.changed_at or known.checked_at) if known is not None and same else now
            session.merge(row)
    except SQLAlchemyError as error:
        log.warning("peer.status", destination=name, error=type(error).__name__)


def _task(session: Session, delivery: Delivery, lease: Lease) -> Task:
    try:
        destination = Destination.stored(delivery.destination)
    except ValidationError as error:
        raise Undeliverable("the destination's settings are not valid") from error
    goods: Consignment | None = None
    try:
        goods = consignment(session, delivery)
    except NotMade:
        pass  # outside of this transaction
    except NothingToSend as error:
        raise Undeliverable(str(error)) from error
    ask_for = _asked_for(session, delivery) if delivery.ask_first else None
    return Task(lease, delivery.job_id, destination, goods, delivery.what, ask_for)


def _asked_for(session: Session, delivery: Delivery) -> presence_check.Name | None:
    """The original of a delivery of one, the result of a note."""
    source = delivery.job.source
    if source.series is None:
        return None
    study = source.series.study.study_instance_uid
    if delivery.what == "original":
        return presence_check.Name(study, source.series.series_instance_uid, source.sop_instance_uid or "")
    result = result_at(session, delivery)
    return presence_check.Name(study, *result) if result is not None else None
