"""Chapters 2 to 4: contents, introduction, implementation model."""

from __future__ import annotations

from cxr_sr.conformance.document import Document
from cxr_sr.conformance.words import AE
from pacs_node import identity


def write(doc: Document) -> None:
    """Chapters 2, 3 and 4."""
    doc.heading(1, "Table of Contents")
    doc.contents()
    doc.heading(1, "Introduction")
    doc.heading(2, "Revision History")
    doc.text(
        f"""This text describes version {identity.software_version()}. It changes with the program; the
        changes of each version stand in CHANGELOG.md."""
    )
    doc.heading(2, "Audience")
    doc.text(
        """Administrators and engineers of PACS, modalities and networks who connect the product to others,
        and know DICOM."""
    )
    doc.heading(2, "Remarks")
    doc.text(
        """A conformance statement lets a reader compare two products; it does not guarantee that they work
        together, and replaces no test. Whoever connects the product is responsible for such tests."""
    )
    doc.heading(2, "Terms and Definitions")
    doc.table(
        "Terms of this product",
        ("term", "meaning"),
        [
            ("source", "an image as it was received, never changed"),
            ("result", "the object derived from a source: its pixels enlarged, in a series of its own"),
            ("original", "a source that is forwarded to a destination"),
            ("delivery", "one object on its way to one destination, until it has arrived, failed or expired"),
            ("rejection note", "a Key Object Selection document that withdraws a delivered result"),
        ],
    )
    doc.text("Other terms are those of the DICOM Standard.")
    doc.heading(2, "Abbreviations")
    doc.text(
        """AE application entity; AET its title; DIMSE DICOM message service element; IOCM imaging object
        change management; PDU protocol data unit; SCP and SCU provider and user of a service; SOP
        service-object pair."""
    )
    doc.heading(2, "References")
    doc.text("NEMA PS3, Digital Imaging and Communications in Medicine (DICOM) Standard, 2026b.")

    doc.heading(1, "Implementation Model")
    doc.heading(2, "Application Entities and Data Flow")
    doc.text(
        f"""There is one application entity, {AE} by default. It accepts associations (role `receiver`) and
        opens them (roles `sender` and `scheduler`); its web services are those of the role `web`."""
    )
    doc.table(
        "Real-world activities",
        ("activity", "role", "direction"),
        [
            ("A modality or archive sends images", "receiver", "in, C-STORE"),
            ("A caller tests the connection", "receiver", "in, C-ECHO"),
            ("A caller asks us to commit to what it sent", "receiver", "in, N-ACTION"),
            ("An archive tells us what it has committed to", "receiver, sender", "in, N-EVENT-REPORT"),
            ("Results, originals and rejection notes are delivered", "sender", "out, C-STORE or STOW-RS"),
            ("Archives are asked to commit", "sender", "out, N-ACTION"),
            ("Archives are searched", "sender", "out, C-FIND or QIDO-RS"),
            ("Studies are fetched", "sender", "out, C-GET, C-MOVE or WADO-RS"),
            ("Destinations are tested", "scheduler, sender", "out, C-ECHO"),
            ("Viewers and programs store, search and retrieve", "web", "in, STOW-RS, QIDO-RS, WADO-RS"),
        ],
    )  # fmt: skip
    doc.heading(3, f"Functional Definition of {AE}")
    doc.text(
        """The receiver puts each object on stable storage, commits its row in the database and then
        answers success. A worker decodes it in a process of its own, decides by rules whether and how
        it is enhanced, derives the result and queues its deliveries. The sender delivers each to its
        destinations until it has arrived, is refused for good or expires."""
    )
    doc.heading(3, "Sequencing of Real-World Activities")
    doc.text(
        """Each image is worked through by itself as soon as it has come; no end of a study is waited for.
        Orders of a higher priority go first. A delivery begins when the result is stored, or when a
        person has released it where a rule asks for that."""
    )
