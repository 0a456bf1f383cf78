"""What can be searched for: one table of attributes, read by the search, its answers and the documentation.

PS3.18, tables 10.6.1-5 and 10.6.3-3 to -5: every required key, and a few that our rows happen to hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword
from sqlalchemy import ColumnElement, and_, or_

from db.models import Patient, Result, Series, Source, Study


class Level(IntEnum):
    """Levels of the information model, from the top."""

    STUDY = 0
    SERIES = 1
    INSTANCE = 2


class Match(StrEnum):
    """How values are compared (PS3.4, C.2.2.2)."""

    UID = "list of UIDs"
    DATE = "date or range"
    TIME = "time or range"
    NUMBER = "number"
    CODE = "single value or list, wildcards"
    TEXT = "single value, wildcards (with which case does not count)"
    NAME = "single value, wildcards, case does not count"
    NONE = "returned, not matched"


@dataclass(frozen=True)
class Key:
    """An attribute: keyword, level, how it is matched, and its column for a source and for a result.

    A keyword with a point stands within the item of a sequence.
    """

    keyword: str
    level: Level
    match: Match
    source: Any = None
    result: Any = None
    """The same column as for the source where this is None."""

    @property
    def tag(self) -> int:
        """The attribute's tag, of the innermost where it is nested."""
        return _tag(self.keyword.rsplit(".", 1)[-1])

    @property
    def name(self) -> str:
        """Eight hexadecimal digits, as in the JSON model."""
        return f"{self.tag:08X}"

    @property
    def vr(self) -> str:
        return dictionary_VR(self.tag)

    def column(self, *, of_result: bool) -> Any:
        """The column in a query over results or over sources."""
        return self.result if of_result and self.result is not None else self.source


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return int(tag)


_S, _E, _I = Level.STUDY, Level.SERIES, Level.INSTANCE
_STEP = "RequestAttributesSequence"
KEYS: tuple[Key, ...] = (
    Key("StudyDate", _S, Match.DATE, Study.study_date),
    Key("StudyTime", _S, Match.TIME, Study.study_time),
    Key("AccessionNumber", _S, Match.TEXT, Study.accession_number),
    Key("InstanceAvailability", _S, Match.NONE),
    Key("ModalitiesInStudy", _S, Match.CODE, Series.modality),
    Key("ReferringPhysicianName", _S, Match.NAME, Study.referring_physician),
    Key("StudyDescription", _S, Match.TEXT, Study.description),
    Key("RetrieveURL", _S, Match.NONE),
    Key("PatientName", _S, Match.NAME, Patient.name),
    Key("PatientID", _S, Match.TEXT, Patient.patient_id),
    Key("IssuerOfPatientID", _S, Match.TEXT, Patient.issuer),
    Key("PatientBirthDate", _S, Match.DATE, Patient.birth_date),
    Key("PatientSex", _S, Match.TEXT, Patient.sex),
    Key("StudyInstanceUID", _S, Match.UID, Study.study_instance_uid),
    Key("StudyID", _S, Match.TEXT, Study.study_id),
    Key("NumberOfStudyRelatedSeries", _S, Match.NONE),
    Key("NumberOfStudyRelatedInstances", _S, Match.NONE),
    Key("Modality", _E, Match.CODE, Series.modality),
    Key("SeriesDescription", _E, Match.TEXT, Series.description, Result.series_description),
    Key("BodyPartExamined", _E, Match.TEXT, Series.body_part),
    Key("SeriesInstanceUID", _E, Match.UID, Series.series_instance_uid, Result.series_instance_uid),
    Key("SeriesNumber", _E, Match.NUMBER, Series.series_number, Result.series_number),
    Key("NumberOfSeriesRelatedInstances", _E, Match.NONE),
    Key("PerformedProcedureStepStartDate", _E, Match.DATE, Series.performed_date),
    Key("PerformedProcedureStepStartTime", _E, Match.TIME, Series.performed_time),
    Key(f"{_STEP}.ScheduledProcedureStepID", _E, Match.TEXT, Series.scheduled_step_id),
    Key(f"{_STEP}.RequestedProcedureID", _E, Match.TEXT, Series.requested_procedure_id),
    Key("SOPClassUID", _I, Match.UID, Source.sop_class_uid, Result.sop_class_uid),
    Key("SOPInstanceUID", _I, Match.UID, Source.sop_instance_uid, Result.sop_instance_uid),
    Key("InstanceNumber", _I, Match.NUMBER, Source.instance_number),
    Key("Rows", _I, Match.NUMBER, Source.rows, Result.rows),
    Key("Columns", _I, Match.NUMBER, Source.columns, Result.columns),
    Key("BitsAllocated", _I, Match.NUMBER, Source.bits_allocated),
)
BY_KEYWORD = {key.keyword: key for key in KEYS}

