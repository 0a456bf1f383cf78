"""The rejection note of IHE IOCM (RAD-66): a Key Object Selection document that takes a result back.

Which title, and why (IHE RAD TF-3 4.66.4.1.3 says what archives do with each):

- 113001 "Rejected for Quality Reasons" where a person takes an enhanced image back: nothing is wrong with
  whom it shows. Archives may go on showing such images where they are set up to.
- 113037 "Rejected for Patient Safety Reasons" where that person says that it must not be seen again.
- 113038 "Incorrect Modality Worklist Entry" for an amendment: the image was made under attributes of patient
  or order that were corrected since, and the corrected result follows under UIDs of its own. That is the
  change that IOCM has this title for. Archives hide such images always.

113039 "Data Retention Policy Expired" is never ours to say: it ends the archive's copy, not a result's truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from db.models import Source
from pacs_node import identity, uids
from pacs_node.consignment import KEY_OBJECT_SELECTION
from pacs_node.derive import file_meta
from pacs_node.provenance import code

QUALITY = ("113001", "Rejected for Quality Reasons")
PATIENT_SAFETY = ("113037", "Rejected for Patient Safety Reasons")
WORKLIST_ENTRY = ("113038", "Incorrect Modality Worklist Entry")
TITLES = {
    "retracted": QUALITY,
    "retracted-safety": PATIENT_SAFETY,
    "retracted-worklist": WORKLIST_ENTRY,
    "amended": WORKLIST_ENTRY,
}
"""Reason code of a retracted job (`db.queue.RETRACTIONS`) to the document title of its note."""

_OBSERVER_TYPE = ("121005", "Observer Type")
_DEVICE = ("121007", "Device")
_DEVICE_UID = ("121012", "Device Observer UID")
_DEVICE_NAME = ("121013", "Device Observer Name")
_DEVICE_MAKER = ("121014", "Device Observer Manufacturer")
_DESCRIPTION = ("113012", "Key Object Description")

CODES = tuple(
    (where, concept, "DCM")
    for where, concept in (
        ("Rejection note, document title", QUALITY),
        ("Rejection note, document title", PATIENT_SAFETY),
        ("Rejection note, document title", WORKLIST_ENTRY),
        ("Rejection note, observer", _OBSERVER_TYPE),
        ("Rejection note, observer", _DEVICE),
        ("Rejection note, observer", _DEVICE_UID),
        ("Rejection note, observer", _DEVICE_NAME),
        ("Rejection note, observer", _DEVICE_MAKER),
        ("Rejection note, reason in words", _DESCRIPTION),
    )
)
"""Every code that a note carries: where, the code and its meaning, the scheme."""

_PATIENT_AND_STUDY = (
    "SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence", "OtherPatientIDsSequence", "PatientBirthDate", "PatientSex",
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber",
    "IssuerOfAccessionNumberSequence", "ReferringPhysicianName",
)  # fmt: skip
_TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rejected:
    """The instance that is taken back."""

    series: str
    sop_class: str
    instance: str


def rejection_note(
    about: Dataset,
    rejected: Rejected,
    *,
    title: tuple[str, str],
    reason: str,
    names: uids.ResultUids,
    at: datetime,
    installation: UUID,
) -> Dataset:
    """A Key Object Selection document (PS3.3 A.35.4, TID 2010), ready to be written.

    about: a data set of the same patient and study, left as it is; title: one of :data:`TITLES`; reason:
    for people, without patient data; at: aware time of the retraction. The same arguments make the same
    bytes.
    """
    ds = _patient_and_study(about)
    if not reason.isascii():
        reason = _make_room(ds, reason)
    at = at.astimezone()
    ds.SOPClassUID = KEY_OBJECT_SELECTION
    ds.SOPInstanceUID = names.instance
    ds.SeriesInstanceUID = names.series
    ds.Modality = "KO"
    ds.SeriesNumber = _series_number(about)
    ds.SeriesDescription = f"Rejection note: {title[1]}"[:64]
    ds.ReferencedPerformedProcedureStepSequence = Sequence()
    ds.InstanceNumber = 1
    ds.Manufacturer = identity.MANUFACTURER
    ds.ManufacturerModelName = identity.PRODUCT
    ds.DeviceSerialNumber = str(installation)
    ds.SoftwareVersions = identity.software_version()[:64]
    ds.InstanceCreatorUID = uids.creator_uid(installation)
    for kind in ("InstanceCreation", "Series", "Content"):
        setattr(ds, f"{kind}Date", at.strftime("%Y%m%d"))
        setattr(ds, f"{kind}Time", at.strftime("%H%M%S"))
    ds.CurrentRequestedProcedureEvidenceSequence = Sequence([_evidence(ds.StudyInstanceUID, rejected)])
    ds.ValueType = "CONTAINER"
    ds.ConceptNameCodeSequence = Sequence([code(*title)])
    ds.ContinuityOfContent = "SEPARATE"
    template = Dataset()
    template.MappingResource = "DCMR"
    template.TemplateIdentifier = "2010"
    ds.ContentTemplateSequence = Sequence([template])
    ds.ContentSequence = Sequence(
        [
            *_observer(installation),
            _item("CONTAINS", "TEXT", _DESCRIPTION, TextValue=reason[:1024] or title[1]),
            _item("CONTAINS", "IMAGE", None, ReferencedSOPSequence=Sequence([_reference(rejected)])),
        ]
    )
    ds.file_meta = file_meta(ds)
    return ds


def known_of(source: Source) -> Dataset:
    """Patient and study of a source from its rows: for a result whose object is no longer kept."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    if source.series is None:
        return ds
    study = source.series.study
    patient = study.patient
    ds.PatientName, ds.PatientID = patient.name, patient.patient_id
    if patient.issuer:
        ds.IssuerOfPatientID = patient.issuer
    ds.PatientBirthDate, ds.PatientSex = patient.birth_date, patient.sex
    ds.StudyInstanceUID, ds.StudyID = study.study_instance_uid, study.study_id
    ds.StudyDate, ds.StudyTime = study.study_date, study.study_time
    ds.AccessionNumber = study.accession_number
    return ds


