"""Chapter 5: services and how they work together."""

from __future__ import annotations

from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from cxr_sr.conformance import web
from cxr_sr.conformance.document import Document
from cxr_sr.conformance.words import AE, attribute, code, sop_class, syntaxes, yes
from pacs_node import commitment, pull, pull_dimse, receiver, transcode
from pacs_node.secondary import IDENTITY

CHARACTER_SETS = (
    "ISO_IR 6", "ISO_IR 13", "ISO_IR 100", "ISO_IR 101", "ISO_IR 109", "ISO_IR 110", "ISO_IR 126",
    "ISO_IR 127", "ISO_IR 138", "ISO_IR 144", "ISO_IR 148", "ISO_IR 166", "ISO_IR 192", "GB18030", "GBK",
    "ISO 2022 IR 6", "ISO 2022 IR 13", "ISO 2022 IR 87", "ISO 2022 IR 100", "ISO 2022 IR 101",
    "ISO 2022 IR 109", "ISO 2022 IR 110", "ISO 2022 IR 126", "ISO 2022 IR 127", "ISO 2022 IR 138",
    "ISO 2022 IR 144", "ISO 2022 IR 148", "ISO 2022 IR 149", "ISO 2022 IR 159", "ISO 2022 IR 166",
    "ISO 2022 IR 58",
)  # fmt: skip
"""Defined terms of Specific Character Set that are read; a test asks the library for each."""


def write(doc: Document) -> None:
    """Chapter 5."""
    doc.heading(1, "Service and Interoperability Description")
    doc.heading(2, "Mapping of Services to Application Entities")
    doc.text(f"All services are those of {AE}.")
    _dimse(doc)
    _web(doc)
    doc.heading(2, "Media Services")
    doc.text("None.")
    doc.heading(2, "Real-Time Video Services")
    doc.text("None.")
    _cross_service(doc)
    _character_sets(doc)


def _dimse(doc: Document) -> None:
    doc.heading(2, "DIMSE Services")
    doc.heading(3, "Verification Service")
    doc.text("As SCP every C-ECHO of an admitted caller is answered with success. As SCU see the activities.")
    doc.table(
        "Verification",
        ("SOP class", "UID", "SCU", "SCP"),
        [(*sop_class(str(Verification)), "Y", "Y")],
    )
    for title in (
        "Basic Worklist Management Service", "Modality Performed Procedure Step Service",
        "Unified Worklist and Procedure Step Service", "Instance Availability Notification Service",
    ):  # fmt: skip
        doc.heading(3, title)
        doc.text("Not supported.")

    doc.heading(3, "Storage Service")
    doc.heading(4, "SCU of the Storage SOP Classes")
    doc.text(
        """Results, rejection notes and, where a rule says so, originals are sent. A destination is asked
        for exactly the SOP class and transfer syntaxes of the object; nothing is sent that was not
        accepted. An answer that an object is stored, with or without a warning, ends the delivery;
        others end it or let it be tried again, with growing pauses, until it expires (see the status
        codes). An association that failed in any way is not used again.""",
        f"""Results travel uncompressed, or, as `destinations.transfer_syntax` says, in one of
        {syntaxes(transcode.SYNTAXES.values())}, all without loss and under the same SOP Instance UID.
        An original travels in the transfer syntax in which it came.""",
    )
    doc.heading(4, "SCP of the Storage SOP Classes")
    doc.table(
        "Storage, as SCP",
        ("SOP class", "UID"),
        [sop_class(uid) for uid in receiver.SOP_CLASSES],
    )
    doc.text(
        """Conformance is of level 2 (full): every element that was received is kept, private ones too.
        Success (0x0000) is answered when the object is on stable storage and its row in the database
        committed, never before. The same bytes under the same SOP Instance UID are one object however
        often they come; other bytes under it are kept beside the first, never in its place. Objects of
        Digital X-Ray Image Storage - For Processing are stored and not enhanced. Sources are kept for
        `retention.sources_days` and then removed: the product is no archive."""
    )

    doc.heading(3, "Storage Commitment Service")
    doc.table(
        "Storage commitment",
        ("SOP class", "UID", "SCU", "SCP"),
        [(*sop_class(commitment.SOP_CLASS), "Y", "Y")],
    )
    doc.text(
        """As SCU: a destination with `storage_commitment` is asked for each object that it has taken, with
        a transaction of its own. Its answer is taken on the same association, for a moment, or on one
        that it opens to our receiver, and is always acknowledged. Where it does not come within
        `commitment_hours`, or says no, what follows is in the table of failure reasons.""",
        f"""As SCP, off by default (`dicom.storage_commitment`): yes is said only of objects that an archive
        has committed to us. At most {commitment.MOST_INSTANCES} instances are taken in one request. The
        answer comes on an association that we open to the configured destination of the caller's AE
        title (role selection: SCP), or, where there is none, on the caller's own while that is open.""",
    )
    doc.heading(3, "Query/Retrieve Service")
    doc.table(
        "Query and retrieve, as SCU",
        ("SOP class", "UID"),
        [sop_class(str(uid)) for uid in (pull_dimse.FIND, pull_dimse.GET, pull_dimse.MOVE)],
    )
    doc.table(
        "Keys of searches at the level of studies",
        ("attribute", "tag", "matched", "shown", "put into a picture"),
        [
            (
                *attribute(keyword), yes(keyword in pull.TERMS.values()), yes(keyword in pull.SHOWN),
                yes(keyword in IDENTITY),
            )
            for keyword in dict.fromkeys((*pull.TERMS.values(), *pull.SHOWN, *IDENTITY))
        ],
    )  # fmt: skip
    doc.text(
        f"""Searches are relational neither in request nor in answer, and ask for one modality after another
        ({" and ".join(pull.MODALITIES)} if none is named). Queries that are not ASCII are in ISO_IR
        192. Series are asked for by Modality and Series Instance UID, instances by SOP Instance UID. As
        SCP the service is not supported."""
    )
    doc.heading(3, "Print Management Service")
    doc.text("Not supported.")


