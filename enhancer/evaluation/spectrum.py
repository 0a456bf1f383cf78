"""Energy by band of spatial frequency."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.floating]
Float64 = npt.NDArray[np.float64]

BANDS: tuple[tuple[float, float], ...] = ((0.03125, 0.0625), (0.0625, 0.125), (0.125, 0.25), (0.25, 0.5))
"""Radial frequencies, cycles a pixel: from the first up to but not including the second."""


def power(image: Float) -> Float64:
    """Energy of an image [H, W] in each of BANDS, float64 [4], after a Hann window; the mean is left out."""
    window, masks = _window_and_masks(image.shape[0], image.shape[1])
    centred = image.astype(np.float64) - float(np.mean(image))
    spectrum = np.abs(np.fft.rfft2(centred * window)) ** 2
    return np.array([float((spectrum * mask).sum()) for mask in masks])


@lru_cache(maxsize=4)
def _window_and_masks(height: int, width: int) -> tuple[Float64, list[Float64]]:
    window = np.outer(np.hanning(height), np.hanning(width))
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    radius = np.hypot(rows, columns)
    double = np.full(columns.shape, 2.0)  # rfft2 gives one of each pair of conjugates
    double[:, 0] = 1
    if width % 2 == 0:
        double[:, -1] = 1
    return window, [double * ((radius >= low) & (radius < high)) for low, high in BANDS]
