"""STOW-RS: `POST /dicomweb/studies`, and to a named study (PS3.18, 10.5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flask import Blueprint, Response, json, request

from db.states import Priority, Purpose
from webui import auth, content, door, multipart
from webui.api.operations import operation
from webui.content import Content, NotTaken
from webui.dicomweb import header, resources
from webui.errors import ApiProblem, Unsupported, intake_paused, no_room, queue_full
from webui.services import services
from webui.uploads import new_spool_file, upload

blueprint = Blueprint("store", __name__)

JSON = "application/dicom+json"
_OUT_OF_RESOURCES, _NOT_UNDERSTOOD, _FAILURE = 0xA700, 0xC000, 0x0110
_REASONS = {
    "queue-full": _OUT_OF_RESOURCES,
    "intake-paused": _OUT_OF_RESOURCES,
    "no-room": _OUT_OF_RESOURCES,
    "store": _FAILURE,
    "database": _FAILURE,
}


@blueprint.post("/studies")
@auth.role("radiologist")
@upload
@operation(
    "Store instances (STOW-RS)",
    tag="dicomweb",
    answers={200: JSON, 202: JSON, 409: JSON},
    problems=(413, 415, 503, 507),
)
def store() -> Response:
    """Body multipart/related of application/dicom. They are treated as if a modality had sent them.

    200 when all are taken, 202 when some are, 409 when none is.
    """
    return _store("")


@blueprint.post("/studies/<study>")
@auth.role("radiologist")
@upload
@operation(
    "Store instances of a study (STOW-RS)",
    tag="dicomweb",
    answers={200: JSON, 202: JSON, 409: JSON},
    problems=(413, 415, 503, 507),
)
def store_in_study(study: str) -> Response:
    """The same; an instance of another study is refused."""
    return _store(study)


@dataclass
class _Delivery:
    """What is known of the parts of one request: for each that is DICOM, the study and series it names."""

    study: str
    places: dict[str, tuple[str, str]] = field(default_factory=dict)


def _store(study: str) -> Response:
    parameters = request.mimetype_params
    if request.mimetype != "multipart/related" or parameters.get("type", content.DICOM) != content.DICOM:
        raise Unsupported('Send multipart/related; type="application/dicom".')
    urgent = any(rule.priority == "stat" for rule in services().settings.rules)  # it is looked at first, then
    wishes = door.Wishes(
        kind="stow", purpose=Purpose.CLINICAL, priority=Priority.STAT if urgent else Priority.ROUTINE
    )
    delivery = _Delivery(study)
    try:
        outcome = door.take(_parcels(parameters.get("boundary", ""), delivery), wishes, together=False)
    except multipart.Malformed as error:
        raise ApiProblem("The multipart body is damaged.", status=400, kind="damaged") from error
    if not outcome.accepted and not outcome.refused:
        raise ApiProblem("The body holds no instance.", status=400, kind="empty")
    if not outcome.accepted:
        kinds = {refusal.kind for _parcel, refusal in outcome.refused}
        if kinds == {"queue-full"}:
            raise queue_full()
        if kinds == {"intake-paused"}:
            raise intake_paused()
        if kinds == {"no-room"}:
            raise no_room()
    status = 200 if not outcome.refused else 202 if outcome.accepted else 409
    return Response(json.dumps(_answer(outcome, delivery)), status=status, content_type=JSON)


def _parcels(boundary: str, delivery: _Delivery) -> Iterator[door.Parcel]:
    for number, part in enumerate(multipart.parts(request.stream, boundary, new_spool_file), 1):
        name = f"instance-{number}.dcm"
        found: Content | None = None
        try:
            if part.media_type not in {content.DICOM, ""}:
                raise NotTaken("Only parts of type application/dicom are taken.")
            found = content.examine(part.file)
            if found.media_type != content.DICOM:
                found = None
                raise NotTaken("This is no DICOM file.")
            delivery.places[name] = _place(part.file, delivery.study)
        except NotTaken as refusal:
            door.discard(part.file)
            yield door.Parcel(name, None, found, refusal)
            continue
        yield door.Parcel(name, part.file, found)


def _place(file: Any, study: str) -> tuple[str, str]:
    """Study and series of an instance, from a bounded part of it. Refuses what is not of the named study."""
    try:
        found = header.study_of(file)
    except header.Unreadable as error:
        if study:
            raise NotTaken("The study of the instance cannot be read.", "damaged") from error
        return "", ""  # the worker says why
    if study and found[0] != study:
        raise NotTaken("The instance belongs to another study.", "other-study")
    return found


def _answer(outcome: door.Outcome, delivery: _Delivery) -> dict[str, Any]:
    """The Store Instances Response Module (PS3.18, I.1)."""
    taken = [(parcel, delivery.places.get(parcel.name, ("", ""))) for parcel, _job in outcome.accepted]
    studies = {study for _parcel, (study, _series) in taken}
    answer: dict[str, Any] = {"00081190": _url(*studies) if len(studies) == 1 else _url()}
    if outcome.refused:
        failed = [
            {
                **_reference(parcel.content),
                "00081197": {"vr": "US", "Value": [_REASONS.get(refusal.kind, _NOT_UNDERSTOOD)]},
            }
            for parcel, refusal in outcome.refused
        ]
        answer["00081198"] = {"vr": "SQ", "Value": failed}
    if taken:
        stored = [
            {**_reference(parcel.content), "00081190": _url(study, series, _instance(parcel.content))}
            for parcel, (study, series) in taken
        ]
        answer["00081199"] = {"vr": "SQ", "Value": stored}
    return answer


def _url(study: str = "", series: str | None = None, instance: str = "") -> dict[str, Any]:
    """Where it can be had once it is examined; empty where its study or series could not be read."""
    if not study or series == "":
        return {"vr": "UR"}
    return {"vr": "UR", "Value": [resources.url(study, series or "", instance)]}


def _instance(found: Content | None) -> str:
    return (found.sop_instance_uid if found is not None else None) or ""


def _reference(found: Content | None) -> dict[str, Any]:
    if found is None:
        return {"00081150": {"vr": "UI"}, "00081155": {"vr": "UI"}}
    return {
        "00081150": {"vr": "UI", "Value": [found.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [found.sop_instance_uid]},
    }
