"""Findings planted into real radiographs before they are reduced: how much survives, how much is added.

The same image is enlarged with and without the finding. What of the difference has the finding's shape is
what survived; the rest of the difference, near it and far from it, was added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from enhancer.data import Float32
from enhancer.evaluation.measure import Method
from enhancer.qa import objects
from enhancer.qa.objects import SIDE, pair_of

Float64 = npt.NDArray[np.float64]

CONTRASTS = (0.03, 0.06, 0.12)
"""Of the range; negative for a finding darker than its surroundings."""
KINDS: dict[str, tuple[float, ...]] = {
    "nodule": (3.0, 6.0, 12.0),
    "line": (1.0, 2.0, 4.0),
    "pneumothorax": (1.0, 2.0, 4.0),
}
"""Radius of a nodule, width of a line and of the pleura, result pixels."""
NEAR = 8
"""Pixels around a finding that still count as its place."""
FALSE_RADII = (3.0, 6.0)


@dataclass(frozen=True)
class Survival:
    """One finding, mean over images; shares of what was planted."""

    kind: str
    size: float
    contrast: float
    recovered: float
    """1 is all of it, 0 is nothing; more than 1 is exaggerated."""
    distorted: float
    """Root mean square of what the difference has besides, at its place."""
    elsewhere: float
    """Largest difference away from its place, as a share of the contrast."""


@dataclass(frozen=True)
class FalseStructure:
    """Nodule-like differences from the truth in images where nothing was planted, mean over images."""

    radius: float
    worst: float
    """The strongest, as the contrast of a nodule that would give it, grey levels of 255."""
    usual: float
    """The 99th percentile of its strength over all places."""


def survival(method: Method, images: Sequence[Float32], scale: int) -> list[Survival]:
    """Images float32 [256, 256]; each gets every kind, size and contrast at a place in a lung of its own."""
    found: dict[tuple[str, float, float], list[tuple[float, float, float]]] = {}
    for index, image in enumerate(images):
        clean = image.astype(np.float64)
        before = np.asarray(method(pair_of(clean, scale)), np.float64)
        y, x = place(index)
        for kind, sizes in KINDS.items():
            for size in sizes:
                shape = getattr(objects, kind)(y, x, size)
                for contrast in CONTRASTS:
                    planted = contrast * shape
                    after = np.asarray(method(pair_of(clean + planted, scale)), np.float64)
                    figures = found.setdefault((kind, size, contrast), [])
                    figures.append(compare(after - before, planted, contrast))
    return [Survival(*key, *np.mean(each, axis=0).tolist()) for key, each in found.items()]


def compare(difference: Float64, planted: Float64, contrast: float) -> tuple[float, float, float]:
    """How much of `planted` is in `difference`: recovered, distorted, elsewhere (see Survival)."""
    near = ndimage.binary_dilation(planted != 0, iterations=NEAR)
    there, wanted = difference[near], planted[near]
    energy = float(wanted @ wanted)
    recovered = float(there @ wanted) / energy
    distorted = float(np.sqrt(np.sum((there - recovered * wanted) ** 2) / energy))
    away = difference[~near]
    return recovered, distorted, float(np.abs(away).max() / abs(contrast)) if away.size else 0.0


def place(index: int) -> tuple[float, float]:
    """Where the finding of the n-th image lies: right and left lung in turn, upper to lower."""
    x = 0.3 if index % 2 == 0 else 0.68
    y = (0.38, 0.5, 0.6)[(index // 2) % 3]
    return y * SIDE, x * SIDE


def false_structure(method: Method, images: Sequence[Float32], scale: int) -> list[FalseStructure]:
    """By a matched filter: a nodule of that radius less its surroundings."""
    worst: dict[float, list[float]] = {radius: [] for radius in FALSE_RADII}
    usual: dict[float, list[float]] = {radius: [] for radius in FALSE_RADII}
    for image in images:
        truth = image.astype(np.float64)
        error = np.asarray(method(pair_of(truth, scale)), np.float64) - truth
        for radius in FALSE_RADII:
            strength = np.abs(matched(error, radius))[16:-16, 16:-16]
            worst[radius].append(float(strength.max()) * 255)
            usual[radius].append(float(np.percentile(strength, 99)) * 255)
    return [
        FalseStructure(radius, float(np.mean(worst[radius])), float(np.mean(usual[radius])))
        for radius in FALSE_RADII
    ]


def matched(error: Float64, radius: float) -> Float64:
    """The contrast of the nodule that fits best at each place, [H, W]; an even change gives nothing."""
    half = int(np.ceil(2 * radius))
    rows, columns = np.mgrid[-half : half + 1, -half : half + 1]
    reach = np.hypot(rows, columns)
    ball = np.sqrt(np.clip(1 - (reach / radius) ** 2, 0, None))
    kernel = np.where(reach <= 2 * radius, ball, 0.0)
    kernel[reach <= 2 * radius] -= kernel[reach <= 2 * radius].mean()
    kernel /= float((kernel * ball).sum())
    return np.asarray(ndimage.correlate(error, kernel, mode="nearest"))


def marks(method: Method, scale: int) -> dict[str, tuple[float, float, float]]:
    """Letters of a marker and the edge of a collimator in a phantom: recovered, distorted, elsewhere."""
    flat = objects.phantom(0.35)
    outside = objects.collimation()
    dark = flat * (1 - outside) + 0.02 * outside
    cases = {
        "text": (flat, flat + 0.6 * objects.text("L PORTABLE"), 0.6),
        "collimation edge": (flat, dark, 0.33),
    }
    found = {}
    for name, (without, with_it, contrast) in cases.items():
        before = np.asarray(method(pair_of(without, scale)), np.float64)
        after = np.asarray(method(pair_of(with_it, scale)), np.float64)
        found[name] = compare(after - before, with_it - without, contrast)
    return found
