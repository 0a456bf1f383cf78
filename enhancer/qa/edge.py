"""Sharpness by a slanted edge: edge spread, line spread, modulation transfer (after ISO 12233).

Pixels are sorted by their distance from the edge, whose place is known, into bins of a quarter pixel; the
derivative of that profile, windowed, has the modulation transfer as its spectrum. It is told as a share of
what the truth itself has, so that the pixel's own aperture does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from enhancer.evaluation.measure import Method
from enhancer.qa.objects import SIDE, pair_of, slanted_edge

Float64 = npt.NDArray[np.float64]

ANGLES = (5.0, 85.0)
BINS = 4
"""Bins a pixel."""
REACH = 48
"""Pixels to either side of the edge that are looked at."""
LOW, HIGH = 0.4, 0.6


@dataclass(frozen=True)
class Sharpness:
    """Frequencies in cycles a result pixel; half a cycle in a source pixel is 0.5 / scale."""

    frequencies: tuple[float, ...]
    transfer: tuple[float, ...]
    """Share of the truth's modulation at each frequency."""
    half: float
    """Where the transfer falls to 50 %; the end of the range where it does not."""
    tenth: float
    overshoot: float
    """How far the profile goes beyond the plateaus, as a share of the step."""
    shift: float
    """How far the edge has moved, result pixels."""


def sharpness(method: Method, scale: int) -> Sharpness:
    """Mean over an upright and a lying edge."""
    spectra, truths, overshoots, shifts = [], [], [], []
    for degrees in ANGLES:
        made = pair_of(slanted_edge(degrees, LOW, HIGH), scale)
        ours = profile(np.asarray(method(made), np.float64), degrees)
        theirs = profile(made.truth.astype(np.float64), degrees)
        spectra.append(_spectrum(ours))
        truths.append(_spectrum(theirs))
        overshoots.append(max(ours.max() - HIGH, LOW - ours.min()) / (HIGH - LOW))
        shifts.append(_place(ours) - _place(theirs))
    frequencies: Float64 = np.fft.rfftfreq(2 * REACH * BINS - 1, 1 / BINS).astype(np.float64)
    kept = frequencies <= 0.5
    transfer = (np.mean(spectra, axis=0) / np.mean(truths, axis=0))[kept]
    frequencies = frequencies[kept]
    return Sharpness(
        tuple(frequencies.tolist()),
        tuple(transfer.tolist()),
        crossing(frequencies, transfer, 0.5),
        crossing(frequencies, transfer, 0.1),
        float(max(overshoots)),
        float(max(shifts, key=abs)),
    )


def profile(image: Float64, degrees: float) -> Float64:
    """The edge spread in quarter pixels, float64 [2 * REACH * BINS]."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] + 0.5 - SIDE / 2
    distance = columns * cos + rows * sin
    along = rows * cos - columns * sin
    kept = (np.abs(distance) < REACH) & (np.abs(along) < REACH)
    index = np.floor((distance[kept] + REACH) * BINS).astype(np.int64)
    counts = np.bincount(index, minlength=2 * REACH * BINS)
    sums = np.bincount(index, weights=image[kept], minlength=2 * REACH * BINS)
    filled = counts > 0
    places = np.arange(len(counts))
    return np.interp(places, places[filled], sums[filled] / counts[filled])


def crossing(frequencies: Float64, transfer: Float64, level: float) -> float:
    """The first frequency where the transfer falls below `level`, between the points by a line."""
    below = np.flatnonzero(transfer < level)
    if not len(below) or below[0] == 0:
        return float(frequencies[-1] if not len(below) else frequencies[0])
    last = int(below[0])
    rise = (transfer[last - 1] - level) / (transfer[last - 1] - transfer[last])
    return float(frequencies[last - 1] + rise * (frequencies[last] - frequencies[last - 1]))


def _spectrum(edge: Float64) -> Float64:
    spread = np.diff(edge)
    return np.abs(np.fft.rfft(spread * np.hanning(len(spread))))


def _place(edge: Float64) -> float:
    """Where the profile passes the middle of the step, pixels from the true edge."""
    places = (np.arange(len(edge)) + 0.5) / BINS - REACH
    above = int(np.argmax(edge > (LOW + HIGH) / 2))
    before = max(above - 1, 0)
    share = ((LOW + HIGH) / 2 - edge[before]) / max(edge[above] - edge[before], 1e-12)
    return float(places[before] + share / BINS)
