"""A result without whose it is, for research: the Basic Application Level Confidentiality Profile of PS3.15
Table E.1-1, as the library dicom-anonymizer has it, applied at every depth.

What says that the image was made by AI, and how, is put back: our own words alone, nothing of the source's.
Pixels are as they are: who exports must know that no name is burned into them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import version
from typing import Any

from dicomanonymizer import simpledicomanonymizer as library
from pydicom import Dataset
from pydicom.dataelem import DataElement
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from pacs_node import identity
from pacs_node.provenance import RESEARCH_WARNING, code

TABLE = "dicomfields_2026c"
"""Edition of the standard's table."""
BASIC_PROFILE = ("113100", "Basic Application Confidentiality Profile")
KEPT_SEQUENCES = ("SourceImageSequence",)
"""Of those that the table lets be kept with new UIDs: they say what the image was made of."""
SHORTEST = 4
"""Length of a word that is looked for in what was made."""

_DATES = {"DA": "19000101", "TM": "000000", "DT": "19000101000000"}
"""What stands where a date must stand."""
_REPLACING = (
    library.replace, library.empty_or_replace, library.delete_or_replace, library.delete_or_empty_or_replace,
)  # fmt: skip
_Act = Callable[[Dataset, tuple[int, int]], None]


class NotDeidentified(Exception):
    """The object cannot be given away without whose it is; the message says why and names nobody."""


class Deidentifier:
    """One export: the same UID becomes the same new one in all its objects. New ones are random."""

    def __init__(self) -> None:
        library.dictionary.clear()

    def apply(self, ds: Dataset) -> list[str]:
        """Change the object; what somebody should know about it. Raises :class:`NotDeidentified`."""
        if str(ds.get("BurnedInAnnotation") or "").upper() == "YES":
            raise NotDeidentified("there are letters in its pixels (Burned In Annotation is YES)")
        words, marks = set(_identifying(ds)), _marks(ds)
        _clean(ds)
        for name, value in marks.items():
            setattr(ds, name, value)
        _tell(ds)
        _own_meta(ds)
        if _found(ds, words):
            raise NotDeidentified("something that identifies the patient would have remained")
        if not ds.get("BurnedInAnnotation"):
            return ["nobody has said whether letters are burned into its pixels: look at it"]
        return []


def _clean(ds: Dataset) -> None:
    """Apply the table to a data set and to every item in it."""
    for group in (0x5000, 0x6000):  # curves and overlays may be drawn letters
        for tag in [one for one in ds.keys() if group <= one.group <= group + 0xFF]:  # noqa: SIM118
            del ds[tag]
    library.anonymize_dataset(ds, None, delete_private_tags=True, base_rules_gen=_rules)
    for element in list(ds):
        if element.VR == "SQ":
            for item in element.value:
                _clean(item)
        elif element.VR == "UN":
            del ds[element.tag]  # what nobody can read, nobody can clean


@cache
def _table() -> dict[tuple[int, ...], Any]:
    rules: dict[tuple[int, ...], Any] = library.initialize_actions(TABLE)
    ours: dict[Any, _Act] = {library.delete: _remove, library.empty: _blank, library.delete_or_empty: _blank}
    ours[library.delete_or_empty_or_replace_UID] = _remove
    ours |= dict.fromkeys(_REPLACING, _replace)
    rules = {tag: ours.get(act, act) for tag, act in rules.items() if len(tag) == 2}
    kept = [Tag(name) for name in KEPT_SEQUENCES]
    rules |= {(tag.group, tag.element): library.keep for tag in kept}
    return rules | {(0x0002, element): library.keep for element in range(0x0103)}


def _rules() -> dict[tuple[int, ...], Any]:
    """The table without the year 1, which the library writes for every date; file meta is ours."""
    return dict(_table())


def _replace(ds: Dataset, tag: tuple[int, int]) -> None:
    dummy = _DATES.get(ds[tag].VR) if tag in ds else None
    if dummy is not None:
        ds[tag].value = dummy
    else:
        library.replace(ds, tag)


