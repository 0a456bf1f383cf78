"""Rules: what the derivation does not touch travels with the result, and what no longer holds does not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydicom.datadict import keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from pacs_node import colour, overlays, recipe
from pacs_node.geometry import spacing_of
from pacs_node.soundness.book import Rules
from pacs_node.soundness.pair import PIXELS, Pair, canonical, differs, texts

RULES = Rules()
PATIENT = (
    "PatientName", "PatientID", "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence",
    "TypeOfPatientID", "PatientBirthDate", "PatientBirthTime", "PatientSex", "OtherPatientIDs",
    "OtherPatientIDsSequence", "OtherPatientNames", "EthnicGroup", "PatientComments", "PatientAge",
    "PatientSize", "PatientWeight", "PatientSpeciesDescription", "PatientSpeciesCodeSequence",
    "PatientBreedDescription", "ResponsiblePerson", "PatientIdentityRemoved", "DeidentificationMethod",
    "PregnancyStatus", "AdditionalPatientHistory", "MedicalAlerts", "Allergies", "PatientState",
)  # fmt: skip
STUDY = (
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber",
    "IssuerOfAccessionNumberSequence", "ReferringPhysicianName", "ReferringPhysicianIdentificationSequence",
    "NameOfPhysiciansReadingStudy", "ProcedureCodeSequence", "ReferencedStudySequence",
    "RequestAttributesSequence", "ReferencedPerformedProcedureStepSequence", "RequestedProcedureID",
    "RequestedProcedureDescription", "RequestingService", "ScheduledProcedureStepID", "InstitutionName",
    "InstitutionalDepartmentName",
)  # fmt: skip
GREY_SCALE = (
    "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction", "VOILUTSequence",
    "RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence", "PresentationLUTShape",
    "PixelIntensityRelationship", "PixelIntensityRelationshipSign", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "ShutterPresentationValue",
)  # fmt: skip
_CALIBRATION = ("PixelSpacingCalibrationType", "PixelSpacingCalibrationDescription")
_BITMAP_SHUTTER = ("ShutterShape", "ShutterOverlayGroup", "ShutterPresentationValue",
                   "ShutterPresentationColorCIELabValue")  # fmt: skip
_ADDED = (
    "PresentationIntentType", "ConversionType", "BurnedInAnnotation", "AcquisitionContextSequence",
    *(keyword for keywords in recipe.TYPE_2.values() for keyword in keywords),
)  # fmt: skip


@RULES.add("patient", "PS3.3 C.7.1.1, C.7.2.2", "The result is of the same patient, in the same words.")
def _patient(pair: Pair) -> Iterator[str]:
    yield from _changed(pair, PATIENT)


@RULES.add("study", "PS3.3 C.7.2.1, C.7.3.1", "The result belongs to the study and order of its source.")
def _study(pair: Pair) -> Iterator[str]:
    yield from _changed(pair, STUDY)


@RULES.add("character-set", "PS3.3 C.12.1.1.2", "Texts keep their character set.")
def _character_set(pair: Pair) -> Iterator[str]:
    yield from _changed(pair, ("SpecificCharacterSet",))


@RULES.add(
    "grey-scale", "PS3.3 C.11.1, C.11.2, C.7.6.3", "Stored values keep what they mean and how they show."
)
def _grey_scale(pair: Pair) -> Iterator[str]:
    if not pair.was_in_colour:
        yield from _changed(pair, GREY_SCALE, but=_with_bitmap_shutter(pair))


@RULES.add("instance-number", "PS3.3 C.7.6.1", "The result keeps its source's number within the series.")
def _instance_number(pair: Pair) -> Iterator[str]:
    yield from _changed(pair, ("InstanceNumber",))


@RULES.add("annotation", "PS3.3 C.7.6.1", "BurnedInAnnotation is the source's, or YES.")
def _annotation(pair: Pair) -> Iterator[str]:
    if texts(pair.after, "BurnedInAnnotation") != ["YES"]:
        yield from _changed(pair, ("BurnedInAnnotation",))


@RULES.add("synthetic-data", "PS3.3 C.12.1", "SyntheticData is passed on or YES; NO is never claimed.")
def _synthetic_data(pair: Pair) -> Iterator[str]:
    after = texts(pair.after, "SyntheticData")
    if after != ["YES"] and after != texts(pair.before, "SyntheticData"):
        yield "SyntheticData says less than the source's"


@RULES.add("unchanged", "PS3.3 C.12.4.1.1", "What the derivation does not touch is the source's.")
def _unchanged(pair: Pair) -> Iterator[str]:
    named = {
        *PATIENT, *STUDY, *GREY_SCALE, "SpecificCharacterSet", "InstanceNumber", "BurnedInAnnotation",
        "PresentationIntentType",
    }  # fmt: skip
    for tag in _common_tags(pair.before):
        if keyword_for_tag(tag) not in named and differs(pair.before, pair.after, tag):
            yield from _told(pair, tag)


@RULES.add(
    "nothing-invented", "PS3.3 C.12.4.1.1", "The result says nothing of the image that its source does not."
)
def _nothing_invented(pair: Pair) -> Iterator[str]:
    known = {*recipe.WRITTEN, *_ADDED}
    if pair.was_in_colour:
        known |= {"WindowCenter", "WindowWidth"}
    for tag in _common_tags(pair.after):
        keyword = keyword_for_tag(tag)
        if tag in pair.before or keyword in pair.source.dropped:
            continue
        if keyword not in known:
            yield f"{_name(tag)} is in the result alone"
        elif keyword in _ADDED and keyword not in recipe.WRITTEN and not _may_be_added(pair.after, keyword):
            yield f"{_name(tag)} is filled in"


@RULES.add(
    "signatures", "PS3.15 C.1, PS3.3 C.12.1.1.3", "A signature of the source does not cover the result."
)
def _signatures(pair: Pair) -> Iterator[str]:
    yield from _left(pair.after, recipe.GONE["signatures"])


@RULES.add(
    "statistics",
    "PS3.3 C.7.6.1, C.11.5, C.7.6.3",
    "Icons, histograms and extremes of a series are stale.",
)
def _statistics(pair: Pair) -> Iterator[str]:
    yield from _left(pair.after, recipe.GONE["thumbnail-and-statistics"])


@RULES.add(
    "frame-of-reference", "PS3.3 C.7.4.1, C.12.4", "Locations are not preserved, so no frame is shared."
)
def _frame_of_reference(pair: Pair) -> Iterator[str]:
    yield from _left(pair.after, recipe.GONE["frame-of-reference"])


@RULES.add("dose", "PS3.3 C.8.7", "A dose stands with the exposure and is not counted twice.")
def _dose(pair: Pair) -> Iterator[str]:
    yield from _left(pair.after, recipe.GONE["dose-counted-elsewhere"])


@RULES.add(
    "whereabouts",
    "PS3.4 C.4.1, PS3.3 C.12.1",
    "Where the source is kept and who authorised it hold for it alone.",
)
def _whereabouts(pair: Pair) -> Iterator[str]:
    for kind in ("whereabouts", "authorisation", "other-encodings-of-pixels", "codes-of-the-source-series"):
        yield from _left(pair.after, recipe.GONE[kind])


@RULES.add(
    "private",
    "PS3.5 7.8",
    "Vendors' blocks may describe the old matrix; those that travel keep their creator.",
)
def _private(pair: Pair) -> Iterator[str]:
    for tag in pair.after.keys():  # noqa: SIM118 - raw tags
        if not tag.is_private or tag.is_private_creator:
            continue
        creator = BaseTag((tag.group << 16) | (tag.element >> 8))
        if creator not in pair.after or tag not in pair.before or differs(pair.before, pair.after, tag):
            yield f"{_name(tag)} has no creator or is not the source's"


@RULES.add("left-out-is-said", "PS3.3 C.12.4.1.1", "The derivation text says what a reader might miss.")
def _left_out(pair: Pair) -> Iterator[str]:
    said = " ".join(texts(pair.after, "DerivationDescription"))
    private = any(tag.is_private for tag in pair.before.keys())  # noqa: SIM118
    kept_private = any(tag.is_private for tag in pair.after.keys())  # noqa: SIM118
    for word, lost in (
        ("overlays", set(overlays.planes(pair.before)) - set(overlays.planes(pair.after))),
        ("dose figures", [keyword for keyword in recipe.DOSE if keyword in pair.before]),
        ("curves", [tag for tag in pair.before.keys() if _is_curve(tag)]),  # noqa: SIM118
        ("private attributes", private and not kept_private),
        ("unreadable attributes", pair.source.dropped),
        ("unusable pixel spacing", [k for k in recipe.SPACINGS if k in pair.before and k not in pair.after]),
        ("colours", pair.was_in_colour),
    ):
        if lost and word not in said:
            yield f"that {word} were left out is not said"


def _changed(pair: Pair, keywords: Iterable[str], but: frozenset[str] = frozenset()) -> Iterator[str]:
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        if tag is None or keyword in but or keyword in pair.source.dropped:
            continue
        if differs(pair.before, pair.after, BaseTag(tag)):
            yield from _told(pair, BaseTag(tag))


def _told(pair: Pair, tag: BaseTag) -> Iterator[str]:
    keyword = keyword_for_tag(tag)
    allowed: set[str] = set(_with_bitmap_shutter(pair))
    if spacing_of(pair.before, "PixelSpacing") is None:
        allowed |= {*_CALIBRATION}
    if pair.was_in_colour:
        allowed |= {*colour.MEANINGLESS_IN_GREY}
    if keyword in allowed or (keyword in _ADDED and tag not in pair.before):
        return
    if keyword in ("PresentationIntentType", "ConversionType") and not canonical(pair.before.get(keyword)):
        return
    yield f"{_name(tag)} {'differs from the source' if tag in pair.after else 'is gone'}"


def _with_bitmap_shutter(pair: Pair) -> frozenset[str]:
    """The attributes of a shutter that may change because it was drawn as an overlay that is gone."""
    gone = set(overlays.planes(pair.before)) - set(overlays.planes(pair.after))
    return (
        frozenset(_BITMAP_SHUTTER) if gone and "BITMAP" in texts(pair.before, "ShutterShape") else frozenset()
    )


def _common_tags(ds: Dataset) -> Iterator[BaseTag]:
    """Tags on the top level but private ones, pixels, overlays, curves, and what other rules are about."""
    others = {
        *recipe.WRITTEN, *recipe.SPACINGS, *recipe.SHAPES, "SyntheticData",
        *(keyword for keywords in recipe.GONE.values() for keyword in keywords),
    }  # fmt: skip
    for tag in ds.keys():  # noqa: SIM118 - raw tags
        if tag.is_private or tag.group in (2, PIXELS) or tag.group in overlays.GROUPS or _is_curve(tag):
            continue
        if tag.element == 0 or (keyword_for_tag(tag) or "?") in others:
            continue
        yield tag


def _may_be_added(ds: Dataset, keyword: str) -> bool:
    written = ("PresentationIntentType", "ConversionType", "BurnedInAnnotation")
    return keyword in written or not ds.get(keyword)


def _left(ds: Dataset, keywords: Iterable[str]) -> Iterator[str]:
    for keyword in keywords:
        if keyword in ds:
            yield f"{keyword} is still there"


def _is_curve(tag: BaseTag) -> bool:
    return tag.group in range(0x5000, 0x5020, 2)


def _name(tag: BaseTag) -> str:
    return keyword_for_tag(tag) or f"({tag.group:04X},{tag.element:04X})"
