"""How much structure each part of an image has at each spatial frequency, for a loss.

A net trained for the least error leaves out the texture that it cannot predict, so its images have too
little energy at high frequencies. The difference of log energies, window by window, asks for as much as the
truth has without saying where each grain must lie.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

SIDE = 32
"""Side of a window, pixels."""
BANDS = ((0.125, 0.25), (0.25, 0.375), (0.375, 0.5))
"""Radial frequencies, cycles a pixel."""
FLOOR = 0.002
"""Noise of this standard deviation is taken to be everywhere, so that empty windows weigh little."""


def log_energies(image: Tensor) -> Tensor:
    """float32 [N, 1, H, W], normalised -> natural log of the energy, [N, windows, bands].

    Windows overlap by half.
    """
    windows = image.float().unfold(2, SIDE, SIDE // 2).unfold(3, SIDE, SIDE // 2)
    windows = windows.reshape(len(image), -1, SIDE, SIDE)
    windows = windows - windows.mean(dim=(2, 3), keepdim=True)
    hann, masks = _window_and_masks(image.device)
    spectrum = torch.fft.rfft2(windows * hann)
    power = spectrum.real.square() + spectrum.imag.square()
    energies = torch.einsum("nwyx,byx->nwb", power, masks)
    floor = FLOOR**2 * hann.square().sum() * masks.sum(dim=(1, 2))
    return (energies + floor).log()


def difference(image: Tensor, truth: Tensor) -> Tensor:
    """Mean absolute difference of log energies of two batches [N, 1, H, W]."""
    return (log_energies(image) - log_energies(truth)).abs().mean()


@lru_cache(maxsize=2)
def _window_and_masks(device: torch.device) -> tuple[Tensor, Tensor]:
    line = torch.hann_window(SIDE, periodic=False, device=device)
    rows, columns = torch.fft.fftfreq(SIDE)[:, None], torch.fft.rfftfreq(SIDE)[None, :]
    radius = torch.hypot(rows, columns)
    twice = torch.full((1, SIDE // 2 + 1), 2.0)  # rfft2 gives one of each pair of conjugates
    twice[:, 0] = twice[:, -1] = 1
    masks = torch.stack([((radius >= low) & (radius < high)) * twice for low, high in BANDS])
    return torch.outer(line, line), masks.to(device)
