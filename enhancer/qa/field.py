"""An even field: what becomes of the detector's noise, and what appears where there is nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from enhancer.evaluation.measure import Method
from enhancer.qa.objects import SIDE, inner, pair_of, phantom

Float64 = npt.NDArray[np.float64]

SIGMA = 0.02
"""Standard deviation of the white noise in the source, as a share of the range."""
FIELDS = 4
RINGS = 24


@dataclass(frozen=True)
class Noise:
    """Of the difference between the results with and without noise."""

    frequencies: tuple[float, ...]
    """Cycles a result pixel, the middle of each ring."""
    power: tuple[float, ...]
    """Mean noise power in each ring; 1 is white noise of the source's standard deviation."""
    sigma: float
    """Standard deviation, as a share of the source's."""
    beyond: float
    """Share of the power at frequencies that the source cannot hold."""
    correlation: float
    """Result pixels until the autocorrelation has fallen to 1/e."""
    peak: float
    """Frequency of the strongest ring."""
    invented: float
    """Largest difference from an even field without noise, inside it, grey levels of 255."""
    invented_rms: float


def noise(method: Method, scale: int, fields: int = FIELDS) -> Noise:
    """Averaged over `fields` draws of noise; the same draws for every method."""
    flat = phantom()
    clean = np.asarray(method(pair_of(flat, scale)), np.float64)
    invented = inner(clean - flat)
    rng = np.random.default_rng(11)
    side = SIDE // scale
    spectra, deviations = [], []
    for _ in range(fields):
        drawn = SIGMA * rng.standard_normal((side, side))
        result = np.asarray(method(pair_of(flat, scale, drawn)), np.float64)
        difference = inner(result - clean)
        difference = difference - difference.mean()
        deviations.append(difference.std() / SIGMA)
        spectra.append(np.abs(np.fft.fft2(difference)) ** 2 / difference.size / SIGMA**2)
    spectrum = np.mean(spectra, axis=0)
    frequencies, power = rings(spectrum)
    across = np.abs(np.fft.fftfreq(len(spectrum)))
    held = np.maximum(across[:, None], across[None, :]) < 0.5 / scale
    total = float(spectrum.sum())
    return Noise(
        tuple(frequencies.tolist()),
        tuple(power.tolist()),
        float(np.mean(deviations)),
        float(spectrum[~held].sum() / total) if total else 0.0,
        correlation_length(spectrum),
        float(frequencies[int(np.argmax(power))]),
        float(np.abs(invented).max() * 255),
        float(np.sqrt(np.mean(invented**2)) * 255),
    )


def rings(spectrum: Float64) -> tuple[Float64, Float64]:
    """Mean of a spectrum [N, N] over rings of frequency up to 0.5, and each ring's middle."""
    across = np.fft.fftfreq(len(spectrum))
    radius = np.hypot(across[:, None], across[None, :])
    index = np.floor(radius * 2 * RINGS).astype(np.int64)
    kept = index < RINGS
    counts = np.bincount(index[kept], minlength=RINGS)
    sums = np.bincount(index[kept], weights=spectrum[kept], minlength=RINGS)
    return (np.arange(RINGS) + 0.5) / (2 * RINGS), sums / np.maximum(counts, 1)


def correlation_length(spectrum: Float64) -> float:
    """Pixels until the autocorrelation, mean of both directions, has fallen to 1/e; 0 for no noise at all."""
    correlation = np.fft.ifft2(spectrum).real
    if correlation[0, 0] <= 0:
        return 0.0
    curve = (correlation[0] + correlation[:, 0])[: len(spectrum) // 2] / (2 * correlation[0, 0])
    below = np.flatnonzero(curve < 1 / np.e)
    if not len(below):
        return float(len(curve))
    last = int(below[0])
    return float(last - 1 + (curve[last - 1] - 1 / np.e) / (curve[last - 1] - curve[last]))
