"""What a result, reduced, lacks of its source is enlarged and added: the network may only fill in what the
source cannot hold (Irani and Peleg 1991, "Improving resolution by image registration").

Many sources were clipped when they were made: a plateau of pixels at their least or greatest value says so.
There the truth went no further either, so the result is held within the plateau and projected back again,
until both hold. Everything follows the source's own values, so that `f(a*x + b) = a*f(x) + b` stays true.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from enhancer.resample import enlarged, reduced

Float32 = npt.NDArray[np.float32]

ROUNDS = 8
"""At most so many rounds for a clipped source; one that was not clipped has a single one."""
ENOUGH = 1e-3
"""Rounds end when no reduced pixel is further from its source, in parts of the source's range."""
PLATEAU_PIXELS, PLATEAU_SHARE = 8, 2e-4
"""So many pixels, and such a share of all, have the extreme value of a clipped source."""


def projected(sr: Float32, lr: Float32, scale: int) -> Float32:
    """sr float32 [scale*H, scale*W], lr float32 [H, W] -> sr that gives `lr` back when it is reduced."""
    sr = sr + enlarged(lr - reduced(sr, scale), scale)
    low, high = limits_of(lr)
    if low is None and high is None:
        return sr
    enough = ENOUGH * float(lr.max() - lr.min())
    for _ in range(ROUNDS):
        np.clip(sr, low, high, out=sr)
        missing = lr - reduced(sr, scale)
        if float(np.abs(missing).max()) <= enough:
            return sr
        sr += enlarged(missing, scale)
    return np.clip(sr, low, high, out=sr)


def limits_of(lr: Float32) -> tuple[np.float32 | None, np.float32 | None]:
    """The least and the greatest value of a source float32 [H, W], each only where it is a plateau."""
    needed = max(PLATEAU_PIXELS, PLATEAU_SHARE * lr.size)
    low, high = lr.min(), lr.max()
    if low == high:
        return None, None
    return (
        low if np.count_nonzero(lr == low) >= needed else None,
        high if np.count_nonzero(lr == high) >= needed else None,
    )
