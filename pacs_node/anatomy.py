"""What part of the body an image shows and from where: read from codes first, from words where codes are
missing.

Real CR images often carry nothing but a study description; DX carries codes. Every function answers None
where the header says nothing.
"""

from __future__ import annotations

import re

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

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
_REGIONS = {
    "CHEST": _CHEST,
    **{
        name: re.compile(words, re.IGNORECASE)
        for name, words in {
            "ABDOMEN": r"abdom|\bkub\b|\bbauch",
            "PELVIS": r"pelvi|\bbecken",
            "HIP": r"\bhips?\b|\bh[uü]fte",
            "SPINE": r"spine|spinal|lumbar|cervical|wirbel",
            "SKULL": r"skull|sch[aä]del|sinus|mandib",
            "HEAD": r"\bhead\b",
            "NECK": r"neck",
            "TEETH": r"teeth|dental",
            "BREAST": r"breast|mammo",
            "CLAVICLE": r"clavic",
            "SHOULDER": r"shoulder|schulter",
            "ARM": r"\barms?\b|forearm|humerus",
            "ELBOW": r"elbow",
            "WRIST": r"wrist",
            "HAND": r"hands?\b|fingers?\b",
            "LEG": r"\blegs?\b|tibia|fibula|femur",
            "KNEE": r"knee|\bknie",
            "ANKLE": r"ankle",
            "FOOT": r"foot|feet|toes?\b",
            "EXTREMITY": r"extremit",
            "PHANTOM": r"phantom|fantom",
        }.items()
    },
}
"""Names for parts of the body, and the words that mean them in what people and devices write."""

_TEXTS = (
    ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription"),
    ("PerformedProtocolCodeSequence", "PerformedProcedureStepDescription"),
    ("RequestAttributesSequence", "RequestedProcedureDescription", "RequestedProcedureCodeSequence"),
    ("StudyDescription", "ProcedureCodeSequence"),
)
"""Where words about the body part stand, nearest to the image first; of a sequence its codes' meanings."""

_IN_ITEMS = (
    "CodeMeaning", "ScheduledProcedureStepDescription", "RequestedProcedureDescription",
    "ScheduledProtocolCodeSequence",
)  # fmt: skip

_FRONTAL = {"PA", "AP", "AP/PA", "PA/AP", "FRONTAL", "ANTERO-POSTERIOR", "POSTERO-ANTERIOR"}
_SIDEWAYS = re.compile(
    r"\blatl?\b|lateral|oblique|schr[aä]g|decubitus|\bll\b|\brl\b|\blld\b|\brld\b|\blao\b|\brao\b|\blpo\b|\brpo\b"
    r"|\bllo\b|\brlo\b|seitlich|profil|lordotic",
    re.IGNORECASE,
)
_WAYS = {
    "PA": re.compile(r"\bpa\b|\bp\.a\.|postero-?anterior", re.IGNORECASE),
    "AP": re.compile(r"\bap\b|\ba\.p\.|antero-?posterior", re.IGNORECASE),
}
_SIDES = {
    "LATERAL": re.compile(r"\blatl?\b|lateral|\bll\b|\brl\b|seitlich|profil", re.IGNORECASE),
    "OBLIQUE": re.compile(
        r"oblique|\blao\b|\brao\b|\blpo\b|\brpo\b|\bllo\b|\brlo\b|schr[aä]g", re.IGNORECASE
    ),
    "DECUBITUS": re.compile(r"decub|\blld\b|\brld\b", re.IGNORECASE),
    "LORDOTIC": re.compile(r"lordotic", re.IGNORECASE),
}
_FRONTAL_WORDS = re.compile(
    r"\bpa\b|\bap\b|\bp\.a\.|\ba\.p\.|frontal|antero-?posterior|postero-?anterior", re.IGNORECASE
)
_PHANTOM = re.compile(
    r"phantom|fantom|\bqc\b|quality control|flat[ -]?field|test (image|pattern|object)|konstanzpr",
    re.IGNORECASE,
)


