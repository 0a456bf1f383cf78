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
    installation, the picture's bytes and the demographics: the same upload is the same object.
    """
    if values.dtype not in (np.dtype("u1"), np.dtype("u2")) or values.ndim != 2:
        raise ValueError(f"expected a matrix of uint8 or uint16, not {values.dtype}")
    bits = values.dtype.itemsize * 8
    fmt = PixelFormat(values.shape[0], values.shape[1], bits, bits, bits - 1, False, "MONOCHROME2")
    said = clean_demographics(context.demographics or {})
    key = (context.sha256, sorted(said.items()))

    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.ImageType = ["ORIGINAL" if lossy_ratio is None else "DERIVED", "SECONDARY"]
    ds.InstanceCreatorUID = uids.creator_uid(context.installation)
    ds.SOPClassUID = SECONDARY_CAPTURE
    ds.SOPInstanceUID = uids.upload_uid(context.installation, "instance", *key)
    local = context.received_at
    ds.StudyDate = said.get("StudyDate", local.strftime("%Y%m%d"))
    ds.StudyTime = said.get("StudyTime", local.strftime("%H%M%S"))
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
