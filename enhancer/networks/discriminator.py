"""The discriminator: does a patch look like a radiograph, place by place?

A patch discriminator (Isola et al. 2017, "Image-to-Image Translation with Conditional Adversarial
Networks") with spectral normalisation (Miyato et al. 2018, "Spectral Normalization for Generative
Adversarial Networks") in place of the batch normalisation and the dense layers of Ledig et al. 2017: small
enough for two cores and not tied to a patch size. It sees the image and, as a second channel, what the
image holds beyond the enlargement of its source, where all that it has to judge lies.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

DETAIL_GAIN = 4.0


class SpectralConv2d(nn.Conv2d):
    """A convolution whose weight is divided by its largest singular value, by one power iteration a step."""

    u: Tensor

    def __init__(self, inner: int, outer: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inner, outer, kernel, stride, padding=(kernel - 1) // 2)
        self.register_buffer("u", functional.normalize(torch.randn(outer), dim=0))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            matrix = self.weight.flatten(1)
            with torch.no_grad():
                v = functional.normalize(matrix.t() @ self.u, dim=0)
                if self.training:
                    self.u.copy_(functional.normalize(matrix @ v, dim=0))
            weight = self.weight / torch.dot(self.u, matrix @ v)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


class PatchDiscriminator(nn.Module):
    """image and base float32 [N, 1, H, W], normalised -> one score for each place, [N, 1, about H/8, W/8]."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                SpectralConv2d(2, width, 3),
                SpectralConv2d(width, width * 2, 4, 2),
                SpectralConv2d(width * 2, width * 4, 4, 2),
                SpectralConv2d(width * 4, width * 4, 4, 2),
            ]
        )
        self.last = SpectralConv2d(width * 4, 1, 3)

    def forward(self, image: Tensor, base: Tensor) -> Tensor:
        x = torch.cat([image, (image - base) * DETAIL_GAIN], dim=1)
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
        score: Tensor = self.last(x)
        return score.float()


def relativistic_hinge(of_these: Tensor, of_those: Tensor) -> Tensor:
    """Relativistic average hinge loss that wants these to score above those.

    Jolicoeur-Martineau 2018, "The relativistic discriminator". With (real, fake) it is the discriminator's
    loss, with (fake, real) the generator's.
    """
    these = of_these - of_those.mean()
    those = of_those - of_these.mean()
    return (functional.relu(1 - these).mean() + functional.relu(1 + those).mean()) / 2
