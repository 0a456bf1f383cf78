"""Previews for people: 8-bit pictures with the window applied and bright shown bright."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset

from pacs_node import lookup, stored

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
    """UInt8[H, W] as `header` says that it is to be seen: through its first window or VOI LUT, or over the
    range of the image without one.

    Padding is black.
    """
    hidden = (values >= padding[0]) & (values <= padding[1]) if padding is not None else None
    # One entry for each possible value: 65536 at most, whatever the size of the image.
    info = np.iinfo(values.dtype)
    possible = np.arange(info.min, info.max + 1)
    if stored.is_grey(header):
        table = lookup.modality_values(header, possible)
        shown_as = lookup.shades(header, table)
        if shown_as is None:
            shown_as = _over_range(table, table[_sample(values, hidden).astype(np.int64) - info.min])
        if stored.shows_inverted(header):
            shown_as = 1 - shown_as
    else:
        shown_as = possible / info.max
    entries = np.rint(np.clip(shown_as, 0, 1) * 255).astype(np.uint8)
    shown = np.empty(values.shape, np.uint8)
    for rows in stored.row_blocks(values.shape):
        shown[rows] = entries[values[rows].astype(np.int32) - info.min]
    if hidden is not None:
        shown[hidden] = 0
    return shown


def _sample(values: npt.NDArray[Any], hidden: npt.NDArray[np.bool_] | None) -> npt.NDArray[Any]:
    shown = values if hidden is None or hidden.all() else values[~hidden]
    return shown.ravel()[:: max(1, shown.size // 500_000)]


def _over_range(table: npt.NDArray[np.float64], sample: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    low, high = np.percentile(sample, (0.1, 99.9))
    return (table - low) / max(high - low, 1e-9)
