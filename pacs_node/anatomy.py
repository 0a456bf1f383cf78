"""What part of the body an image shows and from where: read from codes first, from words where codes are
missing.

Real CR images often carry nothing but a study description; DX carries codes. Every function answers None
where the header says nothing.
"""

from __future__ import annotations

import re

from pydicom.dataset import Dataset

from pacs_node.facts import text, words

_SAYS_NOTHING = {
    "",
    "UNKNOWN",
    "OTHER",
    "NONE",
    "NOT SPECIFIED",
    "UNSPECIFIED",
    "BODY",
    "DEFAULT",
    "NA",
    "N/A",
}
_CHEST_CODES = {
    "51185008", "816094009", "43799004", "39607008", "302551006",  # SNOMED CT: thorax, chest, lung
    "T-D3000", "T-D3100", "T-D0300", "T-28000",  # SNOMED RT
}  # fmt: skip
_CHEST = re.compile(
    r"chest|thora[xck]|t[oó]rax|\blungs?\b|lunge|pulmo|poumon|\bcxr\b|brustkorb|胸|흉부|грудн", re.IGNORECASE
)
_ELSEWHERE = re.compile(
    r"abdom|\bhips?\b|pelvi|\bbecken|\bh[uü]fte|knee|\bknie|skull|sch[aä]del|\bhead\b|spine|spinal|lumbar|cervical"
    r"|wirbel|shoulder|schulter|elbow|wrist|hands?\b|fingers?\b|foot|feet|ankle|toes?\b|tibia|fibula|femur|humerus"
    r"|forearm|\blegs?\b|\barms?\b|extremit|clavic|sinus|mandib|teeth|dental|breast|mammo|\bkub\b|neck",
    re.IGNORECASE,
)
_TEXTS = (
    ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription"),
    ("PerformedProcedureStepDescription", "RequestedProcedureDescription"),
    ("StudyDescription",),
)
"""Where words about the body part stand, nearest to the image first."""

_FRONTAL = {"PA", "AP", "AP/PA", "PA/AP", "FRONTAL", "ANTERO-POSTERIOR", "POSTERO-ANTERIOR"}
_SIDEWAYS = re.compile(
    r"\blatl?\b|lateral|oblique|decubitus|\bll\b|\brl\b|\blld\b|\brld\b|\blao\b|\brao\b|\blpo\b|\brpo\b"
    r"|\bllo\b|\brlo\b|seitlich|profil|lordotic",
    re.IGNORECASE,
)
_FRONTAL_WORDS = re.compile(
    r"\bpa\b|\bap\b|\bp\.a\.|\ba\.p\.|frontal|antero-?posterior|postero-?anterior", re.IGNORECASE
)


def shows_chest(ds: Dataset) -> bool | None:
    """Whether the image shows the chest: by body part, anatomic region, then the nearest words that name a
    part."""
    part = " ".join(words(ds, "BodyPartExamined"))
    if part not in _SAYS_NOTHING:
        return bool(_CHEST.search(part))
    regions = [item for item in ds.get("AnatomicRegionSequence") or [] if text(item, "CodeValue")]
    if regions:
        return any(
            text(item, "CodeValue") in _CHEST_CODES or _CHEST.search(text(item, "CodeMeaning"))
            for item in regions
        )
    for keywords in _TEXTS:
        said = " ".join(text(ds, keyword) for keyword in keywords)
        if _CHEST.search(said):
            return True
        if _ELSEWHERE.search(said):
            return False
    return None


def body_part_words(ds: Dataset) -> str:
    """The body part in the object's own words, for a sentence; empty where it says nothing."""
    part = text(ds, "BodyPartExamined", 64)
    if part.upper() not in _SAYS_NOTHING:
        return part
    for item in ds.get("AnatomicRegionSequence") or []:
        if text(item, "CodeMeaning"):
            return text(item, "CodeMeaning", 64)
    return ""


def is_frontal(ds: Dataset) -> bool | None:
    """Whether the view is from the front or back: by view position, view code, then words beside the
    image."""
    view = " ".join(words(ds, "ViewPosition"))
    if view not in _SAYS_NOTHING:
        return view in _FRONTAL or (not _SIDEWAYS.search(view) and bool(_FRONTAL_WORDS.search(view)))
    for item in ds.get("ViewCodeSequence") or []:
        meaning = text(item, "CodeMeaning")
        if _SIDEWAYS.search(meaning):
            return False
        if _FRONTAL_WORDS.search(meaning):
            return True
    said = " ".join(text(ds, keyword) for keyword in ("SeriesDescription", "ProtocolName"))
    if _SIDEWAYS.search(said):
        # "chest pa and lateral" names a study, not this image
        return None if _FRONTAL_WORDS.search(said) else False
    return True if _FRONTAL_WORDS.search(said) else None


def is_animal(ds: Dataset) -> bool:
    """Whether the patient is said to be of another species than man."""
    species = text(ds, "PatientSpeciesDescription").lower()
    if species:
        return not re.search(r"homo sapiens|human", species)
    codes = [text(item, "CodeValue") for item in ds.get("PatientSpeciesCodeSequence") or []]
    return any(code not in ("", "337915000", "L-85B00") for code in codes)
