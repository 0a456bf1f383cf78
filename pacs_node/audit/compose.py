"""From a row of the audit trail, or a step of a delivery, to the message that PS3.15 A.5.3 asks for.

A patient is named by the ID alone: the standard demands it, and nothing more.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from config import Settings
from db.models import AuditEvent, Delivery, Job, JobEvent, Result, Series, Source, Study
from db.states import DeliveryState, JobState
from db.types import utcnow
from pacs_node.audit import codes
from pacs_node.audit.message import (
    PATIENT,
    PERSON,
    REPORT,
    SECURITY_RESOURCE,
    SYSTEM,
    Instances,
    Message,
    Outcome,
    Participant,
    Subject,
)
from pacs_node.audit.triggers import Trigger, trigger
from pacs_node.codecs import EXPLICIT_VR_LITTLE_ENDIAN
from pacs_node.consignment import KEY_OBJECT_SELECTION, NothingToSend, NotMade, consignment
from pacs_node.presence_check import STUDY_ROOT_FIND
from pacs_node.pull import TERMS

NOT_KNOWN = "unknown"
"""Stands where the standard demands an identifier that an object does not have."""
PATIENCE = timedelta(hours=1)
"""How long a message about a received object waits until its study is known."""
_OUTCOMES = {"success": Outcome.SUCCESS, "failure": Outcome.MINOR_FAILURE}
_STEPS = {
    DeliveryState.SENDING.value: Outcome.SUCCESS,
    DeliveryState.STORED.value: Outcome.SUCCESS,
    DeliveryState.FAILED.value: Outcome.SERIOUS_FAILURE,
    DeliveryState.WAITING.value: Outcome.MINOR_FAILURE,
}
_TRANSFERS = {codes.INSTANCES_TRANSFERRED, codes.IMPORT, codes.INSTANCES_ACCESSED, codes.EXPORT}


class Composer:
    """Makes messages for one installation."""

    def __init__(self, settings: Settings) -> None:
        self.source_id = settings.audit.source_id
        self.titles = (settings.dicom.ae_title, *settings.dicom.ae_titles)
        self.host = socket.gethostname()
        self._archives = {archive.name: archive for archive in settings.archives}

    def of_trail(self, session: Session, row: AuditEvent) -> Message | None:
        """The message about a row of the audit trail; None where none is due."""
        found = trigger(row.action)
        if found is None:
            return None
        again = found.event == codes.INSTANCES_TRANSFERRED and row.detail.get("resend")
        message = Message(
            event=found.event,
            type=found.type,
            action="R" if again else found.action,
            at=row.at,
            outcome=_OUTCOMES.get(row.outcome, Outcome.SERIOUS_FAILURE),
            source_id=self.source_id,
            participants=self._who(row, found),
        )
        if found.event == codes.SECURITY_ALERT:
            return replace(message, subjects=(_alert(row),))
        if found.event == codes.AUDIT_LOG_USED:
            return replace(message, subjects=(_log(row),))
        if found.event == codes.QUERY:
            return replace(message, subjects=(self._query(row),))
        if found.event in _TRANSFERS:
            return replace(message, subjects=tuple(_objects(session, row)))
        return message

    def of_delivery(self, session: Session, event: JobEvent) -> Message | None:
        """The message about a step of a delivery; None for steps that move nothing."""
        found = trigger(f"delivery.{event.after}")
        moved = event.before == DeliveryState.SENDING or event.after == DeliveryState.SENDING
        delivery = session.get(Delivery, event.delivery_id) if event.delivery_id is not None else None
        if found is None or not moved or delivery is None:
            return None
        outcome = _STEPS[event.after or ""]
        return Message(
            event=found.event,
            type=found.type,
            action=found.action,
            at=event.at,
            outcome=outcome,
            source_id=self.source_id,
            comment="" if outcome is Outcome.SUCCESS else event.message or "",
            participants=(
                self._us("sender", codes.SOURCE_ROLE, requestor=True),
                _remote(delivery.destination, codes.DESTINATION_ROLE),
            ),
            subjects=tuple(_of_job(delivery.job, [_sent(session, delivery)])),
        )

    def _who(self, row: AuditEvent, found: Trigger) -> tuple[Participant, ...]:
        """The active participants, each event's as its table in PS3.15 A.5.3 has them."""
        user = Participant(self._user_id(row.actor), True, name=row.actor, address=row.address or self.host)
        event = found.event
        if event == codes.APPLICATION_ACTIVITY:
            return (self._process(row),)
        if event == codes.USER_AUTHENTICATION:
            return (user, self._us("web", None, requestor=False))
        if row.action == "association.refused":
            caller = _caller(row, codes.SOURCE_ROLE, requestor=False)
            return (self._us("receiver", None, requestor=True), replace(caller, role=None))
        if row.action == "dimse.store":
            return (
                _caller(row, codes.SOURCE_ROLE, requestor=True),
                self._us("receiver", codes.DESTINATION_ROLE, requestor=False),
            )
        if row.action == "fetch.store":
            archive = _caller(row, codes.SOURCE_ROLE, requestor=False)
            return (archive, self._us("sender", codes.DESTINATION_ROLE, requestor=True))
        if row.action == "archive.search":
            archive = _remote(self._archive(row), codes.DESTINATION_ROLE)
            return (self._us("sender", codes.SOURCE_ROLE, requestor=False), archive, user)
        if event == codes.IMPORT:
            media = Participant("/api/v1/jobs", False, codes.SOURCE_MEDIA, media=codes.MEDIA_URI)
            return (replace(user, role=codes.DESTINATION_ROLE), media)
        if event == codes.EXPORT:
            place = f"/api/v1/jobs/{row.object_id}/result.dcm"
            media = Participant(place, False, codes.DESTINATION_MEDIA, media=codes.MEDIA_URI)
            return (replace(user, role=codes.SOURCE_ROLE), media)
        if event in {codes.QUERY, codes.INSTANCES_TRANSFERRED}:
            asks = row.action == "stow.store" or event == codes.QUERY
            theirs, ours = codes.SOURCE_ROLE, codes.DESTINATION_ROLE
            if not asks:
                theirs, ours = ours, theirs
            return (replace(user, role=theirs), self._us("web", ours, requestor=False))
        if row.actor in {"receiver", "worker", "sender", "scheduler"}:
            return (self._us(row.actor, None, requestor=True),)
        return (user,)

    def _archive(self, row: AuditEvent) -> dict[str, Any]:
        """How the archive of a search is reached; its name alone where it is configured no more."""
        archive = self._archives.get(row.object_id or "")
        return {"name": row.object_id} if archive is None else archive.model_dump(mode="json")

    def _query(self, row: AuditEvent) -> Subject:
        """What was searched for: of an archive by C-FIND as the data set that was sent, else as its words."""
        asked = row.detail.get("query")
        terms = {str(key): str(value) for key, value in asked.items()} if isinstance(asked, dict) else {}
        archive = self._archives.get(row.object_id or "")
        if row.action == "archive.search" and archive is not None and archive.kind == "dimse":
            return Subject(
                STUDY_ROOT_FIND,
                codes.SOP_CLASS_UID,
                SYSTEM,
                REPORT,
                query=_identifier(terms),
                details=(("TransferSyntax", EXPLICIT_VR_LITTLE_ENDIAN),),
            )
        if row.action == "dicomweb.search":
            said = f"{terms.get('path', '')}?{terms.get('query', '')}"
        else:
            said = json.dumps(terms, ensure_ascii=False, sort_keys=True)
        return Subject(row.action, codes.SEARCH_CRITERIA, SYSTEM, REPORT, query=said.encode())

    def _us(self, role: str, code: codes.Code | None, *, requestor: bool) -> Participant:
        return Participant(role, requestor, code, _titles(self.titles), f"cxr-sr {role}", self.host)

    def _process(self, row: AuditEvent) -> Participant:
        pid, host = str(row.detail.get("pid", NOT_KNOWN)), str(row.detail.get("host") or self.host)
        return Participant(pid, False, codes.APPLICATION, _titles(self.titles), f"cxr-sr {row.actor}", host)

    def _user_id(self, actor: str) -> str:
        return f"{actor}@{self.source_id}"


