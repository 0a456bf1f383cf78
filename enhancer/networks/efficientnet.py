"""The front of EfficientNet-Lite: the stem and the stages up to a sixteenth of the size.

Tan and Le 2019, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks"; the Lite variants
(no squeeze-and-excitation, ReLU6) are theirs. Weights with ImageNet training come as distributions of their
own and are read with `weights_only=True`. Attributes are named as in the weights' files.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from enhancer.errors import DataError

EPSILON = 1e-3
"""Of the batch normalisation that the weights were trained with."""
STEM = 32
STAGES: tuple[tuple[int, int, int, int], ...] = (
    (16, 1, 3, 1),
    (24, 6, 3, 2),
    (40, 6, 5, 2),
    (80, 6, 3, 2),
    (112, 6, 5, 1),
)
"""Channels out, expansion, kernel and stride of each stage's first block."""
LITE0, LITE1 = (1, 2, 2, 3, 3), (1, 3, 3, 4, 4)
"""Blocks in each stage."""


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's SAME: the odd pixel to the right and below."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:]]
        (top, left), (bottom, right) = [p // 2 for p in pads], [p - p // 2 for p in pads]
        return super().forward(functional.pad(x, (left, right, top, bottom)))


class Block(nn.Module):
    """Expansion, depthwise convolution, projection; plus the input where sizes allow."""

    def __init__(self, inner: int, outer: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inner * expansion
        if expansion != 1:
            self._expand_conv = nn.Conv2d(inner, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=EPSILON)
        self._depthwise_conv = SameConv2d(wide, wide, kernel, stride, groups=wide, bias=False)
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


class EfficientNetLite(nn.Module):
    """The stem and the blocks of the first stages."""

    def __init__(self, repeats: tuple[int, ...]) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, STEM, 3, 2, bias=False)
        self._bn0 = nn.BatchNorm2d(STEM, eps=EPSILON)
        blocks: list[Block] = []
        inner = STEM
        for (outer, expansion, kernel, stride), count in zip(STAGES, repeats, strict=True):
            for index in range(count):
                blocks.append(Block(inner, outer, expansion, kernel, stride if index == 0 else 1))
                inner = outer
        self._blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """float32 [N, 3, H, W] in [-1, 1] -> the stem's features, then each block's."""
        levels = [functional.relu6(self._bn0(self._conv_stem(x)))]
        for block in self._blocks:
            levels.append(block(levels[-1]))
        return levels


def trained(repeats: tuple[int, ...], weights: Path) -> EfficientNetLite:
    """The network with the weights of a file, in evaluation mode, without gradients for its weights.

    Raises DataError for a file of another network.
    """
    state = torch.load(weights, map_location="cpu", weights_only=True)
    network = EfficientNetLite(repeats)
    try:
        network.load_state_dict({key: state[key] for key in network.state_dict() if key in state})
    except RuntimeError as error:
        raise DataError(f"{weights.name} does not hold the weights of EfficientNet-Lite.") from error
    return network.eval().requires_grad_(False)


def installed(package: str) -> Path | None:
    """The weights' file of an installed distribution; None where it is not installed."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        return None
    return next((Path(found.origin).parent / "models").glob("*.pth"), None)
