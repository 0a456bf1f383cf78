"""Test objects, float64 [256, 256], grey values in [0, 1], brighter is larger; differences where named so."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from enhancer.evaluation.images import Pair
from enhancer.resample import reduced

Float64 = npt.NDArray[np.float64]

SIDE = 256
BORDER = 24
"""Width of the ramp around a phantom, pixels: it spreads the grey values as an image's are spread."""
FINE = 8
"""Points a pixel in each direction where an object's edge is integrated over the pixel."""


def phantom(level: float = 0.5) -> Float64:
    """An even field with a ramp around it, so that the normalisation sees a whole range of grey."""
    image = np.full((SIDE, SIDE), level)
    ramp = 1 - np.linspace(0, 1, SIDE) ** 2
    for cut in (np.s_[:BORDER], np.s_[-BORDER:]):
        image[cut, :] = ramp
        image[:, cut] = ramp[:, None]
    return image


def inner(image: Float64, margin: int = 16) -> Float64:
    """What lies inside the ramp and a margin."""
    edge = BORDER + margin
    return image[edge:-edge, edge:-edge]


def pair_of(truth: Float64, scale: int, noise: Float64 | None = None) -> Pair:
    """The object as a detector with pixels `scale` times larger sees it; noise [H, W] is the detector's."""
    lr = reduced(truth.astype(np.float32), scale)
    if noise is not None:
        lr = lr + noise.astype(np.float32)
    return Pair(lr.astype(np.float32), truth.astype(np.float32), scale, levels=65535)


def coverage(inside: Callable[[Float64, Float64], npt.NDArray[np.bool_]]) -> Float64:
    """The share of each pixel where `inside(y, x)` holds; pixel i spans from i to i + 1."""
    offsets = (np.arange(FINE) + 0.5) / FINE
    fine = (np.arange(SIDE)[:, None] + offsets).ravel()
    held = inside(fine[:, None], fine[None, :])
    return held.reshape(SIDE, FINE, SIDE, FINE).mean(axis=(1, 3), dtype=np.float64)


def slanted_edge(degrees: float, low: float = 0.4, high: float = 0.6) -> Float64:
    """A step through the middle, turned from the vertical, in a phantom."""
    normal = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    middle = SIDE / 2
    share = coverage(lambda y, x: (x - middle) * normal[0] + (y - middle) * normal[1] > 0)
    return _framed(low + (high - low) * share)


def bars(cycles: float, amplitude: float = 0.1) -> Float64:
    """A wave of `cycles` a pixel along the rows, averaged over each pixel, in a phantom."""
    x = np.arange(SIDE) + 0.5
    aperture = np.sinc(cycles)
    wave = amplitude * aperture * np.sin(2 * np.pi * cycles * x)
    return _framed(np.broadcast_to(0.5 + wave, (SIDE, SIDE)))


def disc(y: float, x: float, radius: float) -> Float64:
    """1 within a circle, 0 without."""
    return coverage(lambda rows, columns: np.hypot(rows - y, columns - x) < radius)


def nodule(y: float, x: float, radius: float) -> Float64:
    """The shadow of a ball: the chord's length, 1 in the middle, 0 from the radius on."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    return np.sqrt(np.clip(1 - (np.hypot(rows - y, columns - x) / radius) ** 2, 0, None))


def line(y: float, x: float, width: float, length: float = 64, degrees: float = 30) -> Float64:
    """A catheter's or a septum's line around (y, x), 1 on it."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))

    def inside(rows: Float64, columns: Float64) -> npt.NDArray[np.bool_]:
        along = (columns - x) * cos + (rows - y) * sin
        across = (rows - y) * cos - (columns - x) * sin
        return (np.abs(across) < width / 2) & (np.abs(along) < length / 2)

    return coverage(inside)


def pneumothorax(y: float, x: float, width: float, radius: float = 48) -> Float64:
    """The edge of a collapsed lung: a thin bright arc of the pleura and darker air beside it."""
    centre = x + radius

    def within(rows: Float64, columns: Float64) -> npt.NDArray[np.bool_]:
        return (np.abs(rows - y) < 32) & (columns < centre)

    def pleura(rows: Float64, columns: Float64) -> npt.NDArray[np.bool_]:
        return within(rows, columns) & (np.abs(np.hypot(rows - y, columns - centre) - radius) < width / 2)

    def air(rows: Float64, columns: Float64) -> npt.NDArray[np.bool_]:
        reach = np.hypot(rows - y, columns - centre)
        return within(rows, columns) & (reach > radius + width / 2) & (reach < radius + width / 2 + 8)

    return coverage(pleura) - 0.5 * coverage(air)


def text(words: str, size: int = 12) -> Float64:
    """Letters as a marker of lead shows them, 1 on them, at the middle."""
    picture = Image.new("L", (SIDE * 4, SIDE * 4), 0)
    font = ImageFont.load_default(size=size * 4)
    ImageDraw.Draw(picture).text((SIDE * 2, SIDE * 2), words, fill=255, font=font, anchor="mm")
    return np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), dtype=np.float64) / 255


def collimation(degrees: float = 2.0) -> Float64:
    """What lies outside a collimator's straight edge, 1 there."""
    tangent = np.tan(np.radians(degrees))
    return coverage(lambda y, x: x > SIDE * 0.6 + (y - SIDE / 2) * tangent)


def _framed(image: Float64) -> Float64:
    framed = phantom()
    framed[BORDER:-BORDER, BORDER:-BORDER] = image[BORDER:-BORDER, BORDER:-BORDER]
    return framed
