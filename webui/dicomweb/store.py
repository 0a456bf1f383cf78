"""STOW-RS: `POST /dicomweb/studies`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, json, request

from db.states import Purpose
from webui import auth, content, door, multipart
from webui.api.operations import operation
from webui.content import Content, NotTaken
from webui.errors import ApiProblem, Unsupported, queue_full
from webui.uploads import new_spool_file, upload

blueprint = Blueprint("store", __name__)

JSON = "application/dicom+json"
_OUT_OF_RESOURCES, _NOT_UNDERSTOOD, _FAILURE = 0xA700, 0xC000, 0x0110
_REASONS = {
    "queue-full": _OUT_OF_RESOURCES,
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
    parameters = request.mimetype_params
    if request.mimetype != "multipart/related" or parameters.get("type", content.DICOM) != content.DICOM:
        raise Unsupported('Send multipart/related; type="application/dicom".')
    wishes = door.Wishes(kind="stow", purpose=Purpose.CLINICAL)
    try:
        outcome = door.take(_parcels(parameters.get("boundary", "")), wishes, together=False)
    except multipart.Malformed as error:
        raise ApiProblem("The multipart body is damaged.", status=400, kind="damaged") from error
    if not outcome.accepted and not outcome.refused:
        raise ApiProblem("The body holds no instance.", status=400, kind="empty")
    if not outcome.accepted and all(refusal.kind == "queue-full" for _parcel, refusal in outcome.refused):
        raise queue_full()
    status = 200 if not outcome.refused else 202 if outcome.accepted else 409
    return Response(json.dumps(_answer(outcome)), status=status, content_type=JSON)


def _parcels(boundary: str) -> Iterator[door.Parcel]:
    for number, part in enumerate(multipart.parts(request.stream, boundary, new_spool_file), 1):
        name = f"instance-{number}.dcm"
        try:
            if part.media_type not in {content.DICOM, ""}:
                raise NotTaken("Only parts of type application/dicom are taken.")
            found = content.examine(part.file)
            if found.media_type != content.DICOM:
                raise NotTaken("This is no DICOM file.")
        except NotTaken as refusal:
            door.discard(part.file)
            yield door.Parcel(name, None, None, refusal)
            continue
        yield door.Parcel(name, part.file, found)


def _answer(outcome: door.Outcome) -> dict[str, Any]:
    """The Store Instances Response Module (PS3.18, I.2)."""
    answer: dict[str, Any] = {}
    if outcome.refused:
        failed = [
            {
                **_reference(parcel.content),
                "00081197": {"vr": "US", "Value": [_REASONS.get(refusal.kind, _NOT_UNDERSTOOD)]},
            }
            for parcel, refusal in outcome.refused
        ]
        answer["00081198"] = {"vr": "SQ", "Value": failed}
    if outcome.accepted:
        stored = [
            {**_reference(parcel.content), "00081190": {"vr": "UR"}} for parcel, _accepted in outcome.accepted
        ]
        answer["00081199"] = {"vr": "SQ", "Value": stored}
    return answer


def _reference(found: Content | None) -> dict[str, Any]:
    if found is None:
        return {"00081150": {"vr": "UI"}, "00081155": {"vr": "UI"}}
    return {
        "00081150": {"vr": "UI", "Value": [found.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [found.sop_instance_uid]},
    }
