"""Does an enhanced image, reduced again, give its source back?

Where it does not, the network has added or moved something that the source does not hold. A mean over the
whole image would hide one small invented thing, so the figure is local: root mean square of the difference
in windows of 8x8 source pixels. What the reduction itself removes (detail finer than a source pixel) cannot
be judged so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from enhancer.errors import ModelInputError
from enhancer.resample import reduced

WINDOW = 8
"""Side of a window, source pixels."""


@dataclass(frozen=True)
class Consistency:
    """Differences between the reduced result and the source, in units of the input's range."""

    rms: float
    """Root mean square over the whole image."""
    p999: float
    """99.9th percentile of the windows' root mean squares."""
    maximum: float
    """The worst window's root mean square."""


def consistency(sr: npt.NDArray[np.float32], lr: npt.NDArray[np.float32], scale: int) -> Consistency:
    """Compares sr float32 [scale*H, scale*W], reduced by antialiased bicubic, with lr float32 [H, W]."""
    return figures_of(reduced_difference(sr, lr, scale))


def reduced_difference(
    sr: npt.NDArray[np.float32], lr: npt.NDArray[np.float32], scale: int
) -> npt.NDArray[np.float64]:
    """What the reduced result has more than its source, float64 [H, W]; ModelInputError for other sizes."""
    height, width = lr.shape
    if sr.shape != (height * scale, width * scale):
        raise ModelInputError(
            f"A result of {sr.shape[1]}x{sr.shape[0]} pixels is not {scale} times {width}x{height}."
        )
    difference: npt.NDArray[np.float64] = reduced(sr, scale).astype(np.float64) - lr
    return difference


def figures_of(difference: npt.NDArray[np.float64]) -> Consistency:
    """The figures of a difference [H, W], in its own unit."""
    windows = window_rms(difference)
    return Consistency(
        rms=float(np.sqrt(np.mean(difference**2))),
        p999=float(np.percentile(windows, 99.9)),
        maximum=float(windows.max()),
    )


def window_rms(difference: npt.NDArray[np.float64], side: int = WINDOW) -> npt.NDArray[np.float64]:
    """Root mean square in windows side by side, [rows, columns]; the last ones end at the image's edge."""
    total = np.zeros((difference.shape[0] + 1, difference.shape[1] + 1))
    np.cumsum(np.cumsum(difference**2, axis=0), axis=1, out=total[1:, 1:])
    tops, bottoms = _edges(difference.shape[0], side)
    lefts, rights = _edges(difference.shape[1], side)
    sums = (
        total[np.ix_(bottoms, rights)]
        - total[np.ix_(tops, rights)]
        - total[np.ix_(bottoms, lefts)]
        + total[np.ix_(tops, lefts)]
    )
    counts = (bottoms - tops)[:, None] * (rights - lefts)[None, :]
    means: npt.NDArray[np.float64] = np.sqrt(np.maximum(sums, 0) / counts)
    return means


def _edges(length: int, side: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    side = min(side, length)
    starts = np.arange(0, length - side + 1, side)
    if starts[-1] + side < length:
        starts = np.append(starts, length - side)
    return starts.astype(np.int64), (starts + side).astype(np.int64)
