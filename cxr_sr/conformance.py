"""The DICOM Conformance Statement, written from the very tables that the code negotiates with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def statement() -> str:
    """The statement as Markdown, for the decoders that are installed here."""
    from config import Settings
    from pacs_node import codecs, identity, receiver, statuses

    dicom = Settings.model_fields["dicom"].default
    decodable = codecs.decodable()
    accepted = [(name, f"`{uid}`") for uid, name in receiver.SOP_CLASSES.items()]
    syntaxes = [
        (codecs.CODECS[uid].name, f"`{uid}`", ", ".join(codecs.CODECS[uid].installed)) for uid in decodable
    ]
    ours = [(f"0x{row.first:04X}", row.name, row.ours) for row in statuses.TABLE if row.ours]
    theirs = [
        (
            f"0x{row.first:04X}" if row.first == row.last else f"0x{row.first:04X} to 0x{row.last:04X}",
            row.name,
            row.verdict,
        )
        for row in statuses.TABLE
    ]
    return "\n\n".join(
        [
            f"# DICOM Conformance Statement: {identity.PRODUCT} {identity.software_version()}",
            "The product receives radiographs, makes an enlarged copy of each with a super-resolution network, and "
            "sends the copy as a new series of the same study to configured archives. Its results are research "
            "output and not cleared for diagnosis.",
            "This statement is written by `cxr-sr conformance` from the tables that the program negotiates with, "
            "for the decoders installed on this machine.",
            "## Identification",
            _table(
                ("item", "value"),
                [
                    ("Implementation Class UID", f"`{identity.IMPLEMENTATION_CLASS_UID}`"),
                    ("Implementation Version Name", f"`{identity.IMPLEMENTATION_VERSION_NAME}`"),
                    ("Default AE title", f"`{dicom.ae_title}`"),
                    ("Default address", f"`{dicom.host}:{dicom.port}`"),
                ],
            ),
            "AE title, address and port are configured (`dicom.ae_title`, `dicom.host`, `dicom.port`).",
            "## As acceptor of associations (SCP)",
            "Verification (`1.2.840.10008.1.1`), and storage of:",
            _table(("SOP class", "UID"), accepted),
            "Objects of Digital X-Ray Image Storage - For Processing are stored and not enhanced. Each storage SOP class "
            "is accepted in every transfer syntax of the following table.",
            _table(("transfer syntax", "UID", "decoded by"), syntaxes),
            f"At most {dicom.max_associations} associations at once and PDUs of at most {dicom.max_pdu} bytes are "
            "accepted by default. Callers are admitted by AE title and address (`dicom.allow`); with no list, only "
            "from the same machine. Asynchronous operations, extended negotiation and user identity are not supported.",
            "### Statuses that are returned",
            _table(("status", "name", "when"), ours),
            "## As requestor of associations (SCU)",
            "Verification, to test a destination. Storage of the results, in the SOP class of the object that was "
            "received, in Explicit VR Little Endian or Implicit VR Little Endian.",
            "### What becomes of a delivery after each status",
            _table(("status", "name", "the delivery is"), theirs),
            "## Not supported",
            "Storage commitment, query and retrieve, modality worklist, performed procedure step, media interchange.",
        ]
    )  # fmt: skip


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