def _identifier(terms: dict[str, str]) -> bytes:
    """A query at the level of studies, in Explicit VR Little Endian."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.QueryRetrieveLevel = "STUDY"
    for name, value in terms.items():
        setattr(ds, TERMS.get(name, name), value)
    return encode(ds, False, True) or b""


def too_early(session: Session, row: AuditEvent) -> bool:
    """Whether a message about a received object should wait: what it shows is not known yet, but may be."""
    if not row.action.endswith(".store") or row.at < utcnow() - PATIENCE:
        return False
    job = _job(session, row)
    return (
        job is not None
        and job.source.examined_at is None
        and job.state in {JobState.QUEUED, JobState.RUNNING}
    )


def _said(row: AuditEvent) -> str:
    said = {key: value for key, value in row.detail.items() if value not in (None, "")}
    return f"{row.action}: {json.dumps(said, ensure_ascii=False, sort_keys=True)}" if said else row.action


def _log(row: AuditEvent) -> Subject:
    """The audit trail itself, and what was done with it: the digest of a seal, what was found."""
    details = (("Description", _said(row)),)
    return Subject(
        "/admin/audit", codes.URI, SYSTEM, SECURITY_RESOURCE, name="Security Audit Log", details=details
    )


def _alert(row: AuditEvent) -> Subject:
    details = (("Alert Description", _said(row)),)
    if row.action == "association.refused":
        address = row.address or NOT_KNOWN
        return Subject(address, codes.NODE_ID, SYSTEM, SECURITY_RESOURCE, details=details)
    name = f"{row.object_type or 'account'}:{row.object_id or row.actor}"
    return Subject(name, codes.URI, SYSTEM, SECURITY_RESOURCE, details=details)


def _objects(session: Session, row: AuditEvent) -> list[Subject]:
    if row.object_type == "job":
        job = _job(session, row)
        if job is None:
            return _unknown([])
        result = job.result if row.action in {"job.download", "job.retract", "job.release"} else None
        return _of_job(job, [_result(result) if result is not None else _source(job.source)])
    return _of_uid(session, row.object_id or "")


def _of_uid(session: Session, uid: str) -> list[Subject]:
    """Study and patient of a study's, series' or instance's UID that somebody retrieved."""
    by_instance = or_(Source.sop_instance_uid == uid, Result.sop_instance_uid == uid)
    jobs = (
        select(Source.series_fk)
        .join(Job, Job.source_id == Source.id)
        .outerjoin(Result, Result.id == Job.result_id)
        .where(or_(by_instance, Result.series_instance_uid == uid))
    )
    query = (
        select(Study)
        .join(Series)
        .where(or_(Study.study_instance_uid == uid, Series.series_instance_uid == uid, Series.id.in_(jobs)))
        .distinct()
        .order_by(Study.id)
    )
    found = [subject for study in session.scalars(query) for subject in _study(study, [])]
    return found or _unknown([])


