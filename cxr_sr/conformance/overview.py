"""Chapter 1, the overview: what is exchanged, and by which services."""

from __future__ import annotations

from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from cxr_sr.conformance import web
from cxr_sr.conformance.document import Document
from cxr_sr.conformance.words import code, sop_class, yes
from pacs_node import codecs, colour, commitment, decode, identity, pull_dimse, receiver, recipe, transcode
from pacs_node.consignment import KEY_OBJECT_SELECTION


def write(doc: Document) -> None:
    """Title and chapter 1."""
    doc.title = f"DICOM Conformance Statement: {identity.PRODUCT} {identity.software_version()}"
    doc.heading(1, "Overview")
    doc.text(
        """The product receives radiographs, makes an enlarged copy of each with a super-resolution
        network, and sends the copy as a new series of the same study to configured archives. Its
        results are research output and **not cleared for diagnosis**.""",
        """This statement is written by `cxr-sr conformance` from the tables that the program negotiates
        with, for the decoders installed on the machine that writes it. Its structure is that of PS3.2
        Annex N.""",
    )
    doc.heading(2, "Content and Transfer")
    doc.table(
        "Content",
        ("SOP class", "UID", "received", "enhanced", "made", "sent"),
        [
            (*sop_class(uid), "Y", yes(uid in made), yes(uid in made), "Y")
            for made in [recipe.ENHANCEABLE_SOP_CLASSES]
            for uid in receiver.SOP_CLASSES
        ]
        + [(*sop_class(KEY_OBJECT_SELECTION), "N", "N", "Y", "Y")],
    )
    grey, coloured = ", ".join(decode.PHOTOMETRIC), ", ".join((*colour.THREE_SAMPLES, colour.PALETTE))
    doc.text(
        f"""Images have one frame of up to 16 bits, signed or not, {grey}. Grey that is written as
        {coloured} is read too, and its result is MONOCHROME2; what is coloured, or has several frames,
        is stored and skipped with the reason, as is whatever else cannot be enhanced. Key Object
        Selection documents are rejection notes (IHE IOCM)."""
    )
    doc.table(
        "Transfer syntaxes",
        ("transfer syntax", "UID", "received and decoded", "sent, results", "decoded by"),
        [
            (codec.name, code(codec.uid), "Y", yes(codec.uid in sent), ", ".join(codec.installed))
            for sent in [{*transcode.SYNTAXES.values(), codecs.EXPLICIT_VR_LITTLE_ENDIAN,
                          codecs.IMPLICIT_VR_LITTLE_ENDIAN}]
            for codec in map(codecs.CODECS.__getitem__, codecs.decodable())
        ],
    )  # fmt: skip
    doc.heading(3, "Structured Reporting Root Template IDs")
    doc.text("Rejection notes follow TID 2010 (Key Object Selection). No other structured reports are made.")

    doc.heading(2, "DIMSE Services")
    doc.table(
        "Network services",
        ("service", "SOP class", "UID", "SCU", "SCP", "only if configured"),
        [
            ("Verification", *sop_class(str(Verification)), "Y", "Y", ""),
            *(("Storage", *sop_class(uid), "Y", "Y", "") for uid in receiver.SOP_CLASSES),
            ("Storage", *sop_class(KEY_OBJECT_SELECTION), "Y", "N", ""),
            (
                "Storage Commitment", *sop_class(commitment.SOP_CLASS), "Y", "Y",
                "`destinations.storage_commitment` (SCU), `dicom.storage_commitment` (SCP)",
            ),
            *(
                ("Query/Retrieve", *sop_class(str(uid)), "Y", "N", "`archives`")
                for uid in (pull_dimse.FIND, pull_dimse.GET, pull_dimse.MOVE)
            ),
        ],
    )  # fmt: skip
    doc.text("Modality worklist, performed procedure step, unified worklist and print are not supported.")

    doc.heading(2, "DICOM Web Services")
    doc.table(
        "Studies service",
        ("transaction", "origin server", "user agent", "only if configured"),
        [
            (name, yes(name in web.SERVED), yes(name in web.USED), web.CONFIGURED.get(name, ""))
            for name in web.TRANSACTIONS
        ],
    )
    doc.text("The URI, worklist, non-patient instance and storage commitment services are not supported.")
    doc.heading(2, "Media Services")
    doc.text(
        """None. The command `cxr-sr enhance` reads and writes single DICOM files (PS3.10), without a
        DICOMDIR."""
    )
    doc.heading(2, "Real-Time Video Service")
    doc.text("None.")
    doc.heading(2, "De-Identification Profiles")
    doc.text("None: patient and study attributes of a source travel with its result.")
    doc.heading(2, "Specific Character Sets")
    doc.text("All that PS3.3 C.12.1.1.2 defines; see the chapter on services.")
