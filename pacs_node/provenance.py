"""What a derived object says about its making: derivation, source, equipment, lossy history, warnings.

Every function changes the data set that it is given, which still holds the source's attributes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Protocol
from uuid import UUID

from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.valuerep import TEXT_VR_DELIMS, DSfloat

from pacs_node import codecs, identity, recipe, uids

ACQUISITION_EQUIPMENT = ("109101", "Acquisition Equipment")
PROCESSING_EQUIPMENT = ("109102", "Processing Equipment")
SOURCE_IMAGE = ("121322", "Source image for image processing operation")
SOURCE_SERIES = ("121323", "Source series for image processing operation")
SPATIAL_RESAMPLING = ("113085", "Spatial resampling")
AI_SUPER_RESOLUTION = ("AISR", "AI super-resolution")
"""Our private code (designator 99CXRSR): no standard code for it exists."""

CODES = (
    ("Derivation Code Sequence", SPATIAL_RESAMPLING, "DCM"),
    ("Derivation Code Sequence", AI_SUPER_RESOLUTION, identity.PRIVATE_CODING_SCHEME),
    ("Source Image Sequence, purpose", SOURCE_IMAGE, "DCM"),
    ("Related Series Sequence, purpose", SOURCE_SERIES, "DCM"),
    ("Contributing Equipment Sequence, purpose of the source's equipment", ACQUISITION_EQUIPMENT, "DCM"),
    ("Contributing Equipment Sequence, purpose of this software", PROCESSING_EQUIPMENT, "DCM"),
)
"""Every code that we write: where, the code and its meaning, the scheme. For the conformance statement."""
OWN_IMAGE_TYPE = "AI_SR"
"""Value 4 of ImageType in everything that we derive."""
RESEARCH_WARNING = "RESEARCH USE ONLY, not for diagnosis"


class ModelFacts(Protocol):
    """Which network it was; `enhancer.ModelInfo` fits."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def digest(self) -> str: ...


