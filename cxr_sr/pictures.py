"""Before and after: what a reader would see, side by side at 100 %."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

UInt8 = npt.NDArray[np.uint8]

PANEL = 900
"""Longest side of each half, in pixels of the result."""
CAPTION = 28
GAP = 4


def brightness(ds: Any) -> npt.NDArray[np.float64]:
    """float64 [H, W], brighter is larger, through the object's own window where it has one."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

    values = np.asarray(apply_voi_lut(apply_modality_lut(ds.pixel_array, ds), ds), dtype=np.float64)
    return -values if ds.PhotometricInterpretation == "MONOCHROME1" else values


def as_bytes(values: npt.NDArray[np.float64], black: float, white: float) -> UInt8:
    """uint8 of the same shape; `black` and below is 0, `white` and above 255."""
    grey = np.clip((values - black) / max(white - black, 1e-9), 0, 1)
    return np.rint(grey * 255).astype(np.uint8)


def side_by_side(before: UInt8, after: UInt8, *, left: str, right: str) -> Image.Image:
    """The source enlarged by bicubic beside the result, a part of both where the whole would be too large.

    before: uint8 [h, w]; after: uint8 [H, W]; the picture shows result pixels one to one, with a caption over
    each.
    """
    height, width = after.shape
    enlarged = Image.fromarray(before).resize((width, height), Image.Resampling.BICUBIC)
    wide, high = min(PANEL, width), min(PANEL, height)
    # the middle of a lung, where there are vessels to see, not the spine
    x = min(max(round(width * 0.33) - wide // 2, 0), width - wide)
    y = min(max(round(height * 0.45) - high // 2, 0), height - high)
    box = (x, y, x + wide, y + high)
    picture = Image.new("L", (2 * wide + GAP, high + CAPTION), 255)
    picture.paste(enlarged.crop(box), (0, CAPTION))
    picture.paste(Image.fromarray(after).crop(box), (wide + GAP, CAPTION))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=15)
    draw.text((6, 6), left, fill=0, font=font)
    draw.text((wide + GAP + 6, 6), right, fill=0, font=font)
    return picture


def write_before_after(source: Path, result: Path, target: Path, *, model: str) -> None:
    """Read two DICOM files and write their before/after PNG to `target`."""
    from pydicom import dcmread

    before_ds, after_ds = dcmread(source), dcmread(result)
    before, after = brightness(before_ds), brightness(after_ds)
    black, white = np.percentile(before, (0.2, 99.8))
    factor = f"x{after.shape[1] / before.shape[1]:g}"
    picture = side_by_side(
        as_bytes(before, black, white),
        as_bytes(after, black, white),
        left=f"source {before.shape[1]}x{before.shape[0]}, enlarged {factor} by bicubic",
        right=f"result {after.shape[1]}x{after.shape[0]}, {model} (AI, not for diagnosis)",
    )
    picture.save(target)
