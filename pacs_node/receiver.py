"""The DICOM door: C-ECHO and C-STORE from modalities, straight to the store; nothing is decoded here.

Success is answered when the object is on stable storage and its row committed, never before.
"""

from __future__ import annotations

import ipaddress
import threading
from typing import Any

import structlog
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]
from sqlalchemy.exc import SQLAlchemyError

from config import Settings
from config.network import Peer
from config.origins import fingerprint
from db import Database
from db.intake import Origin
from db.objects import ObjectStore, store_of
from db.presence import Presence
from pacs_node import codecs, commitment, fetched, rules, statuses
from pacs_node.acceptor import Acceptor
from pacs_node.commitment_scp import Desk
from pacs_node.commitment_scu import take_report
from pacs_node.normalized import Request
from pacs_node.putaway import no_database, put_away
from pacs_node.received import Answer, Caller, Limits, Received, Rejection
from pacs_node.refusals import Refusals
from pacs_node.scp import CALLED_NOT_RECOGNISED, CALLING_NOT_RECOGNISED, Server
from pacs_node.spool import Spool
from pacs_node.tls import server_credentials

log = structlog.get_logger(__name__)

SOP_CLASSES: dict[str, str] = {
    "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography Image Storage",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray Image Storage - For Presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "Digital X-Ray Image Storage - For Processing",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
}
"""What is accepted; the conformance statement prints it."""

DRAIN_SECONDS = 5.0
FACTS_SECONDS = 5.0


def supported_contexts() -> list[PresentationContext]:
    """What the receiver accepts: verification, and each SOP class in every decodable transfer syntax."""
    uncompressed = [codecs.EXPLICIT_VR_LITTLE_ENDIAN, codecs.IMPLICIT_VR_LITTLE_ENDIAN]
    syntaxes = list(codecs.decodable())
    return [build_context(Verification, uncompressed)] + [build_context(uid, syntaxes) for uid in SOP_CLASSES]


def commitment_contexts(settings: Settings) -> list[PresentationContext]:
    """Storage commitment, where a destination's answers or callers' requests may come; in either role."""
    asked = any(destination.storage_commitment for destination in settings.destinations)
    if not asked and not settings.dicom.storage_commitment:
        return []
    context = commitment.context()
    context.scu_role = context.scp_role = True
    return [context]


def may_call(caller: Caller, allow: tuple[Peer, ...]) -> bool:
    """Whether a caller's AE title and address stand in `dicom.allow`; an empty list means loopback alone."""
    address = ipaddress.ip_address(caller.address)
    address = getattr(address, "ipv4_mapped", None) or address
    if not allow:
        return address.is_loopback
    return any(
        peer.ae_title == caller.ae_title
        and (peer.address is None or address in ipaddress.ip_network(peer.address, strict=False))
        for peer in allow
    )