def _of_job(job: Job, instances: list[Instances]) -> list[Subject]:
    series = job.source.series
    return _unknown(instances) if series is None else _study(series.study, instances)


def _study(study: Study, instances: Iterable[Instances]) -> list[Subject]:
    patient = study.patient
    number = f"{patient.patient_id}^^^{patient.issuer}" if patient.issuer else patient.patient_id
    return [
        Subject(
            study.study_instance_uid or NOT_KNOWN,
            codes.STUDY_INSTANCE_UID,
            SYSTEM,
            REPORT,
            accession=study.accession_number,
            instances=tuple(instances),
        ),
        Subject(number or NOT_KNOWN, codes.PATIENT_NUMBER, PERSON, PATIENT),
    ]


def _unknown(instances: Iterable[Instances]) -> list[Subject]:
    """What is said of an object that nobody could read."""
    return [
        Subject(NOT_KNOWN, codes.STUDY_INSTANCE_UID, SYSTEM, REPORT, instances=tuple(instances)),
        Subject(NOT_KNOWN, codes.PATIENT_NUMBER, PERSON, PATIENT),
    ]


def _job(session: Session, row: AuditEvent) -> Job | None:
    number = row.object_id or ""
    return session.get(Job, int(number)) if row.object_type == "job" and number.isdecimal() else None


def _source(source: Source) -> Instances:
    return _instance(source.sop_class_uid, source.sop_instance_uid)


def _result(result: Result) -> Instances:
    return _instance(result.sop_class_uid, result.sop_instance_uid)


def _sent(session: Session, delivery: Delivery) -> Instances:
    """What a delivery carries."""
    with suppress(NothingToSend, NotMade):
        goods = consignment(session, delivery)
        return _instance(goods.sop_class_uid, goods.sop_instance_uid)
    if delivery.what == "note":
        return _instance(KEY_OBJECT_SELECTION, None)
    result = delivery.job.result
    if delivery.what == "original" or result is None:
        return _source(delivery.job.source)
    return _result(result)


def _instance(sop_class: str | None, uid: str | None) -> Instances:
    return Instances(sop_class or NOT_KNOWN, (uid,) if uid else ())


def _caller(row: AuditEvent, role: codes.Code, *, requestor: bool) -> Participant:
    title = str(row.detail.get("calling") or "")
    name = title or row.address or NOT_KNOWN
    return Participant(name, requestor, role, _titles([title]) if title else "", address=row.address or "")


def _remote(destination: dict[str, Any], role: codes.Code) -> Participant:
    url, title = str(destination.get("url") or ""), str(destination.get("ae_title") or "")
    host = urlsplit(url).hostname if url else destination.get("host")
    name = url or title or str(destination.get("name") or NOT_KNOWN)
    return Participant(name, False, role, _titles([title]) if title else "", address=str(host or ""))


def _titles(titles: Iterable[str]) -> str:
    return "AETITLES=" + ";".join(titles)
