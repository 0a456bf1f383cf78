"""The generator and discriminator of SRGAN as they were published, for comparison.

Ledig et al. 2017, "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network":
sixteen residual blocks of 64 channels with batch normalisation and PReLU, two sub-pixel convolutions, 9x9
convolutions at both ends; a VGG-like discriminator with eight convolutions and two dense layers. One
channel in place of three. We ship `enhancer.networks.generator` instead.
"""

from __future__ import annotations

from torch import Tensor, nn


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.PReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out


class Generator2017(nn.Module):
    """float32 [N, 1, H, W] -> the enlarged image itself, [N, 1, scale*H, scale*W]."""

    def __init__(self, channels: int = 64, blocks: int = 16, scale: int = 4) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Conv2d(1, channels, 9, padding=4), nn.PReLU())
        self.body = nn.Sequential(
            *(_Block(channels) for _ in range(blocks)),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        steps: list[nn.Module] = []
        for _ in range(scale.bit_length() - 1):
            steps += [nn.Conv2d(channels, channels * 4, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()]
        self.tail = nn.Sequential(*steps, nn.Conv2d(channels, 1, 9, padding=4))

    def forward(self, x: Tensor) -> Tensor:
        features = self.head(x)
        out: Tensor = self.tail(features + self.body(features))
        return out


class Discriminator2017(nn.Module):
    """float32 [N, 1, side, side] -> one logit an image, [N, 1]; `side` is a multiple of 16."""

    def __init__(self, side: int = 96, width: int = 64, dense: int = 1024) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(1, width, 3, padding=1), nn.LeakyReLU(0.2)]
        inner = width
        for outer, stride in [(1, 2), (2, 1), (2, 2), (4, 1), (4, 2), (8, 1), (8, 2)]:
            layers += [
                nn.Conv2d(inner, width * outer, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(width * outer),
                nn.LeakyReLU(0.2),
            ]
            inner = width * outer
        self.layers = nn.Sequential(*layers)
        self.verdict = nn.Sequential(
            nn.Flatten(),
            nn.Linear(inner * (side // 16) ** 2, dense),
            nn.LeakyReLU(0.2),
            nn.Linear(dense, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        logit: Tensor = self.verdict(self.layers(image))
        return logit
