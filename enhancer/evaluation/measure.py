"""The figures of one image by each method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from enhancer.consistency import figures_of, reduced_difference, window_rms
from enhancer.data import Float32
from enhancer.evaluation.classical import NAME as CLASSICAL
from enhancer.evaluation.images import Pair
from enhancer.evaluation.judge import Judge
from enhancer.evaluation.spectrum import BANDS, power
from enhancer.metrics import METRICS, ms_ssim
from enhancer.resample import reduced

Method = Callable[[Pair], npt.NDArray[np.floating]]
"""Enlarges `lr` of a pair; the truth is not for it to look at."""

GREY_LEVELS = 255
"""Differences from the input are told in grey levels of 8 bits, whatever the image's own."""


@dataclass(frozen=True)
class Measured:
    """One image: its figures by method, and what the figures of a whole data set are made from."""

    dataset: str
    path: Path
    patient: str
    half: str | None
    """`dev` or `report`, where a table says whose image it is."""
    figures: dict[str, dict[str, float]]
    windows: dict[str, Float32]
    """Root mean squares of the difference from the input in windows of 8x8, grey levels of 255."""
    patches: dict[str, Float32]
    """The judging network's vectors, float32 [patches, 232], by method; those of the truth by `truth`."""


class Measurer:
    """Enlarges an input by every method and measures each result against the truth.

    About 60 kB are kept for each image of 256x256 where there is a judge, a tenth of it where there is none.
    """

    def __init__(self, methods: Mapping[str, Method], *, judge: Judge | None) -> None:
        self.methods = dict(methods)
        self._judge = judge
        self._ms_ssim = ms_ssim()

    def results(self, made: Pair) -> dict[str, Float32]:
        """Each method's result as it would be stored."""
        return {name: made.rounded(method(made)) for name, method in self.methods.items()}

    def measure(
        self,
        dataset: str,
        path: Path,
        patient: str,
        half: str | None,
        made: Pair,
        results: dict[str, Float32],
    ) -> Measured:
        """The figures of `results`, which came from :meth:`results`."""
        figures = {name: self._single(image, made.truth) for name, image in results.items()}
        windows: dict[str, Float32] = {}
        for name, image in results.items():
            difference = reduced_difference(image, made.lr, made.scale) * GREY_LEVELS
            windows[name] = window_rms(difference).astype(np.float32).ravel()
            held = figures_of(difference)
            figures[name] |= {"consistency": held.rms, "consistency_p999": held.p999}
        patches: dict[str, Float32] = {}
        if self._judge is not None:
            distances, vectors = self._judge.look([made.truth, *results.values()])
            for name, distance in zip(results, distances, strict=True):
                figures[name]["perceptual"] = distance
            patches = dict(zip(["truth", *results], vectors, strict=True))
        for name in results:
            figures[name]["gain"] = figures[name]["psnr"] - figures["bicubic"]["psnr"]
            if CLASSICAL in results:
                figures[name]["over_classical"] = figures[name]["psnr"] - figures[CLASSICAL]["psnr"]
                figures[name] |= removed(results[name], made)
        return Measured(dataset, path, patient, half, figures, windows, patches)

    def _single(self, image: Float32, truth: Float32) -> dict[str, float]:
        a, b = image.astype(np.float64), truth.astype(np.float64)
        figures = {name: metric(a, b) for name, metric in METRICS.items()}
        if self._ms_ssim is not None and min(truth.shape) > 160:
            figures["ms_ssim"] = self._ms_ssim(a, b)
        ours, theirs = np.maximum(power(a), 1e-12), np.maximum(power(b), 1e-12)
        for name, share in zip(BAND_NAMES, 10 * np.log10(ours / theirs), strict=True):
            figures[name] = float(share)
        return figures


BAND_NAMES = tuple(f"energy_{low:g}_{high:g}" for low, high in BANDS)
"""`energy_0.125_0.25` and the like: energy in a band of spatial frequency against the truth's, dB."""


def removed(result: Float32, made: Pair) -> dict[str, float]:
    """What a result, reduced again, lacks of its noisy source: noise should be white and hold no anatomy.

    `removed_rms` in grey levels of 255, `removed_neighbours` the correlation of neighbouring source pixels
    (of white noise that was reduced with the image about 0.15),
    `removed_anatomy` that with the fine structure of the source without its noise.
    """
    lost = -reduced_difference(result, made.lr, made.scale)
    clean = reduced(made.truth, made.scale).astype(np.float64)
    anatomy = clean - ndimage.gaussian_filter(clean, 2)
    across = correlation(lost[:, 1:], lost[:, :-1])
    along = correlation(lost[1:], lost[:-1])
    return {
        "removed_rms": float(np.sqrt(np.mean(lost**2))) * GREY_LEVELS,
        "removed_neighbours": (across + along) / 2,
        "removed_anatomy": correlation(lost, anatomy),
    }


def correlation(one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> float:
    """Pearson's; 0 where one of the two is even."""
    a, b = one - one.mean(), other - other.mean()
    scale = float(np.sqrt(np.sum(a**2) * np.sum(b**2)))
    return float(np.sum(a * b)) / scale if scale > 0 else 0.0
