"""Is a result a picture of its source at all?

A broken device, a damaged weight or a fault of ours may give numbers that are finite and yet no picture: one
value everywhere, another image, noise. The bounds are far beyond what a working model does (a few hundredths
of a spread); they find nonsense, not mistakes: of those `consistency` and `bound` speak.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from enhancer.consistency import Consistency
from enhancer.errors import ModelOutputError
from enhancer.normalise import SPREAD, affine_of

Float32 = npt.NDArray[np.float32]

UNLIKE = 0.8
"""Root mean square of what the reduced result differs by from its source, in the source's spreads; any
constant differs by 1, another image by more."""
WILD = 3.0
"""Spread of the result, in the source's."""
BEYOND = 2.0
"""How far values may go beyond the source's least and greatest, in its range."""


def check(sr: Float32, lr: Float32, told: Consistency, name: str) -> None:
    """sr float32 [scale*H, scale*W] of lr float32 [H, W], and how consistent they are; `name`: the model's.

    Raises ModelOutputError with the reason when the result is none.
    """
    spread = abs(affine_of(lr).gain) * SPREAD  # of an image without any, what the network takes for one
    low, high = float(lr.min()), float(lr.max())
    beyond = BEYOND * max(high - low, spread)
    if told.rms > UNLIKE * spread:
        why = "reduced again, it is not its source"
    elif float(sr.std(dtype=np.float64)) > WILD * spread:
        why = "its values scatter far more than its source's"
    elif float(sr.min()) < low - beyond or float(sr.max()) > high + beyond:
        why = "its values go far beyond its source's"
    else:
        return
    raise ModelOutputError(f"What the model {name} returned is no picture of its source: {why}.")
