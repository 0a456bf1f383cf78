"""One destination's deliveries, one after another: what the sender runs in a thread of its own for each.

An object goes out on an association that was negotiated for exactly its SOP class and transfer syntax; the
next one uses the same association if it fits. Every answer is written down before the next object is taken.
"""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import structlog
from pydantic import ValidationError
from pydicom import dcmread
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.presentation import PresentationContext, build_context
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from config import Destination, Settings
from db import Database, deliveries
from db.leases import Lease, LeaseLost
from db.models import Delivery, PeerStatus
from db.objects import ObjectMissing, ObjectStore
from db.types import utcnow
from pacs_node import codecs, header, scu, statuses

log = structlog.get_logger(__name__)

Step = Callable[[Session], object]
Key = tuple[str, str]
"""SOP class and transfer syntax of an object."""


@dataclass(frozen=True)
class Parcel:
    """What a claimed delivery is about, read from its rows."""

    lease: Lease
    destination: Destination
    object_key: str
    sha256: str


class Undeliverable(Exception):
    """This object cannot go there, now or later; the message is for people."""


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
        self._stack = ExitStack()
        self._destination: Destination | None = None
        self._assoc: Association | None = None
        self._message_id = 0

    def run(self) -> None:
        """Work until there is nothing to do; `peer_failed` then says whether the peer was the reason."""
        try:
            while not self.stop.is_set() and not self.peer_failed and (parcel := self._next()):
                with self._kept(parcel.lease):
                    self._deliver(parcel)
        finally:
            self._close()

    def _next(self) -> Parcel | None:
        """Claim the next delivery; one whose rows make no sense is failed and passed over."""
        while True:
            with self.database.write() as session:
                lease = deliveries.claim(session, self.owner, self.name, self.lease_seconds)
                if lease is None:
                    return None
                delivery = deliveries.held(session, lease)
                try:
                    return _parcel(delivery, lease)
                except Undeliverable as error:
                    deliveries.fail(session, lease, str(error), actor=self.owner)

    def _deliver(self, parcel: Parcel) -> None:
        began = time.monotonic()
        try:
            answer = self._send(parcel)
        except Undeliverable as error:
            log.error("delivery.impossible", delivery=parcel.lease.id, destination=self.name, why=str(error))
            self._fail(parcel, str(error), None)
            return
        except scu.PeerError as error:
            self._close()
            self.peer_failed = True
            log.warning("delivery.postponed", delivery=parcel.lease.id, destination=self.name, why=str(error))
            self._note_peer(False, None, str(error))
            self._later(parcel, str(error), None)
            return
        except OSError as error:
            log.error("delivery.storage", delivery=parcel.lease.id, error=type(error).__name__)
            self.peer_failed = True
            self._later(parcel, "the object could not be read from the storage", None)
            return
        self._record(parcel, answer, time.monotonic() - began)

    def _record(self, parcel: Parcel, answer: scu.Stored, seconds: float) -> None:
        lease, code = parcel.lease, answer.status
        row = statuses.row(code)
        text = statuses.describe(code, answer.comment)
        say = (
            log.info
            if row.verdict.arrived
            else log.error
            if row.verdict is statuses.Verdict.ALERT
            else log.warning
        )
        say(
            "delivery.answered",
            delivery=lease.id,
            destination=self.name,
            status=f"{code:04X}",
            verdict=row.verdict,
        )
        self._note_peer(True, seconds, "stored" if code == statuses.SUCCESS else text)
        if row.verdict.arrived:
            self.sent += 1
            comment = None if code == statuses.SUCCESS else text
            self._settle(parcel, lambda s: deliveries.stored(s, lease, code, comment, actor=self.owner))
        elif row.verdict is statuses.Verdict.RETRY:
            self.peer_failed = True  # it has no room now: the next object would be told the same
            self._later(parcel, text, code)
        else:
            self._fail(parcel, text, code)

    def _send(self, parcel: Parcel) -> scu.Stored:
        """Check, negotiate, send one object. Raises :class:`Undeliverable`, `scu.PeerError`, OSError."""
        try:
            if self.store.digest(parcel.object_key) != parcel.sha256:
                raise Undeliverable("the stored object is damaged: its digest differs from the recorded one")
            with self.store.open(parcel.object_key) as stream:
                part10 = header.read_part10(stream)
                stream.seek(part10.offset)
                return self._store(parcel, part10, stream)
        except ObjectMissing as error:
            raise Undeliverable("the stored object is missing") from error
        except header.HeaderError as error:
            raise Undeliverable(f"the stored object cannot be read: {error}") from error

    def _store(self, parcel: Parcel, part10: header.Part10, stream: BinaryIO) -> scu.Stored:
        assoc, context = self._context(parcel.destination, (part10.sop_class_uid, part10.transfer_syntax_uid))
        if str(context.transfer_syntax[0]) != part10.transfer_syntax_uid:
            stream.seek(0)
            stream = _as_implicit(stream)
        self._message_id = self._message_id % 65535 + 1
        return scu.store(
            assoc,
            context,
            part10.sop_class_uid,
            part10.sop_instance_uid,
            stream,
            message_id=self._message_id,
            timeout=self.settings.dicom.dimse_timeout,
        )

    def _context(self, destination: Destination, key: Key) -> tuple[Association, PresentationContext]:
        """An association to the destination and its accepted context for such an object."""
        ready = self._assoc is not None and self._assoc.is_established and self._destination == destination
        if ready and self._assoc and (found := _accepted(self._assoc, key)):
            return self._assoc, found
        self._close()
        proposed = [build_context(key[0], key[1])]
        if key[1] == codecs.EXPLICIT_VR_LITTLE_ENDIAN:
            proposed.append(build_context(key[0], codecs.IMPLICIT_VR_LITTLE_ENDIAN))
        try:
            assoc = self._stack.enter_context(scu.association(destination, self.settings.dicom, proposed))
        except scu.NotAccepted as error:
            raise Undeliverable(str(error)) from error
        self._assoc, self._destination = assoc, destination
        if found := _accepted(assoc, key):
            return assoc, found
        raise Undeliverable("the destination accepts no presentation context for this object")

    def _close(self) -> None:
        self._assoc = None
        with contextlib.suppress(scu.PeerError):
            self._stack.close()
        self._stack = ExitStack()

    def _fail(self, parcel: Parcel, comment: str, status: int | None) -> None:
        self._settle(
            parcel,
            lambda s: deliveries.fail(s, parcel.lease, comment, status_code=status, actor=self.owner),
        )

    def _later(self, parcel: Parcel, comment: str, status: int | None) -> None:
        queue = self.settings.queue
        self._settle(
            parcel,
            lambda s: deliveries.retry_later(
                s,
                parcel.lease,
                comment,
                status_code=status,
                base=queue.retry_base_seconds,
                longest=queue.retry_max_seconds,
                actor=self.owner,
            ),
        )

    def _settle(self, parcel: Parcel, step: Step) -> None:
        """Write down what came of a delivery; one that was cancelled meanwhile stays cancelled."""
        try:
            with self.database.write() as session:
                step(session)
        except LeaseLost:
            log.warning("delivery.lost", delivery=parcel.lease.id, destination=self.name)

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
    row = PeerStatus(
        name=name, checked_at=utcnow(), reachable=reachable, seconds=seconds, message=message[:512]
    )
    try:
        with database.write() as session:
            session.merge(row)
    except SQLAlchemyError as error:
        log.warning("peer.status", destination=name, error=type(error).__name__)