def _patient_and_study(about: Dataset) -> Dataset:
    """What says whom and what it is about, untouched: names keep their bytes and their character set."""
    encodings = convert_encodings(about.get("SpecificCharacterSet") or "ISO_IR 6")
    ds = Dataset({}, parent_encoding=encodings)
    ds.set_original_encoding(False, True, encodings)  # so that what was read is written byte for byte
    for keyword in _PATIENT_AND_STUDY:
        element = about.get_item(keyword) if keyword in about else None
        if element is not None:
            ds[keyword] = element
    for keyword in _TYPE_2:
        if keyword not in ds:
            setattr(ds, keyword, "")
    return ds


def _make_room(ds: Dataset, reason: str) -> str:
    """Make the text of `ds` Unicode, so that `reason` fits beside it; else the reason in ASCII."""
    said = {keyword: str(ds.get(keyword) or "") for keyword in _PATIENT_AND_STUDY[1:] if keyword in ds}
    if any("�" in text for text in said.values()):
        return reason.encode("ascii", "replace").decode()
    ds.decode()
    ds.SpecificCharacterSet = "ISO_IR 192"
    for element in ds:
        if element.VR == "PN":
            element.value = str(element.value)
    return reason


def _series_number(about: Dataset) -> int:
    try:
        return min(int(str(about.get("SeriesNumber"))) + 50, 2**31 - 1)
    except ValueError:
        return 950


def _evidence(study: str, rejected: Rejected) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = rejected.series
    series.ReferencedSOPSequence = Sequence([_reference(rejected)])
    item = Dataset()
    item.StudyInstanceUID = study
    item.ReferencedSeriesSequence = Sequence([series])
    return item


def _reference(rejected: Rejected) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = rejected.sop_class
    item.ReferencedSOPInstanceUID = rejected.instance
    return item


def _observer(installation: UUID) -> list[Dataset]:
    """Who says so (TID 1002, TID 1004): this software; which person asked for it stands in our audit."""
    return [
        _item("HAS OBS CONTEXT", "CODE", _OBSERVER_TYPE, ConceptCodeSequence=Sequence([code(*_DEVICE)])),
        _item("HAS OBS CONTEXT", "UIDREF", _DEVICE_UID, UID=uids.creator_uid(installation)),
        _item("HAS OBS CONTEXT", "TEXT", _DEVICE_NAME, TextValue=identity.PRODUCT),
        _item("HAS OBS CONTEXT", "TEXT", _DEVICE_MAKER, TextValue=identity.MANUFACTURER),
    ]


def _item(relation: str, kind: str, concept: tuple[str, str] | None, **values: object) -> Dataset:
    item = Dataset()
    item.RelationshipType = relation
    item.ValueType = kind
    if concept is not None:
        item.ConceptNameCodeSequence = Sequence([code(*concept)])
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item
