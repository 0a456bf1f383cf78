"""Bicubic resampling of float images, as Pillow does it (a = -0.5, antialiased when reducing).

The same weights as `enhancer.networks.generator.enlarge` and `reduce` use on tensors; Pillow sums in double
precision and needs no more memory than the image and its result.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

Float32 = npt.NDArray[np.float32]


def resample(image: Float32, height: int, width: int) -> Float32:
    """float32 [H, W] in any range -> float32 [height, width], bicubic."""
    if image.shape == (height, width):
        return image.copy()
    source = Image.fromarray(np.ascontiguousarray(image, dtype=np.float32))
    return np.array(source.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32)


def enlarged(image: Float32, scale: int) -> Float32:
    """float32 [H, W] -> float32 [scale*H, scale*W]."""
    return resample(image, image.shape[0] * scale, image.shape[1] * scale)


def reduced(image: Float32, scale: int) -> Float32:
    """float32 [scale*H, scale*W] -> float32 [H, W]."""
    return resample(image, image.shape[0] // scale, image.shape[1] // scale)
