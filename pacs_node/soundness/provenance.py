"""Rules: a derived object says how it was made, from what, and by which equipment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydicom.dataset import Dataset

from pacs_node import identity, provenance, recipe
from pacs_node.soundness.book import Rules
from pacs_node.soundness.pair import Pair, canonical, items, texts

RULES = Rules()
_Code = tuple[str, str, str]


@RULES.add(
    "derivation-code", "PS3.3 C.12.4.1.1, PS3.16 CID 7203", "The derivation is coded, after earlier ones."
)
def _derivation_code(pair: Pair) -> Iterator[str]:
    before, after = (_codes(ds, "DerivationCodeSequence") for ds in (pair.before, pair.after))
    if after[: len(before)] != before:
        yield "a code of an earlier derivation is gone"
    wanted = [_code(*provenance.SPATIAL_RESAMPLING), _own(*provenance.AI_SUPER_RESOLUTION)]
    if after[-2:] != wanted:
        yield "DerivationCodeSequence does not end with spatial resampling and our own code"


@RULES.add(
    "coding-scheme", "PS3.16 8.2, PS3.3 C.12.1", "A private code says who stands behind its designator."
)
def _coding_scheme(pair: Pair) -> Iterator[str]:
    named = [
        str(item.get("CodingSchemeDesignator") or "")
        for item in items(pair.after, "CodingSchemeIdentificationSequence")
    ]
    if identity.PRIVATE_CODING_SCHEME not in named:
        yield f"CodingSchemeIdentificationSequence does not name {identity.PRIVATE_CODING_SCHEME}"


@RULES.add("source-image", "PS3.3 C.12.4, PS3.16 CID 7202", "The result names the one image it was made of.")
def _source_image(pair: Pair) -> Iterator[str]:
    found = items(pair.after, "SourceImageSequence")
    if len(found) != 1:
        yield "SourceImageSequence does not hold one item"
        return
    (item,) = found
    for keyword, of in (
        ("ReferencedSOPClassUID", "SOPClassUID"), ("ReferencedSOPInstanceUID", "SOPInstanceUID"),
    ):  # fmt: skip
        if not texts(item, keyword) or texts(item, keyword) != texts(pair.before, of):
            yield f"{keyword} of the source image is not the source's {of}"
    if texts(item, "SpatialLocationsPreserved") != ["NO"]:
        yield "SpatialLocationsPreserved is not NO"
    if _codes(item, "PurposeOfReferenceCodeSequence") != [_code(*provenance.SOURCE_IMAGE)]:
        yield "the purpose of the source image is not 121322"


@RULES.add("related-series", "PS3.3 C.7.3.1, PS3.16 CID 7210", "The result names the series of its source.")
def _related_series(pair: Pair) -> Iterator[str]:
    found = items(pair.after, "RelatedSeriesSequence")
    earlier = [canonical(item) for item in items(pair.before, "RelatedSeriesSequence")]
    if [canonical(item) for item in found[: len(earlier)]] != earlier:
        yield "a series that the source names is gone"
    if not any(
        texts(item, "StudyInstanceUID") == texts(pair.before, "StudyInstanceUID")
        and texts(item, "SeriesInstanceUID") == texts(pair.before, "SeriesInstanceUID")
        and _codes(item, "PurposeOfReferenceCodeSequence") == [_code(*provenance.SOURCE_SERIES)]
        for item in found
    ):
        yield "RelatedSeriesSequence does not name the source's series as 121323"


@RULES.add("equipment", "PS3.3 C.7.5.1", "General Equipment is what made this instance.")
def _equipment(pair: Pair) -> Iterator[str]:
    if texts(pair.after, "Manufacturer") != [identity.MANUFACTURER]:
        yield "Manufacturer is not this software's"
    for keyword in ("ManufacturerModelName", "SoftwareVersions", "DeviceSerialNumber"):
        if not any(texts(pair.after, keyword)):
            yield f"{keyword} is missing"
    kept = ("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions")
    for keyword in (*recipe.EQUIPMENT, *recipe.OTHER_EQUIPMENT):
        if keyword in recipe.EQUIPMENT_LEFT_AT_TOP or keyword in kept or pair.source_is_ours:
            continue
        if canonical(pair.after.get(keyword)) and texts(pair.after, keyword) == texts(pair.before, keyword):
            yield f"{keyword} is the source's device"


@RULES.add(
    "source-equipment", "PS3.3 C.12.1.1.5, PS3.16 CID 7005", "The device that made the source is still named."
)
def _source_equipment(pair: Pair) -> Iterator[str]:
    earlier = items(pair.before, "ContributingEquipmentSequence")
    found = items(pair.after, "ContributingEquipmentSequence")
    if [canonical(i) for i in found[: len(earlier)]] != [canonical(i) for i in earlier]:
        yield "equipment that contributed to the source is gone"
    said = pair.before.get("Manufacturer")
    maker = [] if isinstance(said, bytes) else texts(pair.before, "Manufacturer")
    named = [canonical(item.get("Manufacturer")) for item in found[:-1]]
    if any(maker) and canonical(maker) not in named and not pair.source_is_ours:
        yield "the source's Manufacturer is not among the contributing equipment"


@RULES.add(
    "own-equipment", "PS3.3 C.12.1.1.5, PS3.16 CID 7005", "We are named last, as processing equipment."
)
def _own_equipment(pair: Pair) -> Iterator[str]:
    found = items(pair.after, "ContributingEquipmentSequence")
    if not found:
        yield "ContributingEquipmentSequence is missing"
        return
    ours = found[-1]
    if _codes(ours, "PurposeOfReferenceCodeSequence") != [_code(*provenance.PROCESSING_EQUIPMENT)]:
        yield "our purpose is not 109102"
    if not identity.is_ours(ours.get("DeviceUID")):
        yield "our Device UID is missing"
    for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ContributionDateTime"):
        if not any(texts(ours, keyword)):
            yield f"our {keyword} is missing"
    if len(texts(ours, "SoftwareVersions")) < 3:
        yield "our SoftwareVersions do not name software, model and digest"


@RULES.add(
    "derivation-text", "PS3.3 C.12.4.1.1", "One text names method, factor, model, version and weights."
)
def _derivation_text(pair: Pair) -> Iterator[str]:
    said = " ".join(texts(pair.after, "DerivationDescription"))
    found = items(pair.after, "ContributingEquipmentSequence")
    versions = texts(found[-1], "SoftwareVersions") if found else []
    wanted: dict[str, Any] = {f"AI super-resolution x{pair.scale}": "the method and the factor"}
    if len(versions) >= 3:
        wanted |= {versions[1]: "model and version", versions[2]: "the digest of the weights"}
    for words, what in wanted.items():
        if words not in said:
            yield f"DerivationDescription does not say {what}"


def _codes(ds: Dataset, keyword: str) -> list[_Code]:
    return [
        (
            str(item.get("CodeValue") or "").strip(),
            str(item.get("CodingSchemeDesignator") or "").strip(),
            str(item.get("CodeMeaning") or "").strip(),
        )
        for item in items(ds, keyword)
    ]


def _code(value: str, meaning: str) -> _Code:
    return value, "DCM", meaning


def _own(value: str, meaning: str) -> _Code:
    return value, identity.PRIVATE_CODING_SCHEME, meaning
