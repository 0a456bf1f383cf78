"""QIDO-RS: search for studies, series and instances; answers in the DICOM JSON model (PS3.18, F)."""

from __future__ import annotations

import re
from typing import Any

from flask import Blueprint, Response, json, request
from pydantic import BaseModel, ConfigDict, Field

from webui import auth
from webui.api.operations import operation, read_query
from webui.dicomweb import rows
from webui.dicomweb.rows import Instance
from webui.errors import ApiProblem
from webui.services import services

blueprint = Blueprint("search", __name__)

JSON = "application/dicom+json"
_DATE = re.compile(r"^(\d{8})?(-(\d{8})?)?$")

_TAGS = {
    "0020000D": "StudyInstanceUID",
    "0020000E": "SeriesInstanceUID",
    "00080018": "SOPInstanceUID",
    "00080016": "SOPClassUID",
    "00080060": "Modality",
    "00080061": "ModalitiesInStudy",
    "00100010": "PatientName",
    "00100020": "PatientID",
    "00080050": "AccessionNumber",
    "00080020": "StudyDate",
    "00200010": "StudyID",
    "00081030": "StudyDescription",
    "0008103E": "SeriesDescription",
    "00180015": "BodyPartExamined",
}


class Query(BaseModel):
    """Attributes to match, by keyword or by tag; what is not here is passed over."""

    model_config = ConfigDict(extra="ignore")

    StudyInstanceUID: str = ""
    SeriesInstanceUID: str = ""
    SOPInstanceUID: str = ""
    SOPClassUID: str = ""
    Modality: str = ""
    ModalitiesInStudy: str = ""
    PatientName: str = Field("", description="`*` and `?` are wildcards.")
    PatientID: str = ""
    AccessionNumber: str = ""
    StudyDate: str = Field("", description="YYYYMMDD, or a range with a minus between.")
    StudyID: str = ""
    StudyDescription: str = ""
    SeriesDescription: str = ""
    BodyPartExamined: str = ""
    limit: int = Field(100, ge=1, le=500)
    offset: int = Field(0, ge=0)


@blueprint.get("/studies")
@auth.role("radiologist")
@operation("Search studies (QIDO-RS)", tag="dicomweb", query=Query, answers={200: JSON})
def studies() -> Response:
    """Studies with at least one instance, newest first."""
    return _search("studies", _study)


@blueprint.get("/series")
@auth.role("radiologist")
@operation("Search series (QIDO-RS)", tag="dicomweb", query=Query, answers={200: JSON})
def series() -> Response:
    """Series of sources and of results."""
    return _search("series", _series)


@blueprint.get("/instances")
@auth.role("radiologist")
@operation("Search instances (QIDO-RS)", tag="dicomweb", query=Query, answers={200: JSON})
def instances() -> Response:
    """Instances of sources and of results."""
    return _search("instances", _instance)


@blueprint.get("/studies/<study>/series")
@auth.role("radiologist")
@operation("Series of a study (QIDO-RS)", tag="dicomweb", query=Query, answers={200: JSON})
def series_of_study(study: str) -> Response:
    """Series of sources and of results."""
    return _search("series", _series, StudyInstanceUID=study)


@blueprint.get("/studies/<study>/instances")
@auth.role("radiologist")
@operation("Instances of a study (QIDO-RS)", tag="dicomweb", query=Query, answers={200: JSON})
def instances_of_study(study: str) -> Response:
    """Instances of sources and of results."""
    return _search("instances", _instance, StudyInstanceUID=study)


@blueprint.get("/studies/<study>/series/<series>/instances")
@auth.role("radiologist")
@operation("Instances of a series (QIDO-RS)", tag="dicomweb", query=Query, answers={200: JSON})
def instances_of_series(study: str, series: str) -> Response:
    """Instances of one series."""
    return _search("instances", _instance, StudyInstanceUID=study, SeriesInstanceUID=series)


