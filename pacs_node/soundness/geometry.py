"""Rules: what is measured in pixels of the matrix follows the enlargement."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from pydicom.tag import BaseTag

from pacs_node import overlays, recipe
from pacs_node.geometry import spacing_of
from pacs_node.soundness.book import Rules
from pacs_node.soundness.pair import Pair, numbers, texts

RULES = Rules()
OWN_LABEL = "AI-ENHANCED"
"""How the description of an overlay begins that labels a result."""


@RULES.add("matrix", "PS3.3 C.7.6.3", "The matrix is a whole multiple of the source's, of one factor.")
def _matrix(pair: Pair) -> Iterator[str]:
    if pair.scale is None:
        yield "Rows and Columns are no common multiple of the source's"


@RULES.add("spacing", "PS3.3 10.7.1", "Spacings are the source's, divided by new side / old side.")
def _spacing(pair: Pair) -> Iterator[str]:
    down, across = pair.ratio
    for keyword in recipe.SPACINGS:
        before, after = spacing_of(pair.before, keyword), spacing_of(pair.after, keyword)
        if before is None:
            if keyword in pair.after:
                yield f"{keyword} is there though the source's is missing or unusable"
            continue
        expected = before[0] / down, before[1] / across
        if after is None or not all(
            math.isclose(found, wanted, rel_tol=1e-6) for found, wanted in zip(after, expected, strict=True)
        ):
            yield f"{keyword} is not the source's divided by {down:g} and {across:g}"


@RULES.add("calibration", "PS3.3 10.7.1.1", "A calibration stands beside PixelSpacing, and only there.")
def _calibration(pair: Pair) -> Iterator[str]:
    for keyword in ("PixelSpacingCalibrationType", "PixelSpacingCalibrationDescription"):
        if keyword in pair.after and "PixelSpacing" not in pair.after:
            yield f"{keyword} is there without PixelSpacing"


@RULES.add(
    "edges", "PS3.3 C.7.6.11, C.8.7.3", "Edges of shutter and collimator enclose the same part of the image."
)
def _edges(pair: Pair) -> Iterator[str]:
    down, across = pair.ratio
    for shape in ("Shutter", "Collimator"):
        yield from _scaled(pair, f"{shape}LeftVerticalEdge", lambda v, _: (v - 1) * across + 1)
        yield from _scaled(pair, f"{shape}RightVerticalEdge", lambda v, _: v * across)
        yield from _scaled(pair, f"{shape}UpperHorizontalEdge", lambda v, _: (v - 1) * down + 1)
        yield from _scaled(pair, f"{shape}LowerHorizontalEdge", lambda v, _: v * down)


@RULES.add(
    "circles-and-polygons", "PS3.3 C.7.6.11, C.8.7.3", "Centres, radii and vertices move with their pixel."
)
def _circles(pair: Pair) -> Iterator[str]:
    ratio = pair.ratio

    def middle(value: float, axis: int) -> float:
        return (value - 0.5) * ratio[axis] + 0.5

    for shape in ("Shutter", "Collimator"):
        yield from _scaled(pair, f"CenterOfCircular{shape}", middle, tolerance=0.5)
        yield from _scaled(pair, f"VerticesOfThePolygonal{shape}", middle, tolerance=0.5)
        yield from _scaled(pair, f"RadiusOfCircular{shape}", lambda v, _: v * ratio[0], tolerance=0.5)


@RULES.add("overlays", "PS3.3 C.9.2", "An overlay marks the same part of the image as before, or is gone.")
def _overlays(pair: Pair) -> Iterator[str]:
    down, across = (int(one) for one in pair.ratio)
    for group in overlays.planes(pair.after):
        bits = overlays.bits_of(pair.after, group)
        if bits is None:
            yield f"the overlay {group:04X} has no bits of its own"
            continue
        title = BaseTag(group << 16 | 0x22)
        if title in pair.after and str(pair.after[title].value).startswith(OWN_LABEL):
            continue
        was = overlays.bits_of(pair.before, group)
        if was is None:
            yield f"the overlay {group:04X} is in the result alone"
        elif not np.array_equal(bits, np.repeat(np.repeat(was, down, 0), across, 1)):
            yield f"the overlay {group:04X} is not the source's, enlarged"
        elif _origin(pair, group, after=True) != [
            (value - 1) * ratio + 1
            for value, ratio in zip(_origin(pair, group, after=False), (down, across), strict=True)
        ]:
            yield f"the overlay {group:04X} lies elsewhere"


@RULES.add("bitmap-shutter", "PS3.3 C.7.6.15", "A shutter drawn as an overlay has its overlay.")
def _bitmap_shutter(pair: Pair) -> Iterator[str]:
    group, was = (numbers(ds, "ShutterOverlayGroup") for ds in (pair.after, pair.before))
    if "BITMAP" not in texts(pair.after, "ShutterShape") or (
        group and group[0] in overlays.planes(pair.after)
    ):
        return
    if was and was[0] in overlays.planes(pair.before):  # else it was not there before
        yield "ShutterShape names an overlay that is not there"


def _scaled(
    pair: Pair, keyword: str, scaled: Callable[[float, int], float], tolerance: float = 0.0
) -> Iterator[str]:
    """Compare an attribute whose values belong to rows and columns in turn."""
    before, after = numbers(pair.before, keyword), numbers(pair.after, keyword)
    count = 1 if "Edge" in keyword or "Radius" in keyword else 2
    if "Center" in keyword or count == 1:
        usable = len(before) == count
    else:
        usable = len(before) % 2 == 0
    expected = [scaled(value, index % 2) for index, value in enumerate(before)] if usable else []
    if any(abs(value) >= 1 << 31 for value in expected):
        expected = []  # more than an integer string holds: it was no place in the matrix, and goes
    if not all(value.is_integer() for value in before):  # no integer strings: rounded, or gone
        tolerance, expected = max(tolerance, 0.5), expected if after else []
    if len(after) != len(expected) or any(
        abs(found - wanted) > tolerance + 1e-9 for found, wanted in zip(after, expected, strict=True)
    ):
        yield f"{keyword} is not scaled with the matrix"


def _origin(pair: Pair, group: int, *, after: bool) -> list[int]:
    ds, tag = pair.after if after else pair.before, BaseTag(group << 16 | 0x50)
    return [int(value) for value in ds[tag].value] if tag in ds else [1, 1]
