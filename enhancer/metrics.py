"""How near an image is to the truth: float images in [0, 1], one figure each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from skimage.metrics import structural_similarity

Float = npt.NDArray[np.floating]


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


METRICS: dict[str, Callable[[Float, Float], float]] = {"psnr": psnr, "ssim": ssim, "l1": l1, "mse": mse}
"""Every figure that an evaluation gives, by name."""