def _remove(ds: Dataset, tag: tuple[int, int]) -> None:
    if tag in ds:
        del ds[tag]


def _blank(ds: Dataset, tag: tuple[int, int]) -> None:
    if tag in ds:
        ds[tag] = DataElement(BaseTag(Tag(tag)), ds[tag].VR, Sequence() if ds[tag].VR == "SQ" else None)


def _marks(ds: Dataset) -> dict[str, Any]:
    """What the object says of its making by us, without anything that was the source's."""
    found: dict[str, Any] = {}
    for name, end in (
        ("DerivationDescription", f"{RESEARCH_WARNING}."),
        ("ImageComments", f"{RESEARCH_WARNING.capitalize()}."),
    ):
        said, mark, _ = str(ds.get(name) or "").partition(end)
        if mark and re.match(r"AI[ -]", said):
            found[name] = said + mark
    title = re.match(r"AI super-resolution x\d+, research only", str(ds.get("SeriesDescription") or ""))
    if title:
        found["SeriesDescription"] = title[0]
    ours = [
        one for one in ds.get("ContributingEquipmentSequence") or [] if identity.is_ours(one.get("DeviceUID"))
    ]
    found["ContributingEquipmentSequence"] = Sequence([_maker(one) for one in ours])
    return found


def _maker(one: Dataset) -> Dataset:
    """Our item without place, time and serial number: the same for this model everywhere."""
    item = Dataset()
    for name in (
        "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceUID", "ContributionDescription",
    ):  # fmt: skip
        if one.get(name):
            setattr(item, name, one.get(name))
    item.PurposeOfReferenceCodeSequence = one.PurposeOfReferenceCodeSequence
    return item


def _tell(ds: Dataset) -> None:
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = [
        "PS3.15 E.1-1 Basic Profile",
        f"dicom-anonymizer {version('dicom-anonymizer')}",
        f"{identity.PRODUCT} {identity.software_version()}"[:64],
    ]
    ds.DeidentificationMethodCodeSequence = Sequence([code(*BASIC_PROFILE)])
    ds.LongitudinalTemporalInformationModified = "REMOVED"


def _own_meta(ds: Dataset) -> None:
    """File meta information and a preamble of ours: neither says where the object came from."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ds.file_meta.TransferSyntaxUID
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.ImplementationClassUID = UID(identity.IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = identity.IMPLEMENTATION_VERSION_NAME
    ds.file_meta, ds.preamble = meta, b"\0" * 128


_IDENTIFYING = (
    "PatientID", "OtherPatientIDs", "AccessionNumber", "InstitutionName", "InstitutionAddress",
    "PatientAddress", "PatientBirthDate", "PatientTelephoneNumbers",
)  # fmt: skip


def _identifying(ds: Dataset) -> Iterator[str]:
    """Words that must not be in what was made: all names, and the values of what identifies."""
    for element in ds.iterall():
        if element.VR == "PN" or element.keyword in _IDENTIFYING:
            for value in _texts(element):
                words = re.split(r"[\^=\s]+", value) if element.VR == "PN" else [value.strip()]
                yield from (word.lower() for word in words if len(word) >= SHORTEST)


def _found(ds: Dataset, words: set[str]) -> bool:
    """Whether one of the words stands somewhere in a text of the object; defined terms are nobody's name."""
    if not words:
        return False
    anywhere = re.compile("|".join(rf"(?<!\w){re.escape(word)}(?!\w)" for word in words))
    free = [element for element in ds.iterall() if element.VR != "CS"]
    return any(anywhere.search(text.lower()) for element in free for text in _texts(element))


def _texts(element: DataElement) -> list[str]:
    if element.VR in {"SQ", "OB", "OW", "OF", "OD", "OL", "OV", "UN"} or element.value is None:
        return []
    values = element.value if element.VM > 1 else [element.value]
    return [str(value) for value in values]


__all__ = ["Deidentifier", "NotDeidentified"]
