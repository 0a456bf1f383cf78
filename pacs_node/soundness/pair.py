"""A source and an object derived from it, read and decoded."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.valuerep import DSdecimal, DSfloat, PersonName

from pacs_node import codecs, decode, stored
from pacs_node.decode import StoredImage
from pacs_node.errors import Refused
from pacs_node.examine import Examination

PIXELS = 0x7FE0


@dataclass(frozen=True, slots=True)
class Side:
    """One object. header: its data set (pixels in it are not looked at); meta: its file meta information.

    image: its stored values, or None where `refusal` says why there are none. stored_bytes: length of its
    encoded pixels. dropped: attributes of it that cannot be read.
    """

    header: Dataset
    meta: Dataset
    transfer_syntax: str
    image: StoredImage | None
    stored_bytes: int
    refusal: str = ""
    dropped: tuple[str, ...] = ()

    @classmethod
    def of_examination(cls, examined: Examination) -> Side:
        """What `pacs_node.examine` found."""
        return cls(
            header=examined.untouched(),
            meta=getattr(examined.header, "file_meta", Dataset()),
            transfer_syntax=examined.transfer_syntax,
            image=examined.image,
            stored_bytes=examined.stored_bytes,
            refusal=examined.refusal.sentence if examined.refusal is not None else "",
            dropped=examined.dropped,
        )

    @classmethod
    def of_dataset(cls, ds: Dataset) -> Side:
        """A whole data set, decoded in this process: only for objects that can be trusted."""
        meta = getattr(ds, "file_meta", Dataset())
        syntax = str(meta.get("TransferSyntaxUID") or codecs.EXPLICIT_VR_LITTLE_ENDIAN)
        image, refusal = None, ""
        try:
            image = decode.decode(ds, syntax)
        except Refused as refused:
            refusal = refused.refusal.sentence
        return cls(ds, meta, syntax, image, len(ds.get("PixelData") or b""), refusal)


@dataclass(frozen=True, slots=True)
class Pair:
    """source_is_ours: the source is the Secondary Capture that we made of an upload."""

    source: Side
    derived: Side
    source_is_ours: bool = False
    before: Dataset = field(init=False)
    after: Dataset = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "before", self.source.header)
        object.__setattr__(self, "after", self.derived.header)

    @classmethod
    def of_datasets(cls, source: Dataset, derived: Dataset) -> Pair:
        """Two whole data sets that can be trusted."""
        return cls(Side.of_dataset(source), Side.of_dataset(derived))

    @property
    def was_in_colour(self) -> bool:
        """Whether the source wrote its grey in colour."""
        return not stored.is_grey(self.before)

    @property
    def ratio(self) -> tuple[float, float]:
        """New side / old side, of rows and of columns. Raises ValueError where a side is unknown."""
        return (
            int(self.after.Rows) / int(self.before.Rows),
            int(self.after.Columns) / int(self.before.Columns),
        )

    @property
    def scale(self) -> int | None:
        """The whole factor of the enlargement, or None where there is none."""
        down, across = self.ratio
        return int(down) if down == across and down == int(down) and down >= 1 else None

    @property
    def has_burned_label(self) -> bool:
        """Whether a label was burned into the derived pixels."""
        return _flag(self.after, "BurnedInAnnotation") == "YES" != _flag(self.before, "BurnedInAnnotation")


def differs(before: Dataset, after: Dataset, tag: BaseTag) -> bool:
    """Whether an attribute has another value: by the bytes where both sides still have them, else by meaning.

    Private elements within sequences are left out of the comparison.
    """
    one: Any = before.get_item(tag)
    other: Any = after.get_item(tag)
    if isinstance(one, RawDataElement) and isinstance(other, RawDataElement):
        if _bare(one.value) == _bare(other.value):
            return False
        if one.VR == other.VR and one.VR in ("PN", "LO", "SH", "ST", "LT", "UT", "UC"):
            return True  # the same words in other bytes are a changed text
    return canonical(_value(before, tag)) != canonical(_value(after, tag))


def canonical(value: Any) -> Any:
    """A value in a form that compares equal whatever types and padding it came with."""
    if value is None or (isinstance(value, str) and not value.strip(" \0")):
        return ""
    if isinstance(value, Dataset):
        return tuple((int(e.tag), canonical(e.value)) for e in value if not e.tag.is_private)
    if isinstance(value, (MultiValue, list, tuple)):
        values = tuple(canonical(one) for one in value)
        return values[0] if len(values) == 1 and not isinstance(values[0], tuple) else values or ""
    if isinstance(value, bytes):
        return _bare(value)
    if isinstance(value, (int, float, DSfloat, DSdecimal)):
        return float(value) if math.isfinite(value) else str(value).strip()
    if isinstance(value, PersonName):
        return str(value).rstrip(" \0^=")
    text = str(value).strip(" \0")
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def numbers(ds: Dataset, keyword: str) -> list[float]:
    """The numbers of an attribute; empty where it is missing or one of them cannot be read."""
    try:
        value = ds.get(keyword)
        if value is None or value == "":
            return []
        values = value if isinstance(value, (MultiValue, list, tuple)) else [value]
        found = [float(str(one)) for one in values]
        return found if all(map(math.isfinite, found)) else []
    except (TypeError, ValueError, OverflowError):
        return []


def items(ds: Dataset, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is missing or no sequence."""
    value = ds.get(keyword)
    return [] if value is None else [item for item in value if isinstance(item, Dataset)]


def texts(ds: Dataset, keyword: str) -> list[str]:
    """The values of an attribute as texts without padding."""
    value = ds.get(keyword)
    if value is None:
        return []
    values = value if isinstance(value, (MultiValue, list, tuple)) else [value]
    return [str(one).strip(" \0") for one in values]


def _flag(ds: Dataset, keyword: str) -> str:
    return (texts(ds, keyword) or [""])[0].upper()


def _value(ds: Dataset, tag: BaseTag) -> Any:
    return ds[tag].value if tag in ds else None


def _bare(value: Any) -> Any:
    return value.rstrip(b" \0") if isinstance(value, bytes) else value
