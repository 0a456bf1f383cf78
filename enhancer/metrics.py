"""How near an image is to the truth: float images in [0, 1], one figure each."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.metrics import structural_similarity

Float = npt.NDArray[np.floating]
Metric = Callable[[Float, Float], float]

GMSD_CONSTANT = 170.0
"""Keeps the ratio stable where there is no gradient; for grey levels of 255 (Xue et al. 2014)."""


def psnr(image: Float, truth: Float) -> float:
    """Peak signal-to-noise ratio in dB, the peak being 1; infinite for equal images."""
    error = mse(image, truth)
    return float("inf") if error == 0 else float(-10 * np.log10(error))


def ssim(image: Float, truth: Float) -> float:
    """Structural similarity (Wang et al. 2004) with scikit-image's defaults: uniform 7x7 window, range 1."""
    return float(structural_similarity(image, truth, data_range=1.0))


def l1(image: Float, truth: Float) -> float:
    """Mean absolute difference."""
    return float(np.mean(np.abs(image.astype(np.float64) - truth)))


def mse(image: Float, truth: Float) -> float:
    """Mean squared difference."""
    return float(np.mean((image.astype(np.float64) - truth) ** 2))


def gmsd(image: Float, truth: Float) -> float:
    """Gradient magnitude similarity deviation (Xue et al. 2014, IEEE Trans. Image Processing 23(2)).

    As the authors' program does it: grey levels of 255, mean over 2x2 and every second pixel, Prewitt
    gradients over 3, zeros beyond the border, the population's standard deviation. 0 for equal images.
    """
    ours, theirs = (_gradient(_halved(each.astype(np.float64) * 255)) for each in (image, truth))
    similarity = (2 * ours * theirs + GMSD_CONSTANT) / (ours**2 + theirs**2 + GMSD_CONSTANT)
    return float(similarity.std())


def _halved(image: Float) -> npt.NDArray[np.float64]:
    """`conv2(image, ones(2)/4, 'same')` and then every second pixel."""
    padded = np.pad(image, ((0, 1), (0, 1)))
    means = (padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:] + padded[1:, 1:]) / 4
    return np.asarray(means[::2, ::2], dtype=np.float64)


def _gradient(image: Float) -> npt.NDArray[np.float64]:
    across = ndimage.prewitt(image, axis=1, mode="constant") / 3
    along = ndimage.prewitt(image, axis=0, mode="constant") / 3
    return np.hypot(across, along)


def ms_ssim() -> Metric | None:
    """Multi-scale structural similarity (Wang et al. 2003) as torchmetrics has it; None without torchmetrics.

    Its defaults: five scales, a Gaussian window of 11 pixels and sigma 1.5; sides above 160 pixels.
    """
    if importlib.util.find_spec("torchmetrics") is None:
        return None
    import torch
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as measure

    def figure(image: Float, truth: Float) -> float:
        a, b = (
            torch.from_numpy(np.ascontiguousarray(each, np.float32))[None, None] for each in (image, truth)
        )
        return float(measure(a, b, data_range=1.0))

    return figure


METRICS: dict[str, Metric] = {"psnr": psnr, "ssim": ssim, "gmsd": gmsd, "l1": l1, "mse": mse}
"""The figures that need the image and the truth alone, by name."""
