"""One audit message as a value, and as XML after the schema of PS3.15 A.5.1.

What strangers wrote (AE titles, patient IDs) is escaped; characters that XML cannot hold are left out.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from xml.etree import ElementTree

from pacs_node.audit.codes import Code

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
HEAD = '<?xml version="1.0" encoding="UTF-8"?>'

_APPLICATION_SERVER = "4"
PERSON, SYSTEM = "1", "2"
"""ParticipantObjectTypeCode."""
PATIENT, REPORT, SECURITY_RESOURCE, QUERY = "1", "3", "13", "24"
"""ParticipantObjectTypeCodeRole."""


class Outcome(Enum):
    """EventOutcomeIndicator."""

    SUCCESS = "0"
    MINOR_FAILURE = "4"
    SERIOUS_FAILURE = "8"
    MAJOR_FAILURE = "12"


@dataclass(frozen=True)
class Participant:
    """An ActiveParticipant: a person or a process that took part."""

    user_id: str
    requestor: bool
    role: Code | None = None
    alternative_id: str = ""
    name: str = ""
    address: str = ""
    """Host name or IP address."""
    media: Code | None = None


@dataclass(frozen=True)
class Instances:
    """SOPClass of an object's description: how many instances of a class, and which."""

    sop_class_uid: str
    uids: tuple[str, ...] = ()
    number: int = 1


@dataclass(frozen=True)
class Subject:
    """A ParticipantObjectIdentification: what it was done to. `details` are names and plain values."""

    id: str
    id_type: Code
    type_code: str
    role: str
    name: str = ""
    query: bytes | None = None
    details: tuple[tuple[str, str], ...] = ()
    accession: str = ""
    instances: tuple[Instances, ...] = ()


@dataclass(frozen=True)
class Message:
    """An AuditMessage. `action` is EventActionCode: C, R, U, D or E."""

    event: Code
    action: str
    at: datetime
    outcome: Outcome
    source_id: str
    participants: tuple[Participant, ...]
    type: Code | None = None
    comment: str = ""
    subjects: tuple[Subject, ...] = field(default=())

    def xml(self) -> bytes:
        """The message in UTF-8, on one line."""
        root = ElementTree.Element("AuditMessage")
        _event(root, self)
        for participant in self.participants:
            _participant(root, participant)
        said = {"AuditSourceID": _text(self.source_id)}
        source = ElementTree.SubElement(root, "AuditSourceIdentification", said)
        ElementTree.SubElement(source, "AuditSourceTypeCode", {"csd-code": _APPLICATION_SERVER})
        for subject in self.subjects:
            _subject(root, subject)
        return (HEAD + ElementTree.tostring(root, encoding="unicode")).encode()


def _event(root: ElementTree.Element, message: Message) -> None:
    element = ElementTree.SubElement(
        root,
        "EventIdentification",
        EventActionCode=message.action,
        EventDateTime=timestamp(message.at),
        EventOutcomeIndicator=message.outcome.value,
    )
    _coded(element, "EventID", message.event)
    if message.type is not None:
        _coded(element, "EventTypeCode", message.type)
    if message.comment:
        ElementTree.SubElement(element, "EventOutcomeDescription").text = _text(message.comment)


def _participant(root: ElementTree.Element, participant: Participant) -> None:
    said = {"UserID": _text(participant.user_id)}
    if participant.alternative_id:
        said["AlternativeUserID"] = _text(participant.alternative_id)
    if participant.name:
        said["UserName"] = _text(participant.name)
    said["UserIsRequestor"] = "true" if participant.requestor else "false"
    if participant.address:
        said["NetworkAccessPointID"] = _text(participant.address)
        said["NetworkAccessPointTypeCode"] = "2" if _is_ip(participant.address) else "1"
    element = ElementTree.SubElement(root, "ActiveParticipant", said)
    if participant.role is not None:
        _coded(element, "RoleIDCode", participant.role)
    if participant.media is not None:
        _coded(ElementTree.SubElement(element, "MediaIdentifier"), "MediaType", participant.media)


def _subject(root: ElementTree.Element, subject: Subject) -> None:
    element = ElementTree.SubElement(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=_text(subject.id),
        ParticipantObjectTypeCode=subject.type_code,
        ParticipantObjectTypeCodeRole=subject.role,
    )
    _coded(element, "ParticipantObjectIDTypeCode", subject.id_type)
    if subject.query is not None:
        ElementTree.SubElement(element, "ParticipantObjectQuery").text = _base64(subject.query)
    else:
        ElementTree.SubElement(element, "ParticipantObjectName").text = _text(subject.name)
    for name, value in subject.details:
        ElementTree.SubElement(
            element,
            "ParticipantObjectDetail",
            type=_text(name),
            value=_base64(value.encode("utf-8", "replace")),
        )
    if not subject.instances:
        return
    described = ElementTree.SubElement(element, "ParticipantObjectDescription")
    if subject.accession:
        ElementTree.SubElement(described, "Accession", Number=_text(subject.accession))
    for instances in subject.instances:
        of_class = ElementTree.SubElement(
            described,
            "SOPClass",
            UID=_text(instances.sop_class_uid),
            NumberOfInstances=str(instances.number),
        )
        for uid in instances.uids:
            ElementTree.SubElement(of_class, "Instance", UID=_text(uid))


def _coded(parent: ElementTree.Element, tag: str, code: Code) -> None:
    ElementTree.SubElement(
        parent,
        tag,
        {"csd-code": code.value, "codeSystemName": code.scheme, "originalText": code.meaning},
    )


def timestamp(at: datetime) -> str:
    """A time in UTC to the millisecond, as XML Schema and RFC 5424 write it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(value: str) -> str:
    """Printable by XML 1.0, on one line."""
    return " ".join(_NOT_XML.sub("", value).split())


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True
