"""Before and after: what a reader would see, side by side at 100 %."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from webui.comparison import framed

UInt8 = npt.NDArray[np.uint8]

PANEL = 900
"""Longest side of each half, in pixels of the result."""


def brightness(ds: Any) -> npt.NDArray[np.float64]:
    """float64 [H, W], brighter is larger, through the object's own window where it has one."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    values = np.asarray(apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds), dtype=np.float64)
    return -values if ds.PhotometricInterpretation == "MONOCHROME1" else values


def as_bytes(values: npt.NDArray[np.floating], black: float, white: float) -> UInt8:
    """uint8 of the same shape; `black` and below is 0, `white` and above 255."""
    grey = np.clip((values - black) / max(white - black, 1e-9), 0, 1)
    return np.rint(grey * 255).astype(np.uint8)


def side_by_side(
    before: npt.NDArray[np.float64], after: npt.NDArray[np.float64], *, left: str, right: str
) -> Image.Image:
    """The source enlarged by bicubic beside the result, a part of both where the whole would be too large.

    before: float64 [h, w]; after: float64 [H, W]; brightness of any unit, shown from black to white as the
    part of the source spans it. The picture shows result pixels one to one, with a caption over each half.
    """
    height, width = after.shape
    wide, high = min(PANEL, width), min(PANEL, height)
    # the middle of a lung, where there are vessels to see, not the spine
    x = min(max(round(width * 0.33) - wide // 2, 0), width - wide)
    y = min(max(round(height * 0.45) - high // 2, 0), height - high)
    enlarged = Image.fromarray(before.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    halves = [np.asarray(enlarged)[y : y + high, x : x + wide], after[y : y + high, x : x + wide]]
    black, white = np.percentile(halves[0], (0.2, 99.8))
    shown = [Image.fromarray(as_bytes(half, black, white)) for half in halves]
    return framed(shown[0], shown[1], left, right)


def write_before_after(source: Path, result: Path, target: Path, *, model: str) -> None:
    """Read two DICOM files and write their before/after PNG to `target`."""
    from pydicom import dcmread

    before, after = brightness(dcmread(source)), brightness(dcmread(result))
    factor = f"x{after.shape[1] / before.shape[1]:g}"
    picture = side_by_side(
        before,
        after,
        left=f"source {before.shape[1]}x{before.shape[0]}, enlarged {factor} by bicubic",
        right=f"result {after.shape[1]}x{after.shape[0]}, {model} (AI, not for diagnosis)",
    )
    picture.save(target)
