"""What an enlargement does to attributes measured in pixels: spacings, shutters and collimators.

Every function changes the data set that it is given. Ratios are true ones (new side / old side), for rows and
columns apart; an attribute with two values has the row's first (PS3.3 10.7.1.3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import DSfloat

from pacs_node.recipe import SPACINGS

_SHAPES = ("Shutter", "Collimator")


@dataclass(frozen=True, slots=True)
class Enlargement:
    """From `old` to `new` (rows, columns)."""

    old: tuple[int, int]
    new: tuple[int, int]

    @property
    def row_ratio(self) -> float:
        return self.new[0] / self.old[0]

    @property
    def column_ratio(self) -> float:
        return self.new[1] / self.old[1]


def spacing_of(ds: Dataset, keyword: str) -> tuple[float, float] | None:
    """Row and column spacing in mm, or None where it is missing, malformed, zero or negative (real files
    have all)."""
    numbers = _numbers(ds, keyword)
    if len(numbers) != 2 or not all(math.isfinite(n) and n > 0 for n in numbers):
        return None
    return numbers[0], numbers[1]


def finest_spacing(ds: Dataset) -> float | None:
    """The smaller side of a pixel in mm, at the detector where it is known, or None."""
    for keyword in SPACINGS:
        spacing = spacing_of(ds, keyword)
        if spacing is not None:
            return min(spacing)
    return None


def scale_spacings(ds: Dataset, by: Enlargement) -> tuple[str, ...]:
    """Divide every spacing; drop unusable ones and return their keywords. None is ever added."""
    dropped = []
    for keyword in SPACINGS:
        if keyword not in ds:
            continue
        spacing = spacing_of(ds, keyword)
        if spacing is None:
            del ds[keyword]
            dropped.append(keyword)
            continue
        rows, columns = spacing[0] / by.row_ratio, spacing[1] / by.column_ratio
        setattr(ds, keyword, [DSfloat(rows, auto_format=True), DSfloat(columns, auto_format=True)])
    if "PixelSpacing" not in ds:
        for keyword in ("PixelSpacingCalibrationType", "PixelSpacingCalibrationDescription"):
            if keyword in ds:
                del ds[keyword]
    return tuple(dropped)


def scale_shapes(ds: Dataset, by: Enlargement) -> None:
    """Scale display shutter and collimator: pixel coordinates of the matrix, counted from 1.

    An edge at the left or above is the first pixel of the opening, at the right or below the last one: the
    opening covers the same part of the image afterwards. Centres and vertices move with the middle of
    their pixel.
    """
    down, across = by.row_ratio, by.column_ratio
    for name in _SHAPES:
        _put(ds, f"{name}LeftVerticalEdge", 1, lambda v: [(v[0] - 1) * across + 1])
        _put(ds, f"{name}RightVerticalEdge", 1, lambda v: [v[0] * across])
        _put(ds, f"{name}UpperHorizontalEdge", 1, lambda v: [(v[0] - 1) * down + 1])
        _put(ds, f"{name}LowerHorizontalEdge", 1, lambda v: [v[0] * down])
        _put(ds, f"CenterOfCircular{name}", 2, lambda v: _points(v, by))
        _put(ds, f"RadiusOfCircular{name}", 1, lambda v: [v[0] * down])
        _put(ds, f"VerticesOfThePolygonal{name}", None, lambda v: _points(v, by))


def drop_bitmap_shutter(ds: Dataset, overlays: list[int]) -> None:
    """Remove a shutter drawn as one of the `overlays` (their groups), when these go."""
    shapes, drawn = _words(ds, "ShutterShape"), _numbers(ds, "ShutterOverlayGroup")
    if "BITMAP" not in shapes or (drawn and int(drawn[0]) not in overlays):
        return
    left = [shape for shape in shapes if shape != "BITMAP"]
    if left:
        ds.ShutterShape = left
    else:
        del ds.ShutterShape
        for keyword in ("ShutterPresentationValue", "ShutterPresentationColorCIELabValue"):
            if keyword in ds:
                del ds[keyword]
    if "ShutterOverlayGroup" in ds:
        del ds.ShutterOverlayGroup


def shutter_mask(ds: Dataset, rows: int, columns: int) -> npt.NDArray[np.bool_] | None:
    """Bool[rows, columns], true where a display shutter hides the pixel; None without one, or if it hides
    all."""
    shapes = _words(ds, "ShutterShape")
    hidden = np.zeros((rows, columns), np.bool_)
    if "RECTANGULAR" in shapes:
        edges = [
            _numbers(ds, f"Shutter{side}Edge")
            for side in ("UpperHorizontal", "LowerHorizontal", "LeftVertical", "RightVertical")
        ]
        if all(len(edge) == 1 for edge in edges):
            upper, lower, left, right = (int(edge[0]) for edge in edges)
            opening = np.zeros_like(hidden)
            opening[max(0, upper - 1) : max(0, lower), max(0, left - 1) : max(0, right)] = True
            hidden |= ~opening
    if "CIRCULAR" in shapes:
        centre, radius = _numbers(ds, "CenterOfCircularShutter"), _numbers(ds, "RadiusOfCircularShutter")
        if len(centre) == 2 and len(radius) == 1:
            y, x = np.ogrid[1 : rows + 1, 1 : columns + 1]
            hidden |= (y - centre[0]) ** 2 + (x - centre[1]) ** 2 > radius[0] ** 2
    if "POLYGONAL" in shapes:
        vertices = _numbers(ds, "VerticesOfThePolygonalShutter")
        if len(vertices) >= 6 and len(vertices) % 2 == 0:
            hidden |= ~_polygon(vertices, rows, columns)
    if not hidden.any() or hidden.all():
        return None
    return hidden


def _polygon(vertices: list[float], rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """Bool[rows, columns], true inside the polygon of (row, column) vertices counted from 1; the border is
    inside."""
    from PIL import Image, ImageDraw

    canvas = Image.new("1", (columns, rows))
    corners = [(vertices[i + 1] - 1, vertices[i] - 1) for i in range(0, len(vertices), 2)]
    ImageDraw.Draw(canvas).polygon(corners, fill=1, outline=1)
    return np.asarray(canvas, dtype=np.bool_)


def _put(ds: Dataset, keyword: str, count: int | None, scaled: Callable[[list[float]], list[float]]) -> None:
    """Scale an attribute of `count` numbers, or of pairs.

    What is no number, or more than an integer string can hold, was no place in the matrix, and goes.
    """
    if keyword not in ds or ds[keyword].value in (None, ""):
        return
    numbers = _numbers(ds, keyword)
    usable = bool(numbers) and (len(numbers) == count or (count is None and len(numbers) % 2 == 0))
    values = [round(value) for value in scaled(numbers)] if usable else []
    if values and all(abs(value) < 1 << 31 for value in values):
        setattr(ds, keyword, values if len(values) > 1 else values[0])
    else:
        del ds[keyword]


def _points(values: list[float], by: Enlargement) -> list[float]:
    ratios = (by.row_ratio, by.column_ratio)
    return [(value - 0.5) * ratios[i % 2] + 0.5 for i, value in enumerate(values)]


def _numbers(ds: Dataset, keyword: str) -> list[float]:
    """The numbers of an attribute; empty where one of them cannot be read or is none."""
    try:
        value = ds.get(keyword)
        if value is None or value == "":
            return []
        values = value if isinstance(value, (MultiValue, list, tuple)) else [value]
        numbers = [float(v) for v in values]
        return numbers if all(map(math.isfinite, numbers)) else []
    except (TypeError, ValueError, OverflowError):
        return []


def _words(ds: Dataset, keyword: str) -> list[str]:
    value = ds.get(keyword)
    if value is None:
        return []
    values = value if isinstance(value, (MultiValue, list, tuple)) else [value]
    return [str(v).strip().upper() for v in values if str(v).strip()]