def regions(ds: Dataset) -> tuple[str, ...]:
    """Names of the parts of the body that the image shows, in capitals; empty where it does not say.

    By body part, then anatomic region, then the words of series, protocol, procedure and study, whichever
    names one first. A body part or region that is in no table of ours stands for itself.
    """
    part = " ".join(words(ds, "BodyPartExamined"))
    if part not in _SAYS_NOTHING:
        return _named(part) or (part,)
    found: list[str] = []
    for item in _sequence(ds, "AnatomicRegionSequence"):
        if text(item, "CodeValue") in _CHEST_CODES:
            found.append("CHEST")
        elif text(item, "CodeValue"):
            meaning = text(item, "CodeMeaning")
            found += _named(meaning) or (meaning.upper() or "OTHER",)
    if found:
        return tuple(dict.fromkeys(found))
    for keywords in _TEXTS:
        named = _named(" ".join(_said(ds, keyword) for keyword in keywords))
        if named:
            return named
    return ()


def shows_chest(ds: Dataset) -> bool | None:
    """Whether the image shows the chest, as far as :func:`regions` can tell."""
    found = regions(ds)
    return "CHEST" in found if found else None


def views(ds: Dataset) -> tuple[str, ...]:
    """`FRONTAL` (with `PA` or `AP` where that is said), or `LATERAL`, `OBLIQUE`, `DECUBITUS`, `LORDOTIC`,
    `OTHER`; empty where nothing is said."""
    frontal = is_frontal(ds)
    if frontal is None:
        return ()
    codes = " ".join(text(item, "CodeMeaning") for item in _sequence(ds, "ViewCodeSequence"))
    said = " ".join((text(ds, "ViewPosition"), codes))
    if not re.search(r"\w", said):
        said = " ".join(text(ds, keyword) for keyword in ("SeriesDescription", "ProtocolName"))
    if frontal:
        return ("FRONTAL", *(name for name, way in _WAYS.items() if way.search(said)))
    return tuple(name for name, way in _SIDES.items() if way.search(said)) or ("OTHER",)


def body_part_words(ds: Dataset) -> str:
    """The body part in the object's own words, for a sentence; empty where it says nothing."""
    part = text(ds, "BodyPartExamined", 64)
    if part.upper() not in _SAYS_NOTHING:
        return part
    for item in _sequence(ds, "AnatomicRegionSequence"):
        if text(item, "CodeMeaning"):
            return text(item, "CodeMeaning", 64)
    return ", ".join(regions(ds)).lower()


def is_frontal(ds: Dataset) -> bool | None:
    """Whether the view is from the front or back: by view position, view code, then words beside the
    image."""
    view = " ".join(words(ds, "ViewPosition"))
    if view not in _SAYS_NOTHING:
        return view in _FRONTAL or (not _SIDEWAYS.search(view) and bool(_FRONTAL_WORDS.search(view)))
    for item in _sequence(ds, "ViewCodeSequence"):
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
    """Whether the patient is said to be of another species than man, or is of a breed."""
    species = text(ds, "PatientSpeciesDescription").lower()
    if species:
        return not re.search(r"homo sapiens|human", species)
    codes = [text(item, "CodeValue") for item in _sequence(ds, "PatientSpeciesCodeSequence")]
    if any(codes):
        return any(code not in ("", "337915000", "L-85B00") for code in codes)
    return bool(text(ds, "PatientBreedDescription") or _sequence(ds, "PatientBreedCodeSequence"))


def is_phantom(ds: Dataset) -> bool:
    """Whether words say that it is no patient but a test: of body part, series, protocol, study, or name."""
    said = " ".join(_said(ds, keyword) for keywords in _TEXTS for keyword in keywords)
    return bool(
        _PHANTOM.search(f"{text(ds, 'BodyPartExamined')} {said}")
        or re.search(r"\b(ph|f)antom\b", text(ds, "PatientName"), re.IGNORECASE)
    )


def _named(said: str) -> tuple[str, ...]:
    return tuple(name for name, pattern in _REGIONS.items() if pattern.search(said))


def _said(ds: Dataset, keyword: str) -> str:
    """An attribute as text; of a sequence what its items are called."""
    if not keyword.endswith("Sequence"):
        return text(ds, keyword)
    return " ".join(_said(item, inner) for item in _sequence(ds, keyword) for inner in _IN_ITEMS)


def _sequence(ds: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it cannot be read."""
    try:
        items = ds.get(keyword)
    except Exception:  # noqa: BLE001 - what cannot be read says nothing
        return []
    return [item for item in items if isinstance(item, Dataset)] if isinstance(items, (list, Items)) else []
