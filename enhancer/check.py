"""A quick look at how a training run is doing, on a few of the `dev` images."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch

from enhancer.data import Grey, Picture, truth_of, unit
from enhancer.evaluation import spectrum
from enhancer.networks.generator import SCALES, Generator, enlarge
from enhancer.normalise import affine_of


def pictures_of(images: Iterable[Grey], protocol: str = "native") -> list[Picture]:
    """Images by a protocol."""
    return [Picture.of(truth_of(image, protocol), SCALES) for image in images]


@torch.inference_mode()
def check(generator: torch.nn.Module, pictures: list[Picture], device: torch.device) -> dict[str, float]:
    """PSNR over bicubic and energy at 0.125-0.5 cycles a pixel against the truth, both in dB.

    By the native protocol, in float32.
    """
    assert isinstance(generator, Generator)
    figures: dict[str, float] = {}
    for scale in SCALES:
        differences, energies = [], []
        for picture in pictures:
            lr = unit(picture.lr[scale])
            affine = affine_of(lr)
            x = torch.from_numpy(affine.forward(lr))[None, None].to(device)
            truth = torch.from_numpy(affine.forward(unit(picture.hr)))[None, None].to(device)
            sr = generator.enhance(x, scale)
            ours = float(((sr - truth) ** 2).mean())
            base = float(((enlarge(x, scale) - truth) ** 2).mean())
            differences.append(10 * np.log10(base / ours))
            energies.append(
                spectrum.power(sr[0, 0].cpu().numpy()) / spectrum.power(truth[0, 0].cpu().numpy())
            )
        figures[f"x{scale} over bicubic"] = float(np.mean(differences))
        for band, share in zip(spectrum.BANDS, np.mean(energies, axis=0), strict=True):
            if band[0] >= 0.125:
                figures[f"x{scale} energy {band[0]:g}-{band[1]:g}"] = float(10 * np.log10(share))
    return figures
