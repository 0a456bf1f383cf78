"""An uploaded picture as a Secondary Capture object: the source that a derived object can name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from db import picks
from pacs_node import identity, uids
from pacs_node.decode import PixelFormat
from pacs_node.derive import file_meta, put_pixels
from pacs_node.recipe import SECONDARY_CAPTURE

DEMOGRAPHICS: dict[str, int] = {
    "PatientName": 64,
    "PatientID": 64,
    "PatientBirthDate": 8,
    "PatientSex": 1,
    "AccessionNumber": 16,
    "StudyDate": 8,
    "StudyTime": 6,
    "StudyID": 16,
    "StudyDescription": 64,
    "StudyInstanceUID": 64,
    "ReferringPhysicianName": 64,
    "SeriesDescription": 64,
    "Modality": 16,
    "BodyPartExamined": 16,
    "ViewPosition": 16,
}
"""What may be said of an uploaded picture: keyword and longest value in characters. The upload form and
the API take these, anything else is left out."""

IDENTITY: dict[str, int] = {
    "PatientName": 64,
    "PatientID": 64,
    "IssuerOfPatientID": 64,
    "PatientBirthDate": 8,
    "PatientSex": 16,
    "StudyInstanceUID": 64,
    "StudyID": 16,
    "StudyDate": 8,
    "StudyTime": 16,
    "AccessionNumber": 16,
    "ReferringPhysicianName": 64,
    "StudyDescription": 64,
}
"""What an archive is asked for when a picture's patient and study are picked there, and the longest value
(of a name, of each of its groups)."""
_ONLY_IF_SAID = ("IssuerOfPatientID", "StudyDescription")


@dataclass(frozen=True, slots=True)
class PictureContext:
    """What is known of an upload beside its pixels: digest of its bytes, when it came, what a person said
    of it."""

    installation: UUID
    sha256: str
    received_at: datetime
    demographics: Mapping[str, Any] | None = None


def secondary_capture(
    values: npt.NDArray[Any], context: PictureContext, *, lossy_ratio: float | None = None
) -> tuple[Dataset, PixelFormat]:
    """A Secondary Capture data set with the pixels `values`: UInt8[H, W] or UInt16[H, W], bright is high.

    lossy_ratio: compression ratio where the picture was a lossy JPEG, else None. The UIDs follow from the
    installation, the picture's bytes and what was typed: the same upload is the same object. Where patient
    and study were picked from an archive (`db.picks`), they are as it answered, and nothing that was typed
    about them is mixed in; the instance keeps its UID, so that this is an amendment of it.
    """
    if values.dtype not in (np.dtype("u1"), np.dtype("u2")) or values.ndim != 2:
        raise ValueError(f"expected a matrix of uint8 or uint16, not {values.dtype}")
    bits = values.dtype.itemsize * 8
    fmt = PixelFormat(values.shape[0], values.shape[1], bits, bits, bits - 1, False, "MONOCHROME2")
    said = clean_demographics(context.demographics or {})
    key = (context.sha256, sorted(said.items()))
    study = _picked_study(context.demographics or {})

    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL" if lossy_ratio is None else "DERIVED", "SECONDARY"]
    ds.InstanceCreatorUID = uids.creator_uid(context.installation)
    ds.SOPClassUID = SECONDARY_CAPTURE
    ds.SOPInstanceUID = uids.upload_uid(context.installation, "instance", *key)
    local = context.received_at
    ds.StudyDate = said.get("StudyDate", local.strftime("%Y%m%d"))
    ds.StudyTime = said.get("StudyTime", "" if "StudyDate" in said else local.strftime("%H%M%S"))
    ds.ContentDate, ds.ContentTime = local.strftime("%Y%m%d"), local.strftime("%H%M%S")
    ds.DateOfSecondaryCapture, ds.TimeOfSecondaryCapture = ds.ContentDate, ds.ContentTime
    ds.AccessionNumber = said.get("AccessionNumber", "")
    ds.Modality = said.get("Modality", "OT")
    ds.ConversionType = "WSD"
    ds.Manufacturer = identity.MANUFACTURER
    ds.ManufacturerModelName = identity.PRODUCT
    ds.SecondaryCaptureDeviceManufacturer = identity.MANUFACTURER
    ds.SecondaryCaptureDeviceManufacturerModelName = identity.PRODUCT
    ds.SecondaryCaptureDeviceSoftwareVersions = identity.software_version()[:64]
    ds.ReferringPhysicianName = said.get("ReferringPhysicianName", "")
    ds.BodyPartExamined = "CHEST"  # an uploaded picture is one on the word of whoever uploads it
    for keyword in ("StudyDescription", "SeriesDescription", "BodyPartExamined", "ViewPosition"):
        if keyword in said:
            setattr(ds, keyword, said[keyword])
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"):
        setattr(ds, keyword, said.get(keyword, ""))
    ds.StudyInstanceUID = said.get("StudyInstanceUID", uids.upload_uid(context.installation, "study", *key))
    ds.SeriesInstanceUID = uids.upload_uid(context.installation, "series", *key)
    ds.StudyID = said.get("StudyID", "")
    if study:
        _put_identity(ds, study)
        ds.SeriesInstanceUID = uids.upload_uid(
            context.installation, "series", *key, study["StudyInstanceUID"]
        )
    ds.SeriesNumber = 1
    ds.InstanceNumber = 1
    ds.PatientOrientation = ""
    # No BurnedInAnnotation: nobody has looked whether the picture carries text in its pixels.
    if lossy_ratio is not None:
        ds.LossyImageCompression = "01"
        ds.LossyImageCompressionRatio = DSfloat(max(1.0, round(lossy_ratio, 3)), auto_format=True)
        ds.LossyImageCompressionMethod = "ISO_10918_1"
    put_pixels(ds, values, fmt)
    ds.file_meta = file_meta(ds)
    return ds, fmt


def unusable(study: Mapping[str, str]) -> str | None:
    """The first keyword of what an archive answered that cannot stand in a data set; None where all can."""
    for keyword, limit in IDENTITY.items():
        value = study.get(keyword, "")
        groups = value.split("=") if keyword.endswith("Name") else [value]
        wrong = "\\" in value or not value.isprintable() or any(len(group) > limit for group in groups)
        if keyword.endswith("Date") and value and not _is_date(value):
            wrong = True
        if keyword.endswith("UID") and not re.fullmatch(r"[0-9]+(\.[0-9]+)*", value):
            wrong = True
        if wrong:
            return keyword
    return None


def _picked_study(demographics: Mapping[str, Any]) -> dict[str, str]:
    """What an archive said of the study that was picked for a picture; empty where none was."""
    found = demographics.get(picks.PICKED)
    said = found.get("study") if isinstance(found, Mapping) else None
    if not isinstance(said, Mapping) or not said.get("StudyInstanceUID"):
        return {}
    return {keyword: str(said.get(keyword) or "") for keyword in IDENTITY}


def _put_identity(ds: Dataset, study: Mapping[str, str]) -> None:
    for keyword in IDENTITY:
        if study[keyword] or keyword not in _ONLY_IF_SAID:
            setattr(ds, keyword, study[keyword])
        elif keyword in ds:
            del ds[keyword]


def clean_demographics(said: Mapping[str, Any]) -> dict[str, str]:
    """What of `said` can stand in a data set: known keywords, no control characters, lengths and codes in
    order."""
    clean: dict[str, str] = {}
    for keyword, limit in DEMOGRAPHICS.items():
        text = "".join(ch if ch.isprintable() else " " for ch in str(said.get(keyword) or "")).strip()
        text = text.replace("\\", "/")
        if keyword.endswith("Date"):
            text = re.sub(r"\D", "", text)
            text = text if _is_date(text) else ""
        elif keyword.endswith("Time"):
            text = re.sub(r"\D", "", text)[:6]
            text = text if re.fullmatch(r"([01]\d|2[0-3])([0-5]\d([0-5]\d)?)?", text) else ""
        elif keyword.endswith("UID"):
            text = text if re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+", text) and len(text) <= limit else ""
        elif keyword.endswith("Name") and "^" not in text and text.count(",") == 1:
            text = "^".join(part.strip() for part in text.split(","))  # family, given
        elif keyword in ("PatientSex", "Modality", "BodyPartExamined", "ViewPosition"):
            text = text.upper()
            if keyword == "PatientSex":
                text = text[:1] if text[:1] in ("M", "F", "O") else ""
            elif not re.fullmatch(r"[A-Z0-9_ ]*", text):
                text = ""
        if text:
            clean[keyword] = text[:limit]
    return clean


def _is_date(text: str) -> bool:
    try:
        datetime.strptime(text, "%Y%m%d")  # noqa: DTZ007 - a calendar date, no time
    except ValueError:
        return False
    return len(text) == 8
