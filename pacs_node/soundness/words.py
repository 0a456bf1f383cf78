"""Rules: warnings that people see, times, and values that fit their VR."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pydicom.datadict import dictionary_has_tag, dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from pacs_node import recipe
from pacs_node.soundness.book import Rules
from pacs_node.soundness.pair import Pair, texts

RULES = Rules()
_LONGEST = {
    "AE": 16, "AS": 4, "CS": 16, "DA": 8, "DS": 16, "DT": 26, "IS": 12, "LO": 64, "LT": 10240, "SH": 16,
    "ST": 1024, "TM": 16, "UI": 64,
}  # fmt: skip
_FORM = {
    "DS": re.compile(r" *[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)? *"),
    "IS": re.compile(r" *[+-]?\d+ *"),
    "CS": re.compile(r"[A-Z0-9_ ]*"),
    "DA": re.compile(r"\d{8}"),
    "TM": re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)? *"),
    "DT": re.compile(r"\d{4,14}(\.\d{1,6})?([+-]\d{4})? *"),
    "AS": re.compile(r"\d{3}[DWMY]"),
}
"""Forms of PS3.5 6.2; whatever is not here may be any text."""


@RULES.add("qualified", "PS3.3 C.12.1", "ContentQualification says that this is for research.")
def _qualified(pair: Pair) -> Iterator[str]:
    if texts(pair.after, "ContentQualification") != ["RESEARCH"]:
        yield "ContentQualification is not RESEARCH"


@RULES.add("series-description", "PS3.3 C.7.3.1", "The name of the series says AI, factor and for what.")
def _series_description(pair: Pair) -> Iterator[str]:
    said = " ".join(texts(pair.after, "SeriesDescription"))
    if f"AI super-resolution x{pair.scale}" not in said or "research" not in said:
        yield "SeriesDescription does not say AI, the factor and research"


@RULES.add(
    "comments", "PS3.3 C.7.6.1", "Viewers that show comments show the warning, before the source's own."
)
def _comments(pair: Pair) -> Iterator[str]:
    said = " ".join(texts(pair.after, "ImageComments"))
    if f"x{pair.scale}" not in said or "not for diagnosis" not in said.lower():
        yield "ImageComments do not say the factor and that it is not for diagnosis"


@RULES.add(
    "times", "PS3.3 C.7.3.1, C.7.6.1, C.12.1", "Series, content and instance were made when it was made."
)
def _times(pair: Pair) -> Iterator[str]:
    moments = set()
    for kind in ("InstanceCreation", "Series", "Content"):
        date, time = texts(pair.after, f"{kind}Date"), texts(pair.after, f"{kind}Time")
        moment = _moment((date or [""])[0], (time or [""])[0])
        if moment is None:
            yield f"{kind}Date and {kind}Time are no time"
        moments.add(moment)
    if len(moments) > 1:
        yield "instance, series and content have different times"
    before, after = (texts(ds, "TimezoneOffsetFromUTC") for ds in (pair.before, pair.after))
    if after and after != before:
        yield "TimezoneOffsetFromUTC is not the source's, whose times it is about as well"


@RULES.add("values", "PS3.5 6.2", "Values have the length and form of their VR.")
def _values(pair: Pair) -> Iterator[str]:
    known = {
        name.split(".")[-1] for name in _malformed(pair.before)
    }  # the source's own, wherever it is copied
    for name in dict.fromkeys(_malformed(pair.after)):
        if name.split(".")[-1] not in known:
            yield f"{name} is longer or other than its VR allows"


@RULES.add("representations", "PS3.6 6", "What we write has the VR of the dictionary.")
def _representations(pair: Pair) -> Iterator[str]:
    for keyword in (*recipe.WRITTEN, *recipe.SPACINGS, *recipe.SHAPES):
        tag = tag_for_keyword(keyword)
        if tag is None or keyword not in pair.after or keyword == "PixelData":
            continue
        if str(pair.after[tag].VR) not in dictionary_VR(tag).split(" or "):
            yield f"{keyword} has the VR {pair.after[tag].VR}"


def _malformed(ds: Dataset, path: str = "") -> Iterator[str]:
    """Paths of elements whose value breaks a rule of its VR."""
    for element in ds:
        name = path + (element.keyword or f"({element.tag.group:04X},{element.tag.element:04X})")
        if element.VR == "SQ":
            for item in element.value:
                yield from _malformed(item, f"{name}.")
        elif not dictionary_has_tag(element.tag) or element.VR not in _LONGEST:
            continue
        elif any(not _fits(str(element.VR), value) for value in _each(element.value)):
            yield name


def _each(value: Any) -> list[str]:
    if value is None:
        return []
    values = value if isinstance(value, (list, tuple, MultiValue)) else [value]
    return [str(one).rstrip(" \0") for one in values]


def _fits(vr: str, value: str) -> bool:
    form = _FORM.get(vr)
    return len(value) <= _LONGEST[vr] and (not value or form is None or form.fullmatch(value) is not None)


def _moment(date: str, time: str) -> datetime | None:
    try:
        return datetime.strptime(date + time[:6], "%Y%m%d%H%M%S")  # noqa: DTZ007 - compared with itself
    except ValueError:
        return None
