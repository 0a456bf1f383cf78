"""The Fréchet distance between two sets of vectors, each taken as a normal distribution.

Dowson and Landau 1982, "The Fréchet distance between multivariate normal distributions"; used on network
features since Heusel et al. 2017. d² = |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.floating]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Gaussian:
    """Mean [D] and covariance [D, D] of a set of vectors."""

    mean: Float64
    covariance: Float64

    @classmethod
    def of(cls, vectors: Float, weights: Float64 | None = None) -> Gaussian:
        """Of vectors [N, D], N at least 2, each counted `weights` [N] times (once without)."""
        values = vectors.astype(np.float64)
        counts = np.ones(len(values)) if weights is None else weights
        total = counts.sum()
        mean = counts @ values / total
        centred = (values - mean) * np.sqrt(counts)[:, None]
        return cls(mean, centred.T @ centred / (total - 1))

    def root(self) -> Float64:
        """The symmetric square root of the covariance."""
        values, vectors = np.linalg.eigh(self.covariance)
        return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def distance(one: Gaussian, other: Gaussian, root: Float64 | None = None) -> float:
    """The squared distance; `root` is `one.root()` where it is known already."""
    half = one.root() if root is None else root
    inner = np.linalg.eigvalsh(half @ other.covariance @ half)
    cross = float(np.sqrt(np.maximum(inner, 0)).sum())
    between = float(np.sum((one.mean - other.mean) ** 2))
    return between + float(np.trace(one.covariance) + np.trace(other.covariance)) - 2 * cross
