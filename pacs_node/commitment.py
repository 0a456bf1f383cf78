"""Storage Commitment Push Model: its names, its reasons, and the data sets that pass (PS3.4 Annex J).

Both our sides speak from here: the one that asks archives for a promise, and the one that is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pynetdicom.presentation import PresentationContext, build_context

from db.commitments import Refusal, Remedy
from pacs_node import codecs, header, statuses

SOP_CLASS = "1.2.840.10008.1.20.1"
SOP_INSTANCE = "1.2.840.10008.1.20.1.1"
"""The one instance of the service, the same everywhere (PS3.4 J.3.5)."""
REQUEST = 1
"""The action type that asks (PS3.4 J.3.2)."""
ALL_PROMISED, SOME_REFUSED = 1, 2
"""The event types that answer (PS3.4 J.3.3)."""
MOST_INSTANCES = 10_000
"""References that we take in one request."""


@dataclass(frozen=True, slots=True)
class Reason:
    """A failure reason: what it means, what we do when an archive gives it, and when we give it."""

    code: int
    name: str
    remedy: Remedy
    ours: str = ""


REASONS: tuple[Reason, ...] = (
    Reason(
        statuses.PROCESSING_FAILURE, "Processing failure", Remedy.RESEND,
        "no archive has promised to keep the object, or not in time",
    ),
    Reason(
        statuses.NO_SUCH_INSTANCE, "No such object instance", Remedy.RESEND,
        "the object was never received, or is not kept any more",
    ),
    Reason(
        statuses.CLASS_INSTANCE_CONFLICT, "Class / instance conflict", Remedy.GIVE_UP,
        "the object was received under another SOP class",
    ),
    Reason(statuses.SOP_CLASS_NOT_SUPPORTED, "Referenced SOP class not supported", Remedy.GIVE_UP),
    Reason(statuses.DUPLICATE_TRANSACTION, "Duplicate transaction UID", Remedy.ASK_AGAIN),
    Reason(statuses.RESOURCE_LIMITATION, "Resource limitation", Remedy.ASK_AGAIN),
)  # fmt: skip
"""PS3.3 C.14.1.1; the conformance statement prints them. Another one counts as a processing failure."""


ANSWERS: tuple[tuple[int, str, str], ...] = (
    (statuses.SUCCESS, "Success", "a request is on stable storage, or a report written down"),
    (statuses.PROCESSING_FAILURE, "Processing failure", "an error without a status of its own"),
    (statuses.NO_SUCH_INSTANCE, "No such SOP instance", "another than the one instance of the service"),
    (
        statuses.INVALID_ARGUMENT, "Invalid argument value",
        "a data set without what the service needs, an unknown transaction, or a UID that is in use",
    ),
    (statuses.NO_SUCH_SOP_CLASS, "No such SOP class", "SOP class of command and presentation context differ"),
    (statuses.NO_SUCH_ACTION, "No such action type", "another than a request for commitment"),
    (statuses.UNRECOGNISED_OPERATION, "Unrecognised operation", "commitment is not offered to callers"),
    (statuses.RESOURCE_LIMITATION, "Resource limitation", "the database does not answer"),
)  # fmt: skip
"""What we answer to N-ACTION and N-EVENT-REPORT: status, name, when. The conformance statement prints it."""


def context() -> PresentationContext:
    """The service as it is proposed and accepted."""
    return build_context(SOP_CLASS, [codecs.EXPLICIT_VR_LITTLE_ENDIAN, codecs.IMPLICIT_VR_LITTLE_ENDIAN])


def refusal(code: int) -> Refusal:
    """What a failure reason means for the delivery."""
    known = next((r for r in REASONS if r.code == code), None)
    name, remedy = (known.name, known.remedy) if known else ("unknown reason", Remedy.RESEND)
    return Refusal(code, f"0x{code:04X} {name}", remedy)


class Unusable(ValueError):
    """A data set that lacks what the service needs; the message is for whoever sent it."""


def action_information(transaction_uid: str, instances: Iterable[tuple[str, str]]) -> Dataset:
    """What an N-ACTION asks: `instances` are SOP class and SOP Instance UIDs (PS3.4 Table J.3-1)."""
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    ds.ReferencedSOPSequence = Sequence(_reference(*names) for names in instances)
    return ds


def read_action(ds: Dataset) -> tuple[str, list[tuple[str, str]]]:
    """Transaction UID and the SOP class and instance UIDs of a request. Raises :class:`Unusable`."""
    with _readable():
        instances = [_names(item) for item in _items(ds, "ReferencedSOPSequence")]
        if not instances:
            raise Unusable("Referenced SOP Sequence is empty")
        if len(instances) > MOST_INSTANCES:
            raise Unusable(f"more than {MOST_INSTANCES} instances in one request")
        return _transaction(ds), instances


def event_information(
    transaction_uid: str, verdicts: Mapping[tuple[str, str], int | None]
) -> tuple[int, Dataset]:
    """Event type and data set of an answer: each SOP class and instance with None for yes, or the failure
    reason (PS3.4 Table J.3-2)."""
    promised = [_reference(*names) for names, reason in verdicts.items() if reason is None]
    failed = [_reference(*names, reason) for names, reason in verdicts.items() if reason is not None]
    ds = Dataset()
    ds.TransactionUID = transaction_uid
    if promised:
        ds.ReferencedSOPSequence = Sequence(promised)
    if failed:
        ds.FailedSOPSequence = Sequence(failed)
    return (SOME_REFUSED if failed else ALL_PROMISED), ds


def read_event(ds: Dataset) -> tuple[str, dict[str, Refusal | None]]:
    """Transaction UID and what is said of each SOP Instance UID: None for a promise. Raises
    :class:`Unusable`."""
    answers: dict[str, Refusal | None] = {}
    with _readable():
        for item in _items(ds, "ReferencedSOPSequence"):
            answers[_names(item)[1]] = None
        for item in _items(ds, "FailedSOPSequence"):  # what stands in both has failed
            answers[_names(item)[1]] = refusal(int(item.get("FailureReason") or statuses.PROCESSING_FAILURE))
        return _transaction(ds), answers


@contextmanager
def _readable() -> Iterator[None]:
    """Turn whatever pydicom raises for a value that cannot be read into :class:`Unusable`."""
    try:
        yield
    except Unusable:
        raise
    except Exception as error:
        raise Unusable("a value of the data set cannot be read") from error


def _reference(sop_class_uid: str, sop_instance_uid: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    if reason is not None:
        item.FailureReason = reason
    return item


def _items(ds: Dataset, keyword: str) -> Iterable[Dataset]:
    value = ds.get(keyword)
    return value if isinstance(value, Sequence) else ()


def _transaction(ds: Dataset) -> str:
    try:
        return header.check_uid(str(ds.get("TransactionUID") or ""), "Transaction UID")
    except header.HeaderError as error:
        raise Unusable(str(error)) from error


def _names(item: Dataset) -> tuple[str, str]:
    sop_class, instance = (
        str(item.get(k) or "") for k in ("ReferencedSOPClassUID", "ReferencedSOPInstanceUID")
    )
    try:
        return (
            header.check_uid(sop_class, "Referenced SOP Class UID"),
            header.check_uid(instance, "Referenced SOP Instance UID"),
        )
    except header.HeaderError as error:
        raise Unusable(str(error)) from error
