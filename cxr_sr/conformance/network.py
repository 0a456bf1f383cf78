"""Chapter 7: associations, presentation contexts, status codes."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

from pynetdicom.presentation import PresentationContext

from config import Settings
from config.settings import DicomSettings
from cxr_sr.conformance import activities
from cxr_sr.conformance.document import Document
from cxr_sr.conformance.words import AE, code, hexadecimal, sop_class, syntaxes
from pacs_node import commitment, identity, receiver, scp, statuses, stow
from pacs_node.guests import LIMIT_EXCEEDED, PEER_LIMIT_EXCEEDED

APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
REJECTIONS = (
    scp.CALLING_NOT_RECOGNISED,
    scp.CALLED_NOT_RECOGNISED,
    LIMIT_EXCEEDED,
    PEER_LIMIT_EXCEEDED,
    scp.SHUTTING_DOWN,
)
_RESULTS = {1: "rejected-permanent", 2: "rejected-transient"}
_SOURCES = {1: "service user", 3: "service provider, presentation"}


def write(doc: Document) -> None:
    """Chapter 7."""
    doc.heading(1, "Network and Media Communication Details")
    doc.heading(2, "General")
    doc.heading(3, "General Association Parameters")
    dicom = DicomSettings()
    doc.table(
        "Association parameters; times and numbers are the configurable defaults",
        ("parameter", "value"),
        [
            ("Application context name", code(APPLICATION_CONTEXT)),
            ("Implementation class UID", code(identity.IMPLEMENTATION_CLASS_UID)),
            ("Implementation version name", code(identity.IMPLEMENTATION_VERSION_NAME)),
            ("AE title", f"{code(dicom.ae_title)}; further ones by `dicom.ae_titles`"),
            ("Largest PDU that is received", f"{dicom.max_pdu} bytes"),
            ("Associations accepted at once", str(dicom.max_associations)),
            ("Of these, from one address", str(dicom.max_associations_per_peer)),
            ("Associations opened at once", "one or two for each destination, one for each fetch"),
            ("Asynchronous operations window", "not proposed; one operation at a time is accepted"),
            ("SOP class extended negotiation", "none"),
            ("SCP/SCU role selection", "proposed for C-GET and commitment reports; accepted for the latter"),
            ("Largest object that is received", f"{dicom.max_object_bytes} bytes"),
            ("Association request (ARTIM) timeout", f"{dicom.acse_timeout:g} s"),
            ("TLS handshake timeout", f"{dicom.handshake_timeout:g} s"),
            ("DIMSE timeout", f"{dicom.dimse_timeout:g} s"),
            ("Inactivity timeout", f"{dicom.network_timeout:g} s"),
            ("Connection timeout", f"{dicom.connection_timeout:g} s"),
            ("Network", "TCP/IP, IPv4 and IPv6; DNS names where we call"),
        ],
    )  # fmt: skip
    doc.heading(2, "Specifications")
    doc.heading(3, f"{AE} Application Entity")
    _initiation(doc)
    _acceptance(doc)
    doc.heading(2, "Status Codes")
    _general(doc)
    _dimse(doc)
    _web(doc)


def _initiation(doc: Document) -> None:
    doc.heading(4, "Association Initiation Policy")
    doc.text(
        """Associations are opened to configured destinations and archives alone. Each line of the tables
        is proposed as presentation contexts of one transfer syntax each or together; the best that is
        accepted is used."""
    )
    for activity in activities.requested():
        doc.text(f"**{activity.name}**: {activity.when}.")
        doc.table(
            f"Presentation contexts proposed: {activity.name.lower()}",
            ("SOP class", "UID", "transfer syntaxes", "role"),
            [(*sop_class(cx.sop_class), syntaxes(cx.syntaxes), cx.role) for cx in activity.contexts],
        )


def _acceptance(doc: Document) -> None:
    doc.heading(4, "Association Acceptance Policy")
    doc.text(
        """Callers are admitted by AE title and IP address (`dicom.allow`); with no list, only from the
        same machine. They must call one of our AE titles. A connection over TLS must shake hands before
        that. Of the transfer syntaxes that a caller proposes for one presentation context, that is
        accepted which stands first in our table, whatever the caller's order. Storage Commitment is
        accepted of callers in the role of SCU where `dicom.storage_commitment` is on, and of archives
        in the role of SCP."""
    )
    doc.table(
        "Presentation contexts accepted",
        ("SOP class", "UID", "transfer syntaxes", "our role", "only if configured"),
        [
            (*sop_class(str(cx.abstract_syntax)), syntaxes(map(str, cx.transfer_syntax)), role, key)
            for cx, role, key in accepted()
        ],
    )
    doc.table(
        "Rejections of associations",
        ("result", "source", "reason", "when"),
        [(_RESULTS[one.result], _SOURCES[one.source], str(one.reason), one.why) for one in REJECTIONS],
    )


def accepted() -> Iterator[tuple[PresentationContext, str, str]]:
    """What the receiver accepts, our role in each, and what must be configured for it."""
    for cx in receiver.supported_contexts():
        yield cx, "SCP", ""
    asked = Settings(dicom=DicomSettings(storage_commitment=True))
    for cx in receiver.commitment_contexts(asked):
        yield cx, "SCP; SCU", "`dicom.storage_commitment` (SCP); `destinations.storage_commitment` (SCU)"


def _general(doc: Document) -> None:
    doc.heading(3, "General Communication and Failure Behaviour")
    doc.table(
        "Failures of communication",
        ("what", "what follows"),
        [
            ("A peer cannot be reached, does not answer in time, aborts or breaks off",
             "delivery: tried again with growing pauses until it expires; fetch: `fetch.max_attempts` times"),
            ("No presentation context is accepted", "delivery: failed for good, and shown"),
            ("A PDU is longer than announced, or makes no sense", "the association is aborted"),
            ("A caller is silent", "the association is aborted after the timeout of its phase"),
        ],
    )  # fmt: skip


def _dimse(doc: Document) -> None:
    doc.heading(3, "DIMSE Services")
    doc.table(
        "C-STORE responses that we give",
        ("status", "name", "when"),
        [(f"0x{row.first:04X}", row.name, row.ours) for row in statuses.TABLE if row.ours],
    )
    doc.table(
        "C-STORE responses that we get",
        ("status", "name", "the delivery is"),
        [(hexadecimal(row.first, row.last), row.name, row.verdict.value) for row in statuses.TABLE],
    )
    doc.table(
        "N-ACTION and N-EVENT-REPORT responses that we give",
        ("status", "name", "when"),
        [(f"0x{status:04X}", name, when) for status, name, when in commitment.ANSWERS],
    )
    doc.text(
        """N-ACTION responses that we get are read as those of C-STORE: stored means that the question was
        taken, failed for good that the delivery fails."""
    )
    doc.table(
        "Failure reasons of storage commitment",
        ("reason", "name", "as SCU, what follows", "as SCP, when we give it"),
        [
            (f"0x{one.code:04X}", one.name, str(one.remedy.value).replace("_", " "), one.ours)
            for one in commitment.REASONS
        ],
    )
    doc.table(
        "C-FIND, C-GET and C-MOVE responses that we get",
        ("status", "what follows"),
        [
            ("0xFF00, 0xFF01 pending", "matches are read; progress is noted"),
            ("0x0000 success", "the retrieval counts as whole if every object arrived"),
            ("0xFE00 cancelled", "a search that had enough matches"),
            ("0xA801 move destination unknown", "the study fails, with the advice to enter our AE title"),
            ("0x0122, 0x0124, 0xA900", "the study fails for good"),
            ("0xB000, or failed sub-operations", "tried again"),
            ("any other", "tried again, with the status shown"),
        ],
    )


def _web(doc: Document) -> None:
    doc.heading(3, "DICOM Web Services")
    doc.text("Statuses that we answer stand with the resources. Those that destinations answer to STOW-RS:")
    failures = [status for status in HTTPStatus if status >= 400]
    doc.table(
        "STOW-RS responses that we get, where the answer says nothing of the object",
        ("the delivery is", "statuses"),
        [("stored", "200, 201 and 204 with an empty answer")]
        + [
            (
                verdict.value,
                ", ".join(str(int(s)) for s in failures if stow.verdict_of(s) is verdict and s != 409),
            )
            for verdict in statuses.Verdict
            if any(stow.verdict_of(status) is verdict for status in failures)
        ],
    )
    doc.text(
        """What the answer says of the object counts before the status: its Failure Reason or Warning
        Reason is read as a status of C-STORE is. Of 409, and of a success that does not name the
        object, the destination is asked by QIDO-RS whether it has it."""
    )
