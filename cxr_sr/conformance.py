"""The DICOM Conformance Statement, written from the very tables that the code negotiates with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

TEMPLATE = """\
# DICOM Conformance Statement: {product} {version}

The product receives radiographs, makes an enlarged copy of each with a super-resolution network, and sends
the copy as a new series of the same study to configured archives. Its results are research output and not
cleared for diagnosis.

This statement is written by `cxr-sr conformance` from the tables that the program negotiates with, for the
decoders installed on this machine.

## Identification

{identification}

AE title, address and port are configured (`dicom.ae_title`, `dicom.host`, `dicom.port`).

## As acceptor of associations (SCP)

Verification (`1.2.840.10008.1.1`), and storage of:

{accepted}

Objects of Digital X-Ray Image Storage - For Processing are stored and not enhanced. Each storage SOP class is
accepted in every transfer syntax of the following table.

{syntaxes}

By default at most {max_associations} associations at once and PDUs of at most {max_pdu} bytes are accepted.
Callers are admitted by AE title and address (`dicom.allow`); with no list, only from the same machine.
Asynchronous operations, extended negotiation and user identity are not supported.

### Statuses that are returned

{ours}

## As requestor of associations (SCU)

Verification, to test a destination, and storage of the results in the SOP class of the object that was
received: Explicit VR Little Endian, and Implicit VR Little Endian where a destination takes only that. An
original that is forwarded (`forward_original`) is proposed in the transfer syntax that it came in.

### What becomes of a delivery after each status

{theirs}

## Objects that are made

A result is of the SOP class of its source and of the same study, in a series of its own, and passes on what
the enlargement does not touch. Its Image Type is `DERIVED\\SECONDARY\\\\{image_type}` (value 3 is empty), its
Content Qualification `RESEARCH`. Overlays, private attributes, dose figures and unusable pixel spacings are
left out, which its Derivation Description says.

A picture that is uploaded (PNG, JPEG, TIFF) becomes a Secondary Capture Image with Conversion Type `WSD`.

### Codes in results

{coded}

UIDs are of the form `2.25.` and a UUID as a decimal number; those of this implementation and its devices lie
below `{uid_root}`.

## Not supported

Storage commitment, query and retrieve, modality worklist, performed procedure step, media interchange.
"""


def statement() -> str:
    """The statement as Markdown, for the decoders that are installed here."""
    from config.settings import DicomSettings
    from pacs_node import codecs, identity, provenance, receiver, statuses

    dicom = DicomSettings()
    rows = [codecs.CODECS[uid] for uid in codecs.decodable()]
    return TEMPLATE.format(
        product=identity.PRODUCT,
        version=identity.software_version(),
        max_associations=dicom.max_associations,
        max_pdu=dicom.max_pdu,
        identification=_table(
            ("item", "value"),
            [
                ("Implementation Class UID", f"`{identity.IMPLEMENTATION_CLASS_UID}`"),
                ("Implementation Version Name", f"`{identity.IMPLEMENTATION_VERSION_NAME}`"),
                ("Default AE title", f"`{dicom.ae_title}`"),
                ("Default address", f"`{dicom.host}:{dicom.port}`"),
            ],
        ),
        accepted=_table(
            ("SOP class", "UID"), [(name, f"`{uid}`") for uid, name in receiver.SOP_CLASSES.items()]
        ),
        syntaxes=_table(
            ("transfer syntax", "UID", "decoded by"),
            [(codec.name, f"`{codec.uid}`", ", ".join(codec.installed)) for codec in rows],
        ),
        ours=_table(
            ("status", "name", "when"),
            [(f"0x{row.first:04X}", row.name, row.ours) for row in statuses.TABLE if row.ours],
        ),
        image_type=provenance.OWN_IMAGE_TYPE,
        coded=_table(
            ("where", "value", "scheme", "meaning"),
            [(where, code, scheme, meaning) for where, (code, meaning), scheme in provenance.CODES],
        ),
        uid_root=identity.UID_ROOT,
        theirs=_table(
            ("status", "name", "the delivery is"),
            [(_range(row.first, row.last), row.name, row.verdict.value) for row in statuses.TABLE],
        ),
    )


def _range(first: int, last: int) -> str:
    return f"0x{first:04X}" if first == last else f"0x{first:04X} to 0x{last:04X}"


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
