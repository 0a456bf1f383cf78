"""Bar patterns below and beyond the source's limit, and discs of low contrast in noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from enhancer.evaluation.measure import Method
from enhancer.qa.objects import BORDER, SIDE, bars, disc, pair_of, phantom

Float64 = npt.NDArray[np.float64]

OF_LIMIT = (0.25, 0.5, 0.75, 0.9, 1.1, 1.3, 1.6)
"""Frequencies as shares of the source's limit of half a cycle a source pixel."""
AMPLITUDE = 0.1
RADII = (4.0, 8.0, 12.0)
CONTRASTS = (0.02, 0.04, 0.08)
SIGMA = 0.02
DRAWS = 3


@dataclass(frozen=True)
class Bars:
    """One pattern; amplitudes as shares of the planted one's."""

    of_limit: float
    cycles: float
    """Cycles a result pixel."""
    modulation: float
    """At the true frequency."""
    false: float
    """At the frequency that the source's pixels make of it (the alias); 0 below the limit."""


@dataclass(frozen=True)
class Disc:
    """One disc in noise of the source, mean of several draws."""

    radius: float
    contrast: float
    recovered: float
    """Contrast as a share of the planted one's."""
    contrast_to_noise: float


def resolved(method: Method, scale: int) -> list[Bars]:
    """Patterns along the rows; those beyond the limit cannot be known, and should come out even."""
    limit = 0.5 / scale
    found = []
    for share in OF_LIMIT:
        cycles = share * limit
        made = pair_of(bars(cycles, AMPLITUDE), scale)
        result = np.asarray(method(made), np.float64)
        planted = amplitude(made.truth.astype(np.float64), cycles)
        false = 0.0 if share <= 1 else amplitude(result, 1 / scale - cycles) / planted
        found.append(Bars(share, cycles, amplitude(result, cycles) / planted, false))
    return found


def amplitude(image: Float64, cycles: float) -> float:
    """Of a wave along the rows, within the middle of an image."""
    rows = image[64:-64, BORDER + 8 : -BORDER - 8].mean(axis=0)
    window = np.hanning(len(rows))
    places = np.arange(len(rows))
    centred = rows - (rows * window).sum() / window.sum()
    wave = (centred * window * np.exp(-2j * np.pi * cycles * places)).sum()
    return float(2 * np.abs(wave) / window.sum())


def discs(method: Method, scale: int) -> list[Disc]:
    """Nine discs in one phantom: radii by column, contrasts by row.

    The contrast is that of the result with discs less the result without, of the same noise.
    """
    empty = phantom()
    truth = empty.copy()
    places = [56.0, 128.0, 200.0]
    for y, contrast in zip(places, CONTRASTS, strict=True):
        for x, radius in zip(places, RADII, strict=True):
            truth = truth + contrast * disc(y, x, radius)
    rng = np.random.default_rng(12)
    side = SIDE // scale
    results, differences = [], []
    for _ in range(DRAWS):
        drawn = SIGMA * rng.standard_normal((side, side))
        results.append(np.asarray(method(pair_of(truth, scale, drawn)), np.float64))
        without = np.asarray(method(pair_of(empty, scale, drawn)), np.float64)
        differences.append(results[-1] - without)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] + 0.5
    found = []
    for y, contrast in zip(places, CONTRASTS, strict=True):
        for x, radius in zip(places, RADII, strict=True):
            reach = np.hypot(rows - y, columns - x)
            within, around = reach < 0.7 * radius, (reach > 1.4 * radius + 2) & (reach < 1.4 * radius + 12)
            contrasts = [result[within].mean() - result[around].mean() for result in differences]
            spread = float(np.mean([result[around].std() for result in results]))
            mean = float(np.mean(contrasts))
            ratio = mean / spread if spread > 1e-9 else float("inf")
            found.append(Disc(radius, contrast, mean / contrast, ratio))
    return found
