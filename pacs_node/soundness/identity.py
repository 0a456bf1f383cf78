"""Rules: a derived object is a new one of the same kind, says so, and stays in the study of its source."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydicom.dataset import Dataset

from pacs_node import identity, provenance, recipe
from pacs_node.soundness.book import Rules
from pacs_node.soundness.pair import Pair, items, texts

RULES = Rules()
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*")


@RULES.add("sop-class", "PS3.3 A.2, A.8, A.26", "A result is of the class of its source.")
def _sop_class(pair: Pair) -> Iterator[str]:
    if _uid(pair.before, "SOPClassUID") != _uid(pair.after, "SOPClassUID"):
        yield "the SOP class differs from the source's"
    elif _uid(pair.after, "SOPClassUID") not in recipe.ENHANCEABLE_SOP_CLASSES:
        yield "the SOP class is none that results are made of"


@RULES.add("sop-instance", "PS3.3 C.12.1.1.1, C.7.6.1.1.2", "Other pixels are another instance.")
def _sop_instance(pair: Pair) -> Iterator[str]:
    uid = _uid(pair.after, "SOPInstanceUID")
    if not uid or uid == _uid(pair.before, "SOPInstanceUID"):
        yield "SOPInstanceUID is missing or the source's"


@RULES.add("series", "PS3.3 C.7.3.1", "A result lies in a series of its own.")
def _series(pair: Pair) -> Iterator[str]:
    uid = _uid(pair.after, "SeriesInstanceUID")
    if not uid or uid == _uid(pair.before, "SeriesInstanceUID"):
        yield "SeriesInstanceUID is missing or the source's"


@RULES.add("series-number", "PS3.3 C.7.3.1", "The derived series is listed after its source, stably.")
def _series_number(pair: Pair) -> Iterator[str]:
    before = _integer(pair.before, "SeriesNumber") or 0
    after = _integer(pair.after, "SeriesNumber")
    if after is None or (after <= before and before < 2**31 - 1):
        yield "SeriesNumber does not follow the source's"


@RULES.add("uids", "PS3.5 9.1", "A UID has at most 64 characters and no component with a leading zero.")
def _uids(pair: Pair) -> Iterator[str]:
    known = set(_bad_uids(pair.before))
    for keyword, value in _bad_uids(pair.after):
        if (keyword, value) not in known:
            yield f"{keyword} is not a UID"


@RULES.add("image-type", "PS3.3 C.7.6.1.1.2, C.8.11.3.1.1", "ImageType says derived, secondary, and by whom.")
def _image_type(pair: Pair) -> Iterator[str]:
    if texts(pair.after, "ImageType") != ["DERIVED", "SECONDARY", "", provenance.OWN_IMAGE_TYPE]:
        yield f"ImageType is not DERIVED\\SECONDARY\\\\{provenance.OWN_IMAGE_TYPE}"


@RULES.add("presentation-intent", "PS3.3 C.8.11.1", "A DX image for reading says FOR PRESENTATION.")
def _presentation_intent(pair: Pair) -> Iterator[str]:
    wanted = ["FOR PRESENTATION"] if _uid(pair.after, "SOPClassUID") == recipe.DX_FOR_PRESENTATION else None
    if wanted is not None and texts(pair.after, "PresentationIntentType") != wanted:
        yield "PresentationIntentType is not FOR PRESENTATION"


@RULES.add("required", "PS3.3 C.7, C.8.1.1, C.8.11", "What its class demands is there, if empty.")
def _required(pair: Pair) -> Iterator[str]:
    for keyword in recipe.TYPE_2.get(_uid(pair.after, "SOPClassUID"), ()):
        if keyword not in pair.after:
            yield f"{keyword} is missing"
    if _uid(pair.after, "SOPClassUID") == recipe.SECONDARY_CAPTURE and not pair.after.get("ConversionType"):
        yield "ConversionType is missing"


@RULES.add("recognisable", "PS3.7 D.3.3.2", "Software can tell that this program made it.")
def _recognisable(pair: Pair) -> Iterator[str]:
    if not identity.is_ours(pair.after.get("InstanceCreatorUID")):
        yield "InstanceCreatorUID is none of ours"
    equipment = items(pair.after, "ContributingEquipmentSequence")
    if not any(identity.is_ours(item.get("DeviceUID")) for item in equipment):
        yield "no contributing equipment carries a Device UID of ours"


@RULES.add("file-meta", "PS3.10 7.1", "The file meta information is about this object and its writer.")
def _file_meta(pair: Pair) -> Iterator[str]:
    meta = pair.derived.meta
    for keyword, of in (
        ("MediaStorageSOPClassUID", "SOPClassUID"), ("MediaStorageSOPInstanceUID", "SOPInstanceUID"),
    ):  # fmt: skip
        if _uid(meta, keyword) != _uid(pair.after, of):
            yield f"{keyword} is not {of}"
    writer = _uid(meta, "ImplementationClassUID")
    ours = identity.is_ours(writer)
    if not writer or (not ours and writer == _uid(pair.source.meta, "ImplementationClassUID")):
        yield "ImplementationClassUID is missing or that of the source's writer"


def _bad_uids(ds: Dataset) -> Iterator[tuple[str, str]]:
    for element in ds:
        if element.VR == "SQ":
            for item in element.value:
                yield from _bad_uids(item)
        elif element.VR == "UI":
            for uid in texts(ds, element.keyword) if element.keyword else [str(element.value or "")]:
                if uid and (len(uid) > 64 or not _UID.fullmatch(uid)):
                    yield element.keyword or str(element.tag), uid


def _uid(ds: Dataset, keyword: str) -> str:
    return (texts(ds, keyword) or [""])[0]


def _integer(ds: Dataset, keyword: str) -> int | None:
    try:
        return int(texts(ds, keyword)[0])
    except (IndexError, ValueError):
        return None