def _parcel(delivery: Delivery, lease: Lease) -> Parcel:
    try:
        destination = Destination.model_validate(delivery.destination)
    except ValidationError as error:
        raise Undeliverable("the destination's settings are not valid") from error
    if delivery.what == "original":
        source = delivery.job.source
        if source.media_type != "application/dicom":
            raise Undeliverable("the original is not a DICOM object")
        return Parcel(lease, destination, source.object_key, source.sha256)
    result = delivery.job.result
    if result is None:
        raise Undeliverable("the job has no result")
    return Parcel(lease, destination, result.object_key, result.sha256)


def _accepted(assoc: Association, key: Key) -> PresentationContext | None:
    """The accepted context for an object: its own transfer syntax, else one that we can convert it to."""
    mine = {str(cx.transfer_syntax[0]): cx for cx in assoc.accepted_contexts if cx.abstract_syntax == key[0]}
    if key[1] in mine:
        return mine[key[1]]
    if key[1] == codecs.EXPLICIT_VR_LITTLE_ENDIAN:
        return mine.get(codecs.IMPLICIT_VR_LITTLE_ENDIAN)
    return None


def _as_implicit(stream: BinaryIO) -> BinaryIO:
    """The data set of a stored file in Implicit VR Little Endian; only for objects that we made."""
    encoded = encode(dcmread(stream), True, True)
    if encoded is None:
        raise Undeliverable("the object cannot be encoded in Implicit VR Little Endian")
    return io.BytesIO(encoded)
