"""From the figures of single images to those of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from enhancer.evaluation.bootstrap import Bootstrap, Interval, around
from enhancer.evaluation.frechet import Gaussian, distance
from enhancer.evaluation.judge import FEATURES
from enhancer.evaluation.measure import Measured
from enhancer.evaluation.report import Row

BASE = "bicubic"
FRECHET_DRAWS = 60
"""Draws for the Fréchet distance's interval: each costs some hundredths of a second a method."""
SHARES = ("gmsd", "perceptual")


def summarise(images: Sequence[Measured]) -> list[Row]:
    """Rows by data set and method, in the order of the images."""
    rows: list[Row] = []
    for dataset in dict.fromkeys(image.dataset for image in images):
        rows += _of_dataset(dataset, [image for image in images if image.dataset == dataset])
    return rows


def _of_dataset(dataset: str, images: list[Measured]) -> list[Row]:
    drawn = Bootstrap([image.patient for image in images])
    frechet = _frechet(images, drawn)
    rows: list[Row] = []
    for method in images[0].figures:
        figures: dict[str, float] = {}
        intervals: dict[str, Interval | None] = {}
        for name in images[0].figures[method]:
            values = np.array([image.figures[method][name] for image in images])
            figures[name] = float(values.mean())
            intervals[name] = drawn.mean(values)
            if name in SHARES:
                base = np.array([image.figures[BASE][name] for image in images])
                if base.mean() > 0:
                    figures[f"{name}_share"] = figures[name] / float(base.mean())
                    intervals[f"{name}_share"] = drawn.share(values, base)
        figures["consistency_p999_image"] = figures["consistency_p999"]
        intervals["consistency_p999_image"] = intervals["consistency_p999"]
        windows = np.concatenate([image.windows[method] for image in images])
        figures["consistency_p999"] = float(np.percentile(windows, 99.9))
        intervals["consistency_p999"] = None
        for name, (value, interval) in frechet.get(method, {}).items():
            figures[name] = value
            intervals[name] = interval
        known = {name: interval for name, interval in intervals.items() if interval is not None}
        rows.append(Row(dataset, method, len(images), drawn.patients, figures, known))
    return rows


def _frechet(images: list[Measured], drawn: Bootstrap) -> dict[str, dict[str, tuple[float, Interval | None]]]:
    """`frechet` and `frechet_share` by method; nothing without a judge or with too few patches.

    A covariance of 232 numbers needs more than 232 patches to have full rank. Intervals are normal ones, as
    a draw repeats patients and the distance grows by it; the share hardly does.
    """
    if not images[0].patches or sum(len(image.patches["truth"]) for image in images) <= FEATURES:
        return {}
    methods = list(images[0].figures)
    vectors = {
        name: np.concatenate([image.patches[name] for image in images]) for name in ("truth", *methods)
    }
    repeats = [len(image.patches["truth"]) for image in images]
    points = _distances(vectors, methods, None)
    draws = drawn.weights(FRECHET_DRAWS if drawn.patients > 1 else 0)
    samples = [_distances(vectors, methods, np.repeat(weights, repeats)) for weights in draws]
    found: dict[str, dict[str, tuple[float, Interval | None]]] = {}
    for method in methods:
        figures = {"frechet": (points[method], around(points[method], [one[method] for one in samples]))}
        if points[BASE] > 0:
            share = points[method] / points[BASE]
            shares = [one[method] / one[BASE] for one in samples]
            figures["frechet_share"] = (share, around(share, shares))
        found[method] = figures
    return found


def _distances(
    vectors: dict[str, np.ndarray], methods: Sequence[str], weights: np.ndarray | None
) -> dict[str, float]:
    truth = Gaussian.of(vectors["truth"], weights)
    root = truth.root()
    return {method: distance(truth, Gaussian.of(vectors[method], weights), root) for method in methods}