def _web(doc: Document) -> None:
    doc.heading(2, "DICOM Web Services")
    doc.heading(3, "URI Web Service")
    doc.text("Not supported.")
    doc.heading(3, "Studies Web Service")
    doc.heading(4, "Origin Server")
    doc.text(
        """Served by the role `web` below `/dicomweb` to people with a login and to programs with a token
        (`Authorization: Bearer`). Sources and results are shown side by side; results that wait for
        release or were withdrawn are not. Each answer may also be 400, 401, 403, 404, 422 or 500, with
        a problem document (RFC 9457)."""
    )
    doc.table(
        "Resources",
        ("method", "path", "transaction", "answers", "further statuses"),
        [
            (method, code(path), summary, answers, problems)
            for method, path, summary, answers, problems in web.resources()
        ],
    )
    doc.table("Keys of searches", ("attribute", "tag", "level", "matching"), _keys())
    doc.text("Fuzzy matching is not supported. Attributes beyond these are returned if `includefield` asks.")
    doc.heading(4, "User Agent")
    doc.text(
        """Destinations of kind `dicomweb` get objects by STOW-RS, one a request, as `multipart/related;
        type="application/dicom"`. Archives of that kind are searched by QIDO-RS and read by WADO-RS.
        Sign-in is by nothing, password (basic), token (bearer) or OAuth 2.0 client credentials."""
    )
    for title in (
        "Worklist Web Service", "Non-Patient Instance Web Service", "Storage Commitment Web Service",
    ):  # fmt: skip
        doc.heading(3, title)
        doc.text("Not supported.")


def _keys() -> list[tuple[str, ...]]:
    from webui.dicomweb.keys import KEYS

    return [
        (key.keyword, f"({key.name[:4]},{key.name[4:]})", key.level.name.lower(), str(key.match))
        for key in KEYS
    ]


def _cross_service(doc: Document) -> None:
    doc.heading(2, "Cross-Service Considerations")
    doc.items(
        """A result is of the SOP class, patient, study and order of its source, in a new series: one for
        each source series, model, version and scale.""",
        """UIDs of results are functions of installation, source, model, scale and settings: the same work
        done again makes the same object, not a twin.""",
        """A source that comes again with corrected patient or study attributes and the same pixels amends
        its result: a new object is made on the stored pixels, the old one is withdrawn by a rejection
        note.""",
        """Our own results that come back are recognised by our UIDs, stored, and not enhanced again.""",
        """Labels in the image (`destinations.label`) make an object of its own for that destination.""",
    )


def _character_sets(doc: Document) -> None:
    doc.heading(2, "Specific Character Sets")
    doc.text(
        f"""Read: {", ".join(CHARACTER_SETS)}. Text of a source that is not changed travels with its result
        as the bytes that it was, in the character set that the source names. What we write ourselves is
        ASCII. A character set that is missing, unknown or does not fit fails no object. Searches and
        answers by DICOMweb are in UTF-8."""
    )