class ConsistencyFigures(Protocol):
    """How well the result, reduced, gives the source back; `enhancer.consistency.Consistency` fits."""

    @property
    def rms(self) -> float: ...
    @property
    def p999(self) -> float: ...
    @property
    def maximum(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Derivation:
    """Everything about the making of one derived object that its source does not know.

    created: aware time of making. caveats: words about where the result is beyond its model.
    station_name: our name on the network. keep_private: private creators whose
    elements stay. synthetic_data: write SyntheticData YES; otherwise the source's value is passed on.
    """

    uids: uids.ResultUids
    scale: int
    model: ModelFacts
    installation: UUID
    created: datetime
    consistency: ConsistencyFigures | None = None
    caveats: tuple[str, ...] = ()
    station_name: str = ""
    keep_private: frozenset[str] = field(default_factory=frozenset)
    synthetic_data: bool = False


def code(value: str, meaning: str, scheme: str = "DCM") -> Dataset:
    """An item of a code sequence."""
    item = Dataset()
    item.CodeValue = value
    item.CodingSchemeDesignator = scheme
    item.CodeMeaning = meaning
    return item


def tell_times(ds: Dataset, how: Derivation) -> None:
    """Times of creation, in the source's own offset from UTC where it names one: both read consistently
    then."""
    zone = _offset(str(ds.get("TimezoneOffsetFromUTC") or ""))
    if zone is None and "TimezoneOffsetFromUTC" in ds:
        del ds.TimezoneOffsetFromUTC
    local = how.created.astimezone(zone) if zone is not None else how.created
    for kind in ("InstanceCreation", "Series", "Content"):
        setattr(ds, f"{kind}Date", local.strftime("%Y%m%d"))
        setattr(ds, f"{kind}Time", local.strftime("%H%M%S"))


def tell_source(ds: Dataset) -> None:
    """Source image and related series. Called while `ds` still carries the source's own UIDs."""
    image = Dataset()
    image.ReferencedSOPClassUID = ds.SOPClassUID
    image.ReferencedSOPInstanceUID = ds.SOPInstanceUID
    image.SpatialLocationsPreserved = "NO"  # PS3.3 C.12.4 names a magnified projection radiograph
    image.PurposeOfReferenceCodeSequence = Sequence([code(*SOURCE_IMAGE)])
    ds.SourceImageSequence = Sequence([image])
    if ds.get("StudyInstanceUID") and ds.get("SeriesInstanceUID"):
        series = Dataset()
        series.StudyInstanceUID = ds.StudyInstanceUID
        series.SeriesInstanceUID = ds.SeriesInstanceUID
        series.PurposeOfReferenceCodeSequence = Sequence([code(*SOURCE_SERIES)])
        _append(ds, "RelatedSeriesSequence", series)


def tell_derivation(ds: Dataset, how: Derivation, left_out: list[str]) -> None:
    """Codes and one sentence; what the source said of its own derivation follows, as far as it fits."""
    _append(ds, "DerivationCodeSequence", code(*SPATIAL_RESAMPLING))
    _append(ds, "DerivationCodeSequence", code(*AI_SUPER_RESOLUTION, identity.PRIVATE_CODING_SCHEME))
    _append(ds, "CodingSchemeIdentificationSequence", _our_coding_scheme())
    earlier = _text(ds, "DerivationDescription")
    ds.DerivationDescription = _within(
        describe(how, left_out), f" Source: {earlier}" if earlier else "", 1024
    )


def _our_coding_scheme() -> Dataset:
    """Who stands behind the designator of our private codes."""
    item = Dataset()
    item.CodingSchemeDesignator = identity.PRIVATE_CODING_SCHEME
    item.CodingSchemeName = f"{identity.PRODUCT} private codes"
    item.CodingSchemeResponsibleOrganization = identity.MANUFACTURER
    return item


def describe(how: Derivation, left_out: list[str] | None = None) -> str:
    """The derivation in one sentence of ASCII."""
    model = how.model
    text = (
        f"AI super-resolution x{how.scale} of the stored grey values by {_ascii(model.name)} "
        f"{_ascii(model.version)} (weights sha256 {_ascii(model.digest)}), "
        f"{identity.PRODUCT} {identity.software_version()}"
    )
    if how.consistency is not None:
        figures = how.consistency
        text += (
            f"; reduced, it differs from the source in windows of 8x8 pixels by {100 * figures.rms:.3g} % of "
            f"the grey range (root mean square), {100 * figures.p999:.3g} % (99.9th percentile), "
            f"{100 * figures.maximum:.3g} % (maximum)"
        )
    if how.caveats:
        text += f"; caution: {', '.join(_ascii(words) for words in how.caveats)}"
    if left_out:
        text += f"; left out: {', '.join(left_out)}"
    return f"{text}; {RESEARCH_WARNING}."


def tell_equipment(ds: Dataset, how: Derivation, *, source_is_ours: bool = False) -> None:
    """General Equipment becomes ours; the source's goes into Contributing Equipment, and we are appended.

    source_is_ours: the source is a Secondary Capture that we made of an upload, so no other equipment is
    known.
    """
    existing = list(ds.get("ContributingEquipmentSequence") or [])
    items = list(existing)
    before = _equipment_item(ds)
    if before is not None and not source_is_ours and not any(_same_equipment(ds, item) for item in existing):
        acquired = any(_purpose(item) == ACQUISITION_EQUIPMENT[0] for item in existing)
        purpose = PROCESSING_EQUIPMENT if acquired else ACQUISITION_EQUIPMENT
        before.PurposeOfReferenceCodeSequence = Sequence([code(*purpose)])
        items.append(before)
    items.append(our_equipment(how))
    ds.ContributingEquipmentSequence = Sequence(items)

    for keyword in (*recipe.EQUIPMENT, *recipe.OTHER_EQUIPMENT):
        if keyword in ds and keyword not in recipe.EQUIPMENT_LEFT_AT_TOP:
            del ds[keyword]
    ds.Manufacturer = identity.MANUFACTURER
    ds.ManufacturerModelName = identity.PRODUCT
    ds.DeviceSerialNumber = str(how.installation)
    ds.SoftwareVersions = _versions(how.model)
    if how.station_name:
        ds.StationName = how.station_name[:16]
    ds.InstanceCreatorUID = uids.creator_uid(how.installation)


def our_equipment(how: Derivation) -> Dataset:
    """The Contributing Equipment item of this software with this model: Processing Equipment, which makes new
    instances of others' (Modifying Equipment would alter them)."""
    item = Dataset()
    item.Manufacturer = identity.MANUFACTURER
    item.ManufacturerModelName = f"{identity.PRODUCT} {_ascii(how.model.name)}"[:64]
    item.DeviceSerialNumber = str(how.installation)
    item.SoftwareVersions = _versions(how.model)
    if how.station_name:
        item.StationName = how.station_name[:16]
    item.DeviceUID = uids.device_uid(how.model.name, how.model.version, how.model.digest)
    item.ContributionDateTime = how.created.strftime("%Y%m%d%H%M%S.%f%z")
    item.ContributionDescription = f"AI super-resolution x{how.scale}"
    item.PurposeOfReferenceCodeSequence = Sequence([code(*PROCESSING_EQUIPMENT)])
    return item


def tell_lossy_history(ds: Dataset, transfer_syntax: str, stored_bytes: int | None, pixel_bytes: int) -> None:
    """Once lossy, always lossy: keep what the source says, add what its transfer syntax proves.

    stored_bytes: length of the source's compressed pixels; pixel_bytes: their length uncompressed.
    """
    codec = codecs.CODECS.get(transfer_syntax)
    said = str(ds.get("LossyImageCompression") or "").strip()
    if codec is None or said == "01" or not (codec.lossy or (codec.may_be_lossy and said != "00")):
        return
    ds.LossyImageCompression = "01"
    ratios, methods = _values(ds, "LossyImageCompressionRatio"), _values(ds, "LossyImageCompressionMethod")
    if stored_bytes and len(ratios) == len(methods):
        ratio = DSfloat(max(1.0, round(pixel_bytes / stored_bytes, 3)), auto_format=True)
        ds.LossyImageCompressionRatio = [*ratios, ratio]
        ds.LossyImageCompressionMethod = [*methods, codec.method]


def warn_reader(ds: Dataset, how: Derivation) -> None:
    """Say in every place that viewers show: what this is and that it is for research."""
    earlier = _text(ds, "ImageComments")
    text = f"AI-enhanced image (super-resolution x{how.scale}). {RESEARCH_WARNING.capitalize()}."
    ds.ImageComments = _within(text, f" {earlier}" if earlier else "", 10240)
    ds.ContentQualification = "RESEARCH"
    title = f"AI super-resolution x{how.scale}, research only"
    of = _text(ds, "SeriesDescription")
    ds.SeriesDescription = _within(title, f" - {of}" if of else "", 64).replace("\\", "/")
    if how.synthetic_data:
        ds.SyntheticData = "YES"


def series_number(source: object, scale: int) -> int:
    """A number for the derived series: a function of the source's alone, and sorted after it.

    1 becomes 1904 at scale 4; a source without a number becomes 904; very large numbers are followed
    directly.
    """
    try:
        number = int(str(source))
    except ValueError:
        number = 0
    if number < 0:
        number = 0
    if number <= 2_000_000:
        return number * 1000 + 900 + scale
    return min(number + scale, 2**31 - 1)


def is_own_result(ds: Dataset) -> bool:
    """Whether this software derived `ds`, on whatever machine.

    By our UIDs, not by the word DERIVED, which most real CR images carry. Our name as creator or in the
    file meta information counts only beside our ImageType: an upload that we wrapped, or an object that we
    sent on, has it too.
    """
    equipment = ds.get("ContributingEquipmentSequence") or []
    if any(isinstance(item, Dataset) and identity.is_ours(item.get("DeviceUID")) for item in equipment):
        return True
    meta = getattr(ds, "file_meta", Dataset())
    named = (ds.get("InstanceCreatorUID"), meta.get("ImplementationClassUID"))
    return OWN_IMAGE_TYPE in map(str, _values(ds, "ImageType")) and any(map(identity.is_ours, named))


def _equipment_item(ds: Dataset) -> Dataset | None:
    encodings = convert_encodings(ds.get("SpecificCharacterSet") or "ISO_IR 6")
    item = Dataset({}, parent_encoding=encodings)
    item.set_original_encoding(False, True, encodings)
    for keyword in recipe.EQUIPMENT:
        element = ds.get_item(keyword)
        if element is not None and element.value:
            item[keyword] = element  # as it was read: texts keep their bytes, readable or not
    if "Manufacturer" not in item:
        if "ManufacturerModelName" not in item and "StationName" not in item:
            return None
        item.Manufacturer = "Unknown"
    return item


def _same_equipment(one: Dataset, other: Dataset) -> bool:
    return all(
        str(one.get(keyword) or "") == str(other.get(keyword) or "")
        for keyword in ("Manufacturer", "ManufacturerModelName")
    ) and str(other.get("DeviceSerialNumber") or "") in ("", str(one.get("DeviceSerialNumber") or ""))


def _purpose(item: Dataset) -> str:
    sequence = item.get("PurposeOfReferenceCodeSequence") or []
    return str(sequence[0].get("CodeValue") or "") if len(sequence) else ""


def _versions(model: ModelFacts) -> list[str]:
    return [
        f"{identity.PRODUCT} {identity.software_version()}"[:64],
        f"{_ascii(model.name)} {_ascii(model.version)}"[:64],
        _ascii(model.digest)[:64],
    ]


def _offset(text: str) -> timezone | None:
    match = re.fullmatch(r"\s*([+-])(\d\d)([0-5]\d)\s*", text)
    if match is None or int(match[2]) > 14:
        return None
    delta = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return timezone(-delta if match[1] == "-" else delta)


def _append(ds: Dataset, keyword: str, item: Dataset) -> None:
    setattr(ds, keyword, Sequence([*(ds.get(keyword) or []), item]))


def _values(ds: Dataset, keyword: str) -> list[object]:
    value = ds.get(keyword)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, (MultiValue, list, tuple)) else [value]


def _text(ds: Dataset, keyword: str) -> str:
    """Text of the source, to be written again; nothing where its character set cannot be read or written."""
    text = str(ds.get(keyword) or "").strip()
    encodings = convert_encodings(ds.get("SpecificCharacterSet") or "ISO_IR 6")
    try:
        same = decode_bytes(encode_string(text, encodings), encodings, TEXT_VR_DELIMS) == text
    except (LookupError, ValueError):
        same = False
    return text if same and "\ufffd" not in text else ""


def _within(first: str, then: str, limit: int) -> str:
    """`first` and as much of `then` as fits into `limit` characters."""
    return (first[:limit] + then[: max(0, limit - len(first))]).rstrip()


def _ascii(text: str) -> str:
    return str(text).encode("ascii", "replace").decode().replace("\\", "/")
