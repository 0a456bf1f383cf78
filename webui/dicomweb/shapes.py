"""Answers of QIDO-RS: what our rows know of a study, a series or an instance, in the JSON model."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from webui.dicomweb import keys
from webui.dicomweb.jsonmodel import Model
from webui.dicomweb.keys import BY_KEYWORD, Level
from webui.dicomweb.resources import url
from webui.dicomweb.rows import Instance

_STEP = "00400275"
_ALWAYS = {
    Level.STUDY: {
        "StudyDate", "StudyTime", "AccessionNumber", "InstanceAvailability", "ModalitiesInStudy",
        "ReferringPhysicianName", "StudyDescription", "RetrieveURL", "PatientName", "PatientID",
        "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID", "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
    },
    Level.SERIES: {
        "Modality", "SeriesDescription", "RetrieveURL", "SeriesInstanceUID", "SeriesNumber",
        "NumberOfSeriesRelatedInstances", "PerformedProcedureStepStartDate",
        "PerformedProcedureStepStartTime", "RequestAttributesSequence", "StudyInstanceUID",
    },
    Level.INSTANCE: {
        "SOPClassUID", "SOPInstanceUID", "InstanceAvailability", "RetrieveURL", "InstanceNumber", "Rows",
        "Columns", "BitsAllocated", "StudyInstanceUID", "SeriesInstanceUID",
    },
}  # fmt: skip
"""Attributes that every answer of a level holds (PS3.18, tables 10.6.3-3 to -5)."""
_ONLY_IF_KNOWN = {
    "StudyDescription", "SeriesDescription", "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime", "IssuerOfPatientID", "BodyPartExamined", "BitsAllocated",
}  # fmt: skip


def shaped(group: list[Instance], level: Level, above: Level, asked: Collection[str]) -> Model:
    """The answer for one study, series or instance.

    above: the highest level whose attributes are told: that of the search's own resource or, in a search over
    everything, the study. asked: keywords of further attributes.
    """
    wanted = {name for told in Level if above <= told <= level for name in _ALWAYS[told]}
    wanted |= _ALWAYS[level] | {name for name in asked if keys.level_of(name) <= level}
    known = _known(group, level)
    found = {name: model for name, model in known.items() if name in wanted}
    return dict(sorted((_name(keyword), model) for keyword, model in found.items()))


def known(instance: Instance) -> Model:
    """Everything that our rows know of an instance."""
    return dict(sorted((_name(key), model) for key, model in _known([instance], Level.INSTANCE).items()))


def _name(keyword: str) -> str:
    if keyword == "RequestAttributesSequence":
        return _STEP
    if keyword == "AvailableTransferSyntaxUID":
        return "00083002"
    return BY_KEYWORD[keyword].name


def _known(group: list[Instance], level: Level) -> dict[str, Model]:
    first = group[0]
    study, patient, series = first.study, first.patient, first.series
    values: dict[str, Any] = {
        "StudyDate": study.study_date,
        "StudyTime": study.study_time,
        "AccessionNumber": study.accession_number,
        "InstanceAvailability": "ONLINE",
        "ReferringPhysicianName": study.referring_physician,
        "StudyDescription": study.description,
        "PatientName": patient.name,
        "PatientID": patient.patient_id,
        "IssuerOfPatientID": patient.issuer,
        "PatientBirthDate": patient.birth_date,
        "PatientSex": patient.sex,
        "StudyInstanceUID": study.study_instance_uid,
        "StudyID": study.study_id,
    }
    if level is Level.STUDY:
        values["ModalitiesInStudy"] = sorted({one.series.modality for one in group if one.series.modality})
        values["NumberOfStudyRelatedSeries"] = len({one.series_uid for one in group})
        values["NumberOfStudyRelatedInstances"] = len(group)
        values["RetrieveURL"] = url(study.study_instance_uid)
    if level >= Level.SERIES:
        values |= {
            "Modality": series.modality,
            "SeriesDescription": first.series_description,
            "BodyPartExamined": series.body_part,
            "SeriesInstanceUID": first.series_uid,
            "SeriesNumber": first.series_number,
            "PerformedProcedureStepStartDate": series.performed_date,
            "PerformedProcedureStepStartTime": series.performed_time,
        }
    if level is Level.SERIES:
        values["NumberOfSeriesRelatedInstances"] = len(group)
        values["RetrieveURL"] = url(study.study_instance_uid, first.series_uid)
    if level is Level.INSTANCE:
        values |= {
            "SOPClassUID": first.sop_class_uid,
            "SOPInstanceUID": first.sop_instance_uid,
            "InstanceNumber": first.instance_number,
            "Rows": first.rows,
            "Columns": first.columns,
            "BitsAllocated": first.bits_allocated,
            "RetrieveURL": url(*first.uids),
        }
    found = {
        keyword: _value(BY_KEYWORD[keyword].vr, value)
        for keyword, value in values.items()
        if keyword not in _ONLY_IF_KNOWN or value
    }
    if level >= Level.SERIES and (series.scheduled_step_id or series.requested_procedure_id):
        found["RequestAttributesSequence"] = _request(first)
    if level is Level.INSTANCE and first.transfer_syntax_uid:
        found["AvailableTransferSyntaxUID"] = _value("UI", first.transfer_syntax_uid)
    return found


def _request(instance: Instance) -> Model:
    item = {
        "00400009": _value("SH", instance.series.scheduled_step_id),
        "00401001": _value("SH", instance.series.requested_procedure_id),
    }
    return {"vr": "SQ", "Value": [item]}


def _value(vr: str, value: Any) -> Model:
    if value is None or value in ("", []):
        return {"vr": vr}
    if vr == "PN":
        return {"vr": vr, "Value": [name(str(value))]}
    return {"vr": vr, "Value": value if isinstance(value, list) else [value]}


def name(text: str) -> dict[str, str]:
    """The groups of a person's name: alphabetic, ideographic, phonetic."""
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), text.split("="), strict=False)
    return {group: part for group, part in groups if part}
