"""How far a result may be from the truth, pixel by pixel: a bound that holds for 90 % of the pixels.

The larger what the network added nearby, and the more the result changes there, the larger its errors have
been on images whose truth is known; near the least and the greatest value, where sources are clipped, they
have been small. A quadratic of the logarithms of a few such measures orders the pixels; a table from that
order to the 90th percentile of the error, fitted on the `dev` patients, gives the bound (conformal in spirit:
Romano et al. 2019, "Conformalized Quantile Regression"). It is measured in the source's own spread (standard
deviation), so a change of brightness or contrast changes it alike.

It speaks for images like those it was fitted on, and of differences at the result's own pixel size; it does
not say whether a finding is real.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from enhancer.errors import ModelFileError
from enhancer.resample import enlarged

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]

SHARE = 0.9
"""Of the pixels, whose error the bound is to hold."""
STEPS = 40
"""Entries of the table."""
SIGMAS = (1.5, 4.0)
"""Of the Gaussian neighbourhoods, result pixels."""
BAND, HALO = 512, 20
"""Rows that are worked on at once, and those seen beyond."""
FLOOR = 1e-3
"""Added before logarithms are taken, in spreads."""
PER_IMAGE = 20_000
"""Pixels of each image that take part in fitting."""


@dataclasses.dataclass(frozen=True)
class Bound:
    """Fitted to one model at one scale."""

    weights: tuple[float, ...]
    edges: tuple[float, ...]
    """Of the steps, in the order's own unit, [STEPS - 1]."""
    limits: tuple[float, ...]
    """The 90th percentile of the error in each step, in spreads, [STEPS]; never falling."""

    def of(self, lr: Float32, sr: Float32, scale: int) -> Float32:
        """The bound of each pixel: lr [H, W] and the model's sr [scale*H, scale*W] -> float32, sr's shape.

        In the input's own unit.
        """
        spread = spread_of(lr)
        out = np.empty(sr.shape, np.float32)
        for rows, measures in _bands(lr, sr, scale):
            order = _order(measures, np.asarray(self.weights))
            out[rows] = np.asarray(self.limits)[np.searchsorted(self.edges, order)] * spread
        return out

    def as_json(self) -> dict[str, list[float]]:
        """For the model file's header."""
        return {key: [float(f"{value:.6g}") for value in values] for key, values in vars(self).items()}


def fit(cases: Iterable[tuple[Float32, Float32, Float32]], scale: int, seed: int = 0) -> Bound:
    """Fits to (lr, sr, truth) of many images, all float32 in one unit."""
    rng = np.random.default_rng(seed)
    terms, errors = [], []
    for lr, sr, truth in cases:
        seen = np.concatenate([each.reshape(-1, each.shape[-1]) for _, each in _bands(lr, sr, scale)])
        error = np.abs(sr.astype(np.float64) - truth).ravel() / spread_of(lr)
        chosen = rng.choice(len(error), min(PER_IMAGE, len(error)), replace=False)
        terms.append(_terms(seen[chosen]))
        errors.append(error[chosen])
    x = np.concatenate(terms)
    error = np.concatenate(errors)
    weights, *_ = np.linalg.lstsq(x, np.log(error + FLOOR), rcond=None)
    order = x @ weights
    edges = np.quantile(order, np.linspace(0, 1, STEPS + 1)[1:-1])
    step = np.searchsorted(edges, order)
    limits = [float(np.quantile(error[step == index], SHARE)) for index in range(STEPS)]
    return Bound(tuple(weights), tuple(edges), tuple(np.maximum.accumulate(limits)))


def read_bounds(text: str) -> dict[int, Bound]:
    """The bounds of each scale from a model file's header. Raises ModelFileError for what is none."""
    try:
        found = {
            int(scale): Bound(*(tuple(map(float, said[key])) for key in ("weights", "edges", "limits")))
            for scale, said in json.loads(text).items()
        }
        sizes = {(len(bound.weights), len(bound.edges), len(bound.limits)) for bound in found.values()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFileError("The model file's error bound cannot be read.") from error
    if sizes != {(TERMS, STEPS - 1, STEPS)}:
        raise ModelFileError("The model file's error bound has another size than this version's.")
    return found


def spread_of(lr: Float32) -> float:
    """Standard deviation of an image, never nothing."""
    return max(float(lr.std(dtype=np.float64)), 1e-6)


MEASURES = 2 * len(SIGMAS) + 2
TERMS = MEASURES + MEASURES * (MEASURES + 1) // 2 + 1


def _bands(lr: Float32, sr: Float32, scale: int) -> Iterator[tuple[slice, Float64]]:
    """Bands of rows and the measures of their pixels, [rows, columns, MEASURES]."""
    added = sr - enlarged(lr, scale)
    spread = spread_of(lr)
    low, high = float(sr.min()), float(sr.max())
    for top in range(0, len(sr), BAND):
        bottom = min(top + BAND, len(sr))
        first, last = max(0, top - HALO), min(len(sr), bottom + HALO)
        inner = slice(top - first, bottom - first)
        yield slice(top, bottom), _measures(sr[first:last], added[first:last], spread, low, high)[inner]


def _measures(sr: Float32, added: Float32, spread: float, low: float, high: float) -> Float64:
    """Logarithms of the room to the extremes, of what was added nearby, the local spread and the slope."""
    image = sr.astype(np.float64)
    room = np.minimum(image - low, high - image)
    image -= image.mean()
    more = added.astype(np.float64)
    measures = [room]
    for sigma in SIGMAS:
        measures.append(np.sqrt(ndimage.gaussian_filter(more**2, sigma)))
        mean = ndimage.gaussian_filter(image, sigma)
        measures.append(np.sqrt(np.maximum(ndimage.gaussian_filter(image**2, sigma) - mean**2, 0)))
    measures.append(np.hypot(ndimage.sobel(image, 0), ndimage.sobel(image, 1)))
    return np.stack([np.log(measure / spread + FLOOR) for measure in measures], axis=-1)


def _terms(measures: Float64) -> Float64:
    """[N, MEASURES] -> [N, TERMS]: the measures, their products by twos, and one."""
    first, second = np.triu_indices(MEASURES)
    products = measures[:, first] * measures[:, second]
    return np.column_stack([measures, products, np.ones(len(measures))])


def _order(measures: Float64, weights: Float64) -> Float64:
    """`_terms(measures) @ weights` for [rows, columns, MEASURES], without holding all the terms."""
    square = np.zeros((MEASURES, MEASURES))
    square[np.triu_indices(MEASURES)] = weights[MEASURES:-1]
    order: Float64 = ((measures @ square + weights[:MEASURES]) * measures).sum(axis=-1) + weights[-1]
    return order
