"""Low dose, simulated: what an image would have looked like if fewer quanta had made it.

Nothing here is calibrated. A displayed radiograph says neither how many quanta a pixel counted nor how grey
values follow exposure, so both are assumed:

- tone curve: grey value v in [0, 1] (bright where little gets through) stands for the exposure
  exp(-TONE * v) of the unattenuated beam, so that the whole range spans a factor of exp(TONE), about 50;
- quanta: `QUANTA` in a pixel of the unattenuated beam at full dose;
- detector: each quantum's light spreads over neighbouring pixels, a Gaussian of `SPREAD` pixels, which
  correlates the quantum noise but not the electronic noise of `ELECTRONIC` quanta a pixel.

An image at full dose has noise already, so only what is missing is added: thinning N counted quanta to a
share d of them leaves d * N on average with a variance of d * (1 - d) * N (binomial selection). The noise is
added at the full size, before any reduction, and its strength is that of an image whose every pixel is a
pixel of the detector; an image that was reduced before it came here gets more than a real one would have.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Float32 = npt.NDArray[np.float32]

TONE = 3.9
QUANTA = 4000.0
SPREAD = 0.5
ELECTRONIC = 3.0
DOSES = (0.5, 0.25, 0.1)
"""Shares of the full dose that figures are given for."""


def simulate(image: Float32, dose: float, rng: np.random.Generator) -> Float32:
    """The image at `dose` of its exposure, float32 [H, W] in [0, 1] -> float32 [H, W], clipped to [0, 1].

    dose: above 0, at most 1 (no change). Bright is attenuated (MONOCHROME2); turn the other kind round first.
    Raises ValueError for another dose.
    """
    if not 0 < dose <= 1:
        raise ValueError(f"dose must be above 0 and at most 1, not {dose}")
    if dose == 1:
        return image
    quanta = QUANTA * np.exp(-TONE * image.astype(np.float64))
    noise = rng.standard_normal(image.shape) * np.sqrt(dose * (1 - dose) * quanta)
    noise = ndimage.gaussian_filter(noise, SPREAD, mode="nearest", truncate=3)
    # the readout's noise does not shrink with the dose; what the full dose had is in the image already
    electronic = rng.standard_normal(image.shape) * ELECTRONIC * np.sqrt(1 - dose**2)
    counted = np.maximum(dose * quanta + noise + electronic, 1.0)
    value = -np.log(counted / (dose * QUANTA)) / TONE
    return np.clip(value, 0, 1).astype(np.float32)