OF_STUDY = (
    "PatientBirthTime", "PatientAge", "PatientSize", "PatientWeight", "OtherPatientIDs", "OtherPatientNames",
    "EthnicGroup", "Occupation", "PatientComments", "NameOfPhysiciansReadingStudy", "ProcedureCodeSequence",
    "AdmittingDiagnosesDescription", "TimezoneOffsetFromUTC", "IssuerOfAccessionNumberSequence",
)  # fmt: skip
"""Attributes of patient and study that are read from an object when they are asked for."""
OF_SERIES = (
    "SeriesDate", "SeriesTime", "Laterality", "ProtocolName", "Manufacturer", "ManufacturerModelName",
    "InstitutionName", "InstitutionalDepartmentName", "StationName", "OperatorsName", "DeviceSerialNumber",
    "PerformingPhysicianName", "SeriesDescriptionCodeSequence", "PerformedProcedureStepID",
    "PerformedProcedureStepDescription", "FrameOfReferenceUID", "RequestAttributesSequence",
)  # fmt: skip
"""Attributes of a series that are read from an object when they are asked for."""
_LEVELS = (
    {key.keyword: key.level for key in KEYS}
    | dict.fromkeys(OF_STUDY, Level.STUDY)
    | dict.fromkeys(OF_SERIES, Level.SERIES)
)


class UnknownAttribute(ValueError):
    """It is neither a keyword nor a tag of the DICOM dictionary."""


class BadValue(ValueError):
    """The value is none that the attribute can have."""


def canonical(name: str) -> str:
    """The keyword of an attribute named by keyword or tag; parts of a path are joined by points.

    A private or unknown tag stays as it is, in capitals. Raises :class:`UnknownAttribute`.
    """
    return ".".join(_canonical(part) for part in name.split("."))


def _canonical(part: str) -> str:
    if tag_for_keyword(part) is not None:
        return part
    if not re.fullmatch(r"[0-9A-Fa-f]{8}", part):
        raise UnknownAttribute(part)
    tag = int(part, 16)
    return keyword_for_tag(tag) if dictionary_has_tag(tag) else part.upper()


def level_of(keyword: str) -> Level:
    """The level that an attribute belongs to; what we do not know belongs to the instance."""
    return _LEVELS.get(keyword, _LEVELS.get(keyword.split(".", 1)[0], Level.INSTANCE))


Test = Callable[[Any], ColumnElement[bool]]
"""From a column to the condition that its value fits."""


def condition(key: Key, value: str) -> Test | None:
    """The condition that `value` makes of a key; None where it fits everything. Raises :class:`BadValue`."""
    value = value.strip()
    if not value or not value.strip("*"):
        return None
    return _TESTS[key.match](value)


def _uid(value: str) -> Test:
    uids = [uid.strip() for uid in re.split(r"[,\\]", value) if uid.strip()]
    if not all(re.fullmatch(r"[0-9.]{1,64}", uid) for uid in uids):
        raise BadValue("a UID is made of digits and points")
    return lambda column: column.in_(uids)


def _date(value: str) -> Test:
    found = re.fullmatch(r"(\d{8})?(-)?(\d{8})?", value)
    if found is None or (found[1] and found[3] and not found[2]):
        raise BadValue("a date is YYYYMMDD, a range has a minus between two")
    first, dash, last = found.groups()
    if not dash:
        return lambda column: column == first
    return lambda column: and_(column != "", *_bounds(column, first, last))


def _time(value: str) -> Test:
    moment = r"((?:\d\d){1,3}(?:\.\d{1,6})?)?"
    found = re.fullmatch(f"{moment}(-)?{moment}", value.replace(":", ""))
    if found is None or (found[1] and found[3] and not found[2]):
        raise BadValue("a time is HHMMSS.FFFFFF, a range has a minus between two")
    first, dash, last = found.groups()
    last = first if not dash else last
    return lambda column: and_(column != "", *_bounds(column, first, last and _end(last)))


def _end(time: str) -> str:
    """The last moment of a time that is told to the hour, minute or second."""
    return time + "~" if "." in time else time + "5959.999999"[max(0, len(time) - 2) :] + "~"


def _bounds(column: Any, first: str | None, last: str | None) -> Iterator[ColumnElement[bool]]:
    if first:
        yield column >= first
    if last:
        yield column <= last


def _number(value: str) -> Test:
    if not re.fullmatch(r"[+-]?\d{1,10}", value) or abs(int(value)) >= 2**31:
        raise BadValue("it is no whole number")
    return lambda column: column == int(value)


def _text(value: str) -> Test:
    if "*" in value or "?" in value:
        return lambda column: column.ilike(_pattern(value), escape="/")
    return lambda column: column == value


def _code(value: str) -> Test:
    tests = [_text(part.strip()) for part in re.split(r"[,\\]", value) if part.strip()]
    return lambda column: or_(*(test(column) for test in tests))


def _name(value: str) -> Test:
    """A name as a whole, or one of its groups: alphabetic, ideographic, phonetic."""
    pattern = _pattern(value.rstrip("^"))
    whole = [pattern + "^" * empty for empty in range(4)]  # empty components at the end mean nothing
    either = [*whole, f"{pattern}=%", f"%={pattern}", f"%={pattern}=%"]
    return lambda column: or_(*(column.ilike(one, escape="/") for one in either))


def _pattern(value: str) -> str:
    escaped = value.replace("/", "//").replace("%", "/%").replace("_", "/_")
    return escaped.replace("*", "%").replace("?", "_")


_TESTS: dict[Match, Callable[[str], Test]] = {
    Match.UID: _uid,
    Match.DATE: _date,
    Match.TIME: _time,
    Match.NUMBER: _number,
    Match.CODE: _code,
    Match.TEXT: _text,
    Match.NAME: _name,
}
