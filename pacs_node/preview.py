"""Previews for people: 8-bit pictures with the window applied and bright shown bright."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from pacs_node import stored

LONG_SIDE = 2048


def preview_png(
    header: Dataset,
    values: npt.NDArray[Any],
    padding: tuple[int, int] | None = None,
    *,
    long_side: int | None = LONG_SIDE,
) -> bytes:
    """A PNG of `values` (Int[H, W], stored values), at most `long_side` pixels on a side; None keeps every
    pixel."""
    picture = Image.fromarray(windowed(header, values, padding))
    if long_side is not None and max(picture.size) > long_side:
        picture.thumbnail((long_side, long_side), Image.Resampling.BOX, reducing_gap=None)
    buffer = BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def windowed(
    header: Dataset, values: npt.NDArray[Any], padding: tuple[int, int] | None = None
) -> npt.NDArray[np.uint8]:
    """UInt8[H, W] through the first window of `header` (PS3.3 C.11.2.1.2), or the range of the image
    without one.

    Padding is black.
    """
    hidden = (values >= padding[0]) & (values <= padding[1]) if padding is not None else None
    low, high = _window(header) or _range(values, hidden)
    slope = 255.0 / max(high - low, 1e-9)
    # One entry for each possible value: 65536 at most, whatever the size of the image.
    info = np.iinfo(values.dtype)
    table = np.clip((np.arange(info.min, info.max + 1, dtype=np.float64) - low) * slope, 0, 255)
    if stored.high_is_dark(header):
        table = 255 - table
    shades = np.rint(table).astype(np.uint8)
    shown = np.empty(values.shape, np.uint8)
    for rows in stored.row_blocks(values.shape):
        shown[rows] = shades[values[rows].astype(np.int32) - info.min]
    if hidden is not None:
        shown[hidden] = 0
    return shown


def _window(header: Dataset) -> tuple[float, float] | None:
    """Stored values shown as black and as white (before any inversion) by the first linear window."""
    centre, width = _first(header, "WindowCenter"), _first(header, "WindowWidth")
    if centre is None or width is None or width < 1:
        return None
    slope, intercept = _first(header, "RescaleSlope") or 1.0, _first(header, "RescaleIntercept") or 0.0
    low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    if str(header.get("VOILUTFunction") or "").strip().upper() == "LINEAR_EXACT":
        low, high = centre - width / 2, centre + width / 2
    ends = sorted(((low - intercept) / slope, (high - intercept) / slope))
    return ends[0], max(ends[1], ends[0] + 1e-6)


def _range(values: npt.NDArray[Any], hidden: npt.NDArray[np.bool_] | None) -> tuple[float, float]:
    shown = values if hidden is None or hidden.all() else values[~hidden]
    sample = shown.ravel()[:: max(1, shown.size // 500_000)]
    low, high = np.percentile(sample, (0.1, 99.9))
    return float(low), float(max(high, low + 1))


def _first(header: Dataset, keyword: str) -> float | None:
    try:
        value = header.get(keyword)
        if value is None or value == "":
            return None
        if isinstance(value, (MultiValue, list, tuple)):
            value = value[0]
        number = float(value)
    except (TypeError, ValueError, IndexError):
        return None
    return number if np.isfinite(number) else None
