"""What we do on a network as requestor of associations: the presentation contexts of each activity.

Read from the modules that propose them; a test lets each of them call a peer and compares.
"""

from __future__ import annotations

from dataclasses import dataclass

from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from pacs_node import codecs, commitment, pull_dimse, receiver, transcode
from pacs_node.consignment import KEY_OBJECT_SELECTION

UNCOMPRESSED = (codecs.EXPLICIT_VR_LITTLE_ENDIAN, codecs.IMPLICIT_VR_LITTLE_ENDIAN)


@dataclass(frozen=True)
class Context:
    """One line of a table of presentation contexts; syntaxes in the order of preference."""

    sop_class: str
    syntaxes: tuple[str, ...]
    role: str = "SCU"


@dataclass(frozen=True)
class Activity:
    """A real-world activity that opens associations: its name, when it happens, what it proposes."""

    name: str
    when: str
    contexts: tuple[Context, ...]


def requested() -> tuple[Activity, ...]:
    """Every activity, in the order of the statement."""
    compressed = tuple(transcode.SYNTAXES.values())
    results = tuple(
        Context(uid, (*compressed, *UNCOMPRESSED)) for uid in receiver.SOP_CLASSES if uid != FOR_PROCESSING
    )
    originals = tuple(Context(uid, tuple(codecs.CODECS)) for uid in receiver.SOP_CLASSES)
    fetched = tuple(Context(uid, codecs.decodable(), "SCP") for uid in receiver.SOP_CLASSES)
    find, commit = Context(str(pull_dimse.FIND), UNCOMPRESSED), commitment.context()
    return (
        Activity(
            "Verify a destination or an archive",
            "by the clock (`scheduler.echo_seconds`), by `cxr-sr doctor`, and from the system page",
            (Context(str(Verification), UNCOMPRESSED),),
        ),
        Activity(
            "Deliver a result",
            "when a result is ready, or has been released. Only what will be sent is proposed: the "
            "compressed syntax if `destinations.transfer_syntax` asks for one, and the uncompressed ones",
            results,
        ),
        Activity(
            "Forward an original",
            "when a rule says so (`forward_original`), in the transfer syntax in which it came, or else "
            "uncompressed",
            originals,
        ),
        Activity(
            "Withdraw a result",
            "when a delivered result is retracted or amended: a rejection note follows it to its destination",
            (Context(KEY_OBJECT_SELECTION, UNCOMPRESSED),),
        ),
        Activity(
            "Ask for storage commitment",
            "after a destination with `storage_commitment` has taken an object",
            (Context(commitment.SOP_CLASS, tuple(map(str, commit.transfer_syntax))),),
        ),
        Activity(
            "Answer a request for storage commitment",
            "when what a caller has asked about is decided; we propose to be the SCP (role selection)",
            (Context(commitment.SOP_CLASS, tuple(map(str, commit.transfer_syntax)), "SCP"),),
        ),
        Activity(
            "Ask whether an original is there",
            "before an original is forwarded where `forward_original` is `if_missing`",
            (find,),
        ),
        Activity(
            "Search an archive",
            "when somebody searches on the page of archives or by `cxr-sr fetch`",
            (find,),
        ),
        Activity(
            "Retrieve by C-GET",
            "when studies of an archive with `retrieve` `get` are worked through; a context for each "
            "storage SOP class and transfer syntax, with the role of SCP",
            (find, Context(str(pull_dimse.GET), UNCOMPRESSED), *fetched),
        ),
        Activity(
            "Retrieve by C-MOVE",
            "when studies of an archive with `retrieve` `move` are worked through; the images come to our "
            "receiver",
            (find, Context(str(pull_dimse.MOVE), UNCOMPRESSED)),
        ),
    )


FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
"""Received, never derived from."""
