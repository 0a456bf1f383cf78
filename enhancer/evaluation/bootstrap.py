"""Intervals by bootstrap over patients (Efron 1979): images of one patient are drawn together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Interval = tuple[float, float]

DRAWS = 1000
LEVEL = 0.95
SEED = 20170


class Bootstrap:
    """Draws of patients, with replacement; the same draws for every figure of a data set.

    An interval is None where there are fewer than two patients, or where a figure is not finite.
    """

    def __init__(self, patients: Sequence[str], draws: int = DRAWS) -> None:
        names, self._index = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
        self.patients = len(names)
        rng = np.random.default_rng(SEED)
        counts = rng.multinomial(self.patients, np.full(self.patients, 1 / self.patients), size=draws)
        self._counts: Float64 = counts.astype(np.float64)
        self._sizes = np.bincount(self._index, minlength=self.patients).astype(np.float64)

    def mean(self, values: Sequence[float] | Float64) -> Interval | None:
        """Of the mean over images."""
        known = np.asarray(values, np.float64)
        return self._percentiles(self._means(known)) if np.isfinite(known).all() else None

    def share(self, values: Sequence[float] | Float64, base: Sequence[float] | Float64) -> Interval | None:
        """Of the mean of one figure as a share of the mean of another, image by image the same draws."""
        below = self._means(np.asarray(base, np.float64))
        if not np.all(below != 0):
            return None
        return self._percentiles(self._means(np.asarray(values, np.float64)) / below)

    def weights(self, draws: int) -> Float64:
        """How often each image counts in each of the first `draws` draws, float64 [draws, images]."""
        return self._counts[:draws, self._index]

    def _means(self, values: Float64) -> Float64:
        sums = np.bincount(self._index, weights=values, minlength=self.patients)
        means: Float64 = (self._counts @ sums) / (self._counts @ self._sizes)
        return means

    def _percentiles(self, drawn: Float64) -> Interval | None:
        if self.patients < 2:
            return None
        low, high = np.percentile(drawn, (50 * (1 - LEVEL), 50 * (1 + LEVEL)))
        return float(low), float(high)


def around(point: float, drawn: Sequence[float]) -> Interval | None:
    """The normal interval: the point and 1.96 standard deviations of the draws.

    For figures that a resampling biases, as the Fréchet distance, which grows where patients are repeated.
    """
    if len(drawn) < 2 or not np.isfinite(drawn).all():
        return None
    reach = 1.96 * float(np.std(drawn, ddof=1))
    return point - reach, point + reach
