"""What the header of an object says, in plain values: for the rows of the database, the rules and the
digests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from pacs_node.decode import StoredImage

_DIGESTED = (
    # patient
    "PatientName", "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "OtherPatientIDs",
    "OtherPatientIDsSequence", "PatientBirthDate", "PatientBirthTime", "PatientSex", "PatientAge",
    "PatientSize", "PatientWeight", "PatientComments", "EthnicGroup", "AdditionalPatientHistory",
    "PregnancyStatus", "PatientSpeciesDescription", "PatientBreedDescription", "ResponsiblePerson",
    # study and order
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber",
    "IssuerOfAccessionNumberSequence", "ReferringPhysicianName", "NameOfPhysiciansReadingStudy",
    "AdmittingDiagnosesDescription", "ProcedureCodeSequence", "RequestAttributesSequence",
    # what the image shows, and how it lies
    "SeriesInstanceUID", "Modality", "SeriesDescription", "ProtocolName", "BodyPartExamined", "ViewPosition",
    "ViewCodeSequence", "Laterality", "ImageLaterality", "PatientOrientation", "AnatomicRegionSequence",
    "PixelSpacing", "ImagerPixelSpacing", "QualityControlImage", "ImageComments",
)  # fmt: skip
_PIXEL_MEANING = (
    "PhotometricInterpretation", "PresentationLUTShape", "RescaleSlope", "RescaleIntercept",
    "PixelPaddingValue", "PixelPaddingRangeLimit",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PatientFacts:
    patient_id: str
    issuer: str
    name: str
    birth_date: str
    sex: str


@dataclass(frozen=True, slots=True)
class StudyFacts:
    uid: str
    accession_number: str
    study_id: str
    date: str
    time: str
    description: str
    referring_physician: str = ""


@dataclass(frozen=True, slots=True)
class SeriesFacts:
    uid: str
    modality: str
    number: int | None
    body_part: str
    description: str
    performed_date: str = ""
    performed_time: str = ""
    scheduled_step_id: str = ""
    requested_procedure_id: str = ""


@dataclass(frozen=True, slots=True)
class HeaderFacts:
    """Identity and description of one object; texts are empty where the header says nothing."""

    sop_class: str
    sop_instance: str
    patient: PatientFacts
    study: StudyFacts
    series: SeriesFacts
    view_position: str
    instance_number: int | None = None


def header_facts(ds: Dataset) -> HeaderFacts:
    """The facts of `ds`. Never raises for odd values: they are cut to what a row can hold."""
    request = _first_item(ds, "RequestAttributesSequence")
    return HeaderFacts(
        sop_class=text(ds, "SOPClassUID", 64),
        sop_instance=text(ds, "SOPInstanceUID", 64),
        patient=PatientFacts(
            patient_id=text(ds, "PatientID", 64),
            issuer=text(ds, "IssuerOfPatientID", 64),
            name=text(ds, "PatientName", 324),
            birth_date=_digits(ds, "PatientBirthDate", 8),
            sex=text(ds, "PatientSex", 16),
        ),
        study=StudyFacts(
            uid=text(ds, "StudyInstanceUID", 64),
            accession_number=text(ds, "AccessionNumber", 64),
            study_id=text(ds, "StudyID", 64),
            date=_digits(ds, "StudyDate", 8),
            time=text(ds, "StudyTime", 16),
            description=text(ds, "StudyDescription", 256),
            referring_physician=text(ds, "ReferringPhysicianName", 324),
        ),
        series=SeriesFacts(
            uid=text(ds, "SeriesInstanceUID", 64),
            modality=text(ds, "Modality", 16).upper(),
            number=_integer(ds, "SeriesNumber"),
            body_part=text(ds, "BodyPartExamined", 64),
            description=text(ds, "SeriesDescription", 256),
            performed_date=_digits(ds, "PerformedProcedureStepStartDate", 8),
            performed_time=text(ds, "PerformedProcedureStepStartTime", 16),
            scheduled_step_id=text(request, "ScheduledProcedureStepID", 64),
            requested_procedure_id=text(request, "RequestedProcedureID", 64),
        ),
        view_position=text(ds, "ViewPosition", 16),
        instance_number=_integer(ds, "InstanceNumber"),
    )


def text(ds: Dataset, keyword: str, limit: int = 1024) -> str:
    """The attribute as one line of at most `limit` characters; several values are joined by a backslash."""
    try:
        value = value_of(ds, keyword)
    except Exception:  # noqa: BLE001 - a value that cannot be read says nothing
        return ""
    if value is None:
        return ""
    if isinstance(value, (MultiValue, list, tuple)):
        value = "\\".join(str(v) for v in value)
    return "".join(ch if ch.isprintable() else " " for ch in str(value)).strip()[:limit]


def value_of(ds: Dataset, keyword: str) -> Any:
    """The value of an attribute, or None, with `ds` left as it is.

    pydicom keeps what it decodes and encodes it again when `ds` is written: a name that is not in the
    character set that it claims would then be question marks.
    """
    raw: Any = ds.get_item(keyword) if keyword in ds else None
    value = ds.get(keyword)
    if isinstance(raw, RawDataElement):
        ds[raw.tag] = raw
    return value


def words(ds: Dataset, keyword: str) -> list[str]:
    """The values of an attribute, in capitals and without blanks around them."""
    return [word.strip().upper() for word in text(ds, keyword).split("\\") if word.strip()]


def header_digest(ds: Dataset) -> str:
    """SHA-256 (hex) of what a correction would change: patient, study, order, and what the image shows.

    It does not depend on transfer syntax, private attributes or the order of elements.
    """
    digest = hashlib.sha256(b"cxr-sr header 1\n")
    for keyword in _DIGESTED:
        if keyword in ds:
            digest.update(f"{keyword}={_canonical(ds, keyword)}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def pixel_digest(ds: Dataset, image: StoredImage) -> str:
    """SHA-256 (hex) of the stored values and of what decides their meaning, whatever the transfer syntax."""
    fmt = image.format
    digest = hashlib.sha256(b"cxr-sr pixels 1\n")
    digest.update(f"{fmt.rows} {fmt.columns} {fmt.bits_stored} {int(fmt.signed)}\n".encode())
    for keyword in _PIXEL_MEANING:
        digest.update(f"{keyword}={_canonical(ds, keyword)}\n".encode("utf-8", "surrogatepass"))
    if "ModalityLUTSequence" in ds:
        digest.update(f"ModalityLUTSequence={_canonical(ds, 'ModalityLUTSequence')}\n".encode())
    digest.update(np.ascontiguousarray(image.values, dtype="<i2" if fmt.signed else "<u2").data)
    return digest.hexdigest()


def _canonical(ds: Dataset, keyword: str) -> str:
    try:
        value = value_of(ds, keyword)
    except Exception:  # noqa: BLE001 - as unreadable as before
        return "?"
    if value is None:
        return ""
    if isinstance(value, (MultiValue, list, tuple)) and not _is_sequence(value):
        return "\\".join(str(v).strip() for v in value)
    if _is_sequence(value):
        return "[" + ";".join(",".join(_items(item)) for item in value) + "]"
    return str(value).strip()


def _items(item: Dataset) -> Iterable[str]:
    return (f"{element.tag}={element.value!s}" for element in item)


def _is_sequence(value: object) -> bool:
    return isinstance(value, (list, MultiValue)) and len(value) > 0 and isinstance(value[0], Dataset)


def _first_item(ds: Dataset, keyword: str) -> Dataset:
    """The first item of a sequence; an empty data set where there is none or it cannot be read."""
    try:
        items = value_of(ds, keyword)
        return items[0] if items and isinstance(items[0], Dataset) else Dataset()
    except Exception:  # noqa: BLE001 - a sequence that cannot be read says nothing
        return Dataset()


def _digits(ds: Dataset, keyword: str, limit: int) -> str:
    """A date without the dots that older devices write."""
    return "".join(ch for ch in text(ds, keyword) if ch.isdigit())[:limit]


def _integer(ds: Dataset, keyword: str) -> int | None:
    try:
        number = int(float(text(ds, keyword)))
    except (ValueError, OverflowError):
        return None
    return number if -(2**31) <= number < 2**31 else None