class Receiver:
    """The receiver at work between a server, a store and a database.

    Raises OSError when it cannot listen, :class:`pacs_node.tls.TlsError` when its certificate is of no use.
    """

    def __init__(self, settings: Settings, database: Database, store: ObjectStore) -> None:
        self.settings, self.database, self.store = settings, database, store
        dicom = settings.dicom
        self.refusals = Refusals(database)
        self.credentials = server_credentials(dicom.tls) if dicom.tls else None
        self.spool = Spool(store.spool, lambda: store.room().accepts)
        self.desk = Desk(settings, database)
        try:
            self.server = Server(
                ae_title=dicom.ae_title,
                host=dicom.host,
                port=None if dicom.tls and dicom.tls.only else dicom.port,
                contexts=[*supported_contexts(), *commitment_contexts(settings)],
                services={commitment.SOP_CLASS: self.about_commitment},
                limits=Limits(
                    max_associations=dicom.max_associations,
                    max_associations_per_peer=dicom.max_associations_per_peer,
                    max_pdu=dicom.max_pdu,
                    max_object_bytes=dicom.max_object_bytes,
                    handshake_timeout=dicom.handshake_timeout,
                    acse_timeout=dicom.acse_timeout,
                    dimse_timeout=dicom.dimse_timeout,
                    network_timeout=dicom.network_timeout,
                ),
                spool=self.spool,
                admit=self.admit,
                store=self.put_away,
                tls=(dicom.tls.port, self.credentials) if dicom.tls and self.credentials else None,
                suspect=self.refusals.note,
            )
        except OSError:
            self.spool.close()
            raise

    def facts(self) -> dict[str, Any]:
        """What the system page and the figures tell of the door: ports, connections, who was turned away."""
        trouble = self.credentials.trouble if self.credentials else None
        ports = {"port": self.server.port or None, "tls_port": self.server.tls_port or None}
        return {**ports, "problem": trouble, **self.server.facts()}

    def close(self, grace: float = DRAIN_SECONDS) -> None:
        """Stop listening, let what has begun end for `grace` seconds."""
        self.desk.close()
        self.server.close(grace)
        self.spool.close()
        self.refusals.close()

    def admit(self, caller: Caller) -> Rejection | None:
        """Who may associate: callers that are allowed, when they mean us. Others go into the audit trail."""
        rejection = None
        if not may_call(caller, self.settings.dicom.allow):
            rejection = CALLING_NOT_RECOGNISED
        elif caller.called_ae_title not in (self.settings.dicom.ae_title, *self.settings.dicom.ae_titles):
            rejection = CALLED_NOT_RECOGNISED
        if rejection is not None:
            self.refusals.note(caller, rejection.why)
        return rejection

    def about_commitment(self, request: Request, assoc: Acceptor) -> Answer:
        """Answer an archive that reports what it keeps, or a caller that asks what we keep."""
        try:
            ds = request.data_set()
        except Exception:  # noqa: BLE001 - what a stranger calls a data set
            return Answer(statuses.INVALID_ARGUMENT, "the data set cannot be read")
        if not request.is_action:
            return take_report(self.database, self.settings, ds, caller=request.caller.ae_title)
        if not self.settings.dicom.storage_commitment:
            return Answer(statuses.UNRECOGNISED_OPERATION, "storage commitment is not offered")
        return self.desk.take(request, ds, assoc)

    def put_away(self, received: Received) -> Answer:
        """Make a received object durable and queue its job; what we had moved to us joins its batch."""
        try:
            moved = fetched.move_of(self.database, self.settings, received)
        except SQLAlchemyError as error:
            return no_database(error)
        caller = received.caller
        asked = rules.Asked("dimse", caller.ae_title, caller.called_ae_title, caller.address)
        arrival = fetched.arrival_of(received, moved, rules.most_urgent(asked, self.settings.rules))
        origin = Origin(
            kind="dimse" if moved is None else "fetch",
            ae_title=caller.ae_title,
            called_ae_title=caller.called_ae_title,
            address=caller.address,
        )
        max_waiting = self.settings.queue.max_waiting
        accepted = put_away(self.database, self.store, arrival, origin, max_waiting=max_waiting)
        if isinstance(accepted, Answer):
            return accepted
        if moved is not None:
            fetched.count_moved(self.database, moved)
        log.info(
            "stored",
            job=accepted.job_id,
            source=accepted.source_id,
            resend=accepted.resend,
            sop_instance_uid=received.sop_instance_uid,
            bytes=received.incoming.size,
            caller=caller.ae_title,
        )
        return Answer(statuses.SUCCESS)


def run(settings: Settings, stop: threading.Event) -> None:
    """Receive until `stop` is set, then let open associations end.

    Raises OSError when it cannot listen, :class:`pacs_node.tls.TlsError` when its certificate is of no use.
    """
    database = Database(settings.database_url)
    store = store_of(settings)
    try:
        receiver = Receiver(settings, database, store)
        dicom = settings.dicom
        info = {"host": dicom.host, "ae_title": dicom.ae_title, **receiver.facts()}
        info["settings"] = fingerprint(settings)
        log.info("receiver.listening", host=dicom.host, port=info["port"], tls_port=info["tls_port"])
        with Presence(database, "receiver", info) as presence:
            try:
                while not stop.wait(FACTS_SECONDS):
                    if (facts := receiver.facts()) != {key: info[key] for key in facts}:
                        info |= facts
                        presence.update(**facts)
            finally:
                receiver.close()
    finally:
        database.close()
