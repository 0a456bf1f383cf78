"""The generator that we ship.

SRResNet (Ledig et al. 2017, "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial
Network") with what later work taught:

- no batch normalisation in the residual blocks (Lim et al. 2017, "Enhanced Deep Residual Networks", EDSR);
- the network predicts only what a bicubic enlargement lacks (Kim et al. 2016, "Accurate Image
Super-Resolution
  Using Very Deep Convolutional Networks", VDSR), so that half precision never carries the base;
- one body for both scales, a tail for each (MDSR in Lim et al. 2017);
- sub-pixel convolutions (Shi et al. 2016) that start as a nearest-neighbour enlargement (ICNR, Aitken et al.
  2017, "Checkerboard artifact free sub-pixel convolution");
- a tail that thins as it grows: 64, 32 and 16 channels at one, two and four times the size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SCALES = (2, 4)


def enlarge(image: Tensor, scale: int) -> Tensor:
    """Bicubic enlargement (a = -0.5, as Pillow's), float32 [N, 1, H, W] -> [N, 1, scale*H, scale*W]."""
    height, width = image.shape[-2:]
    size = (height * scale, width * scale)
    return functional.interpolate(image, size=size, mode="bicubic", align_corners=False, antialias=True)


def reduce(image: Tensor, scale: int) -> Tensor:
    """Antialiased bicubic reduction, as Pillow's, float32 [N, 1, scale*H, scale*W] -> [N, 1, H, W]."""
    height, width = image.shape[-2:]
    size = (height // scale, width // scale)
    return functional.interpolate(image, size=size, mode="bicubic", align_corners=False, antialias=True)


def icnr_(weight: Tensor, factor: int = 2) -> None:
    """Initialises a sub-pixel convolution's weight in place, so that its shuffle starts as nearest."""
    first = torch.empty(weight.shape[0] // factor**2, *weight.shape[1:])
    nn.init.kaiming_normal_(first, a=0.1, nonlinearity="leaky_relu")
    with torch.no_grad():
        weight.copy_(first.repeat_interleave(factor**2, dim=0))


class ResidualBlock(nn.Module):
    """conv, ReLU, conv, plus the input; no normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(_bias(conv))
        with torch.no_grad():
            self.conv2.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(functional.relu(self.conv1(x)))
        return out


class Doubling(nn.Module):
    """A sub-pixel convolution: [N, inner, H, W] -> [N, outer, 2H, 2W]."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inner, outer * 4, 3, padding=1)
        icnr_(self.conv.weight)
        nn.init.zeros_(_bias(self.conv))

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(functional.pixel_shuffle(self.conv(x), 2), 0.1)


class Tail(nn.Module):
    """Features at the source's size -> the residual at `scale` times the size, one channel."""

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        steps: list[nn.Module] = []
        width = channels
        for _ in range(scale.bit_length() - 1):
            steps.append(Doubling(width, width // 2))
            width //= 2
        self.steps = nn.ModuleList(steps)
        self.last = nn.Conv2d(width, 1, 3, padding=1)
        nn.init.normal_(self.last.weight, std=1e-3)
        nn.init.zeros_(_bias(self.last))

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        out: Tensor = self.last(x)
        return out


class Generator(nn.Module):
    """One body, a tail for each scale.

    `forward(x, scale)` takes a normalised image float32 [N, 1, H, W] and returns the residual over its
    bicubic enlargement, [N, 1, scale*H, scale*W], in the precision that the caller's autocast chose.
    """

    architecture = "residual-16x64-two-tails"

    def __init__(self, channels: int = 64, blocks: int = 16, scales: tuple[int, ...] = SCALES) -> None:
        super().__init__()
        self.scales = scales
        self.lowered: torch.dtype | None = None
        self.head = nn.Conv2d(1, channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.neck = nn.Conv2d(channels, channels, 3, padding=1)
        self.tails = nn.ModuleDict({f"x{scale}": Tail(channels, scale) for scale in scales})

    @property
    def halo(self) -> int:
        """Source pixels around an output pixel that can reach it: what tiles must overlap by."""
        at_source_size = 1 + 2 * len(self.body) + 1
        # Each step of a tail sees one pixel of its own, ever smaller, size; two source pixels hold them all.
        return at_source_size + 2

    def lower(self, dtype: torch.dtype) -> None:
        """Brings all but the first convolution to `dtype`, so that the image itself is never rounded."""
        self.to(dtype)
        self.head.float()
        self.lowered = dtype

    def forward(self, x: Tensor, scale: int) -> Tensor:
        features = self.head(x)
        if self.lowered is not None:
            features = features.to(self.lowered)
        features = features + self.neck(self.body(features))
        residual: Tensor = self.tails[f"x{scale}"](features)
        return residual

    def enhance(self, x: Tensor, scale: int) -> Tensor:
        """The whole step: bicubic base and residual, summed in float32 [N, 1, scale*H, scale*W]."""
        return enlarge(x.float(), scale) + self(x, scale).float()


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