def _search(level: str, shape: Any, **fixed: str) -> Response:
    query = read_query(Query, {_TAGS.get(name.upper(), name): value for name, value in request.args.items()})
    query = query.model_copy(update=fixed)
    if not _DATE.match(query.StudyDate):
        raise ApiProblem("StudyDate is a date or a range of dates.", status=400)
    with services().database.read() as session:
        found = rows.find(session, _filter(query), level=level, limit=query.limit, offset=query.offset)
        body = [shape(group) for group in found]
    return Response(json.dumps(body), content_type=JSON)


def _filter(query: Query) -> rows.Filter:
    return rows.Filter(
        study=query.StudyInstanceUID,
        series=query.SeriesInstanceUID,
        instance=query.SOPInstanceUID,
        sop_class=query.SOPClassUID,
        modality=query.Modality or query.ModalitiesInStudy,
        patient_name=query.PatientName,
        patient_id=query.PatientID,
        accession=query.AccessionNumber,
        study_date=query.StudyDate,
        study_id=query.StudyID,
        study_description=query.StudyDescription,
        series_description=query.SeriesDescription,
        body_part=query.BodyPartExamined,
    )


def _study(group: list[Instance]) -> dict[str, Any]:
    first = group[0]
    study, patient = first.study, first.patient
    modalities = sorted({instance.series.modality for instance in group if instance.series.modality})
    found = {
        "00080020": _value("DA", study.study_date),
        "00080030": _value("TM", study.study_time),
        "00080050": _value("SH", study.accession_number),
        "00080056": _value("CS", "ONLINE"),
        "00080061": {"vr": "CS", "Value": modalities} if modalities else {"vr": "CS"},
        "00081190": _value("UR", _url(study.study_instance_uid)),
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": patient.name}]} if patient.name else {"vr": "PN"},
        "00100020": _value("LO", patient.patient_id),
        "00100030": _value("DA", patient.birth_date),
        "00100040": _value("CS", patient.sex),
        "0020000D": _value("UI", study.study_instance_uid),
        "00200010": _value("SH", study.study_id),
        "00201206": _value("IS", len({instance.series_uid for instance in group})),
        "00201208": _value("IS", len(group)),
    }
    if study.description:
        found["00081030"] = _value("LO", study.description)
    return found


def _series(group: list[Instance]) -> dict[str, Any]:
    first = group[0]
    found = {
        "00080060": _value("CS", first.series.modality),
        "00081190": _value("UR", _url(first.study.study_instance_uid, first.series_uid)),
        "0020000D": _value("UI", first.study.study_instance_uid),
        "0020000E": _value("UI", first.series_uid),
        "00201209": _value("IS", len(group)),
    }
    if not first.is_result:
        if first.series.description:
            found["0008103E"] = _value("LO", first.series.description)
        found["00200011"] = _value("IS", first.series.series_number)
    return found


def _instance(group: list[Instance]) -> dict[str, Any]:
    instance = group[0]
    study = instance.study.study_instance_uid
    found = {
        "00080016": _value("UI", instance.sop_class_uid),
        "00080018": _value("UI", instance.sop_instance_uid),
        "00080056": _value("CS", "ONLINE"),
        "00081190": _value("UR", _url(study, instance.series_uid, instance.sop_instance_uid)),
        "0020000D": _value("UI", study),
        "0020000E": _value("UI", instance.series_uid),
        "00280010": _value("US", instance.rows),
        "00280011": _value("US", instance.columns),
    }
    if not instance.is_result and instance.bits_stored:
        found["00280101"] = _value("US", instance.bits_stored)
    if instance.transfer_syntax_uid:
        found["00083002"] = _value("UI", instance.transfer_syntax_uid)
    return found


def _value(vr: str, value: str | int | None) -> dict[str, Any]:
    return {"vr": vr} if value is None or value == "" else {"vr": vr, "Value": [value]}


def _url(study: str, series: str = "", instance: str = "") -> str:
    url = f"{request.url_root}dicomweb/studies/{study}"
    if series:
        url += f"/series/{series}"
    return f"{url}/instances/{instance}" if instance else url
