"""Overlay planes (PS3.3 C.9.2) through an enlargement: markers and annotations stay where they were drawn."""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from pacs_node.geometry import Enlargement

GROUPS = range(0x6000, 0x6020, 2)
_ROWS, _COLUMNS, _FRAMES, _ORIGIN, _BITS, _POSITION, _DATA = (
    0x0010, 0x0011, 0x0015, 0x0050, 0x0100, 0x0102, 0x3000,
)  # fmt: skip
_DESCRIPTIVE = (0x0010, 0x0011, 0x0022, 0x0040, 0x0045, 0x0050, 0x0100, 0x0102, 0x1500, 0x3000)
"""What of a plane stays. Statistics of its region go: they count pixels of the old matrix."""


def planes(ds: Dataset) -> list[int]:
    """Groups that hold an overlay plane of any kind, or the rest of one."""
    return sorted({tag.group for tag in ds.keys() if tag.group in GROUPS})  # noqa: SIM118 - raw tags


def scale_overlays(ds: Dataset, by: Enlargement) -> list[int]:
    """Enlarge every overlay plane that has its own bits, each bit to a block; drop the others, and return the
    groups of those.

    Dropped are planes within the pixels (their bits do not pass through the network), of several frames, cut,
    or of far more pixels than the image.
    """
    dropped = []
    for group in planes(ds):
        plane = _enlarged(ds, group, by)
        for tag in [tag for tag in ds.keys() if tag.group == group]:  # noqa: SIM118
            if plane is None or tag.element not in _DESCRIPTIVE:
                del ds[tag]
        if plane is None:
            dropped.append(group)
            continue
        rows, columns, origin, data = plane
        for element, vr, value in (
            (_ROWS, "US", rows), (_COLUMNS, "US", columns), (_ORIGIN, "SS", origin), (_BITS, "US", 1),
            (_POSITION, "US", 0), (_DATA, "OW", data),
        ):  # fmt: skip
            ds.add_new(Tag(group, element), vr, value)
    return dropped


def free_group(ds: Dataset) -> int | None:
    """The first group without an overlay, or None where all sixteen are taken."""
    taken = planes(ds)
    return next((group for group in GROUPS if group not in taken), None)


def bits_of(ds: Dataset, group: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]] | None:
    """UInt8[H, W] of 0 and 1: the bits of a plane that has its own, else None."""
    try:
        rows, columns = _number(ds, group, _ROWS, 0), _number(ds, group, _COLUMNS, 0)
        single = _number(ds, group, _FRAMES, 1) == 1
        own = _number(ds, group, _BITS, 1) == 1 and _number(ds, group, _POSITION, 0) == 0
        data = ds[_tag(group, _DATA)].value if _tag(group, _DATA) in ds else None
    except (TypeError, ValueError):
        return None
    if not (single and own and rows > 0 and columns > 0 and isinstance(data, bytes)):
        return None
    if len(data) * 8 < rows * columns:
        return None
    bits = np.unpackbits(np.frombuffer(data, "u1"), count=rows * columns, bitorder="little")
    return bits.reshape(rows, columns)


def _enlarged(ds: Dataset, group: int, by: Enlargement) -> tuple[int, int, list[int], bytes] | None:
    bits = bits_of(ds, group)
    down, across = by.new[0] // by.old[0], by.new[1] // by.old[1]
    if bits is None or (by.old[0] * down, by.old[1] * across) != by.new:
        return None
    rows, columns = bits.shape[0] * down, bits.shape[1] * across
    try:
        corner = (
            [int(value) for value in ds[_tag(group, _ORIGIN)].value] if _tag(group, _ORIGIN) in ds else [1, 1]
        )
    except (TypeError, ValueError):
        return None
    if len(corner) != 2 or max(rows, columns) > 65535 or rows * columns > 4 * by.new[0] * by.new[1]:
        return None
    origin = [(corner[0] - 1) * down + 1, (corner[1] - 1) * across + 1]
    if not all(-(1 << 15) <= value < 1 << 15 for value in origin):
        return None
    enlarged = np.packbits(np.repeat(np.repeat(bits, down, 0), across, 1), bitorder="little").tobytes()
    return rows, columns, origin, enlarged + b"\0" * (len(enlarged) % 2)


def _number(ds: Dataset, group: int, element: int, default: int) -> int:
    tag = _tag(group, element)
    value = ds[tag].value if tag in ds else None
    return default if value is None or value == "" else int(value)


def _tag(group: int, element: int) -> BaseTag:
    return Tag(group, element)
