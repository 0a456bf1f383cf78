"""Images to evaluate, and the pairs of input and truth that the protocols make of them.

- `native`: the truth is the image reduced to side x side (256 unless asked), the input that reduced by the
  scale. The honest one.
- `seed`: the image is reduced to side / scale and enlarged again; that soft image is the truth, the input is
  that reduced again. Its figures are high for any method and say little.

Pillow's bicubic does every reduction, at the image's own number of grey levels.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from enhancer.data import NATIVE_SIDE, Float32, UInt8, read
from enhancer.errors import DataError

PROTOCOLS = ("native", "seed")


@dataclass(frozen=True)
class Original:
    """An image as it is stored.

    values: integers [H, W] of any dtype, brighter is larger. low, high: the values that stand for 0 and 1 in
    every figure; all from `low` to `high` are grey levels. patient: a key of whom it shows, or None where
    nothing tells (the image then counts as a patient of its own).
    """

    values: npt.NDArray[Any]
    low: int = 0
    high: int = 255
    patient: str | None = None


@dataclass(frozen=True)
class Pair:
    """What goes in and what should come out, float32 in [0, 1], rounded to the image's grey levels."""

    lr: Float32
    truth: Float32
    scale: int
    levels: int
    """How many steps there are from 0 to 1: 255 for 8 bits."""

    def rounded(self, image: npt.NDArray[np.floating]) -> Float32:
        """A result as it would be stored: clipped to [0, 1] and rounded to the grey levels."""
        steps = np.rint(np.clip(image.astype(np.float64), 0, 1) * self.levels)
        return (steps / self.levels).astype(np.float32)


Reader = Callable[[Path], Original]
Simulate = Callable[[Float32, float, np.random.Generator], npt.NDArray[np.floating]]
"""`simulate(image, dose, rng)`: a clean image in [0, 1] as it would be at that share of the dose."""


def read_picture(path: Path) -> Original:
    """A picture of 8 bits (colour becomes grey), or of 16: its darkest and brightest are 0 and 1."""
    try:
        with Image.open(path) as image:
            wide = np.asarray(image) if image.mode in ("I", "I;16", "I;16B") else None
    except (OSError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}") from error
    if wide is None:
        return Original(read(path))
    low, high = int(wide.min()), int(wide.max())
    return Original(wide.astype(np.int32), low, max(high, low + 1))


def make_pair(
    original: Original,
    protocol: str,
    scale: int,
    *,
    side: int = NATIVE_SIDE,
    noise: tuple[Simulate, float, np.random.Generator] | None = None,
) -> Pair:
    """The pair of a protocol; `noise` (how, dose, chance) goes onto the truth before it is reduced."""
    levels = original.high - original.low
    values = original.values
    if protocol == "seed":
        values = _resized(values, side // scale, original)
    truth = _resized(values, side, original)
    source = truth
    if noise is not None:
        simulate, dose, rng = noise
        noisy = simulate(_unit(truth, original), dose, rng)
        source = (np.rint(np.clip(noisy, 0, 1) * levels) + original.low).astype(truth.dtype)
    lr = _resized(source, side // scale, original)
    return Pair(_unit(lr, original), _unit(truth, original), scale, levels)


def pair(image: UInt8, protocol: str, scale: int) -> tuple[UInt8, UInt8]:
    """The input uint8 [256/scale, 256/scale] and the truth uint8 [256, 256] of an image of any size."""
    made = make_pair(Original(image), protocol, scale)
    lr, truth = (np.rint(each * 255).astype(np.uint8) for each in (made.lr, made.truth))
    return lr, truth


def rng_of(path: Path, dose: float) -> np.random.Generator:
    """The noise of a file at a dose is the same in every run and on every machine."""
    return np.random.default_rng((zlib.crc32(path.name.encode()), round(dose * 1000)))


def _resized(values: npt.NDArray[Any], side: int, original: Original) -> npt.NDArray[Any]:
    if values.shape == (side, side):
        return values
    if values.dtype == np.uint8:
        return np.asarray(Image.fromarray(values).resize((side, side), Image.Resampling.BICUBIC))
    floating = Image.fromarray(values.astype(np.float32))
    resized = np.asarray(floating.resize((side, side), Image.Resampling.BICUBIC))
    return np.clip(np.rint(resized), original.low, original.high).astype(np.int32)


def _unit(values: npt.NDArray[Any], original: Original) -> Float32:
    centred = (values.astype(np.float64) - original.low) / (original.high - original.low)
    return centred.astype(np.float32)
