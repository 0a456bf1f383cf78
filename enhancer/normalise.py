"""The one affine map between an image and what the network sees.

It is computed from the whole image, never from a tile, so that `f(a*x + b) = a*f(x) + b` holds by
construction, for negative `a` too: the mean is taken away, the spread brought to a fixed value, and the
sign chosen so that the grey values' third moment is negative. A radiograph stored the other way round
therefore reaches the network as the same picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SPREAD = 0.25
"""Standard deviation of an image as the network sees it."""


@dataclass(frozen=True)
class Affine:
    """`normalised = (x - offset) / gain`; `gain` is negative where the sign of contrast is turned."""

    offset: float
    gain: float

    def forward(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Image [H, W] -> what the network sees, float32 [H, W]."""
        return ((x.astype(np.float64) - self.offset) / self.gain).astype(np.float32)


def affine_of(lr: npt.NDArray[np.generic]) -> Affine:
    """The map of a low-resolution image [H, W] of any real dtype; a flat image gets gain 1."""
    values = lr.astype(np.float64)
    offset = float(values.mean())
    centred = values - offset
    spread = float(np.sqrt(np.mean(centred**2)))
    reach = float(np.abs(values).max())
    if not spread > 1e-9 * max(reach, 1e-30):
        return Affine(offset, 1.0)
    skew = float(np.mean((centred / spread) ** 3))
    sign = -1.0 if skew > 0 else 1.0
    return Affine(offset, sign * spread / SPREAD)
