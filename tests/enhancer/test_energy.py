"""The energy that a loss compares."""

from __future__ import annotations

import math

import pytest
import torch

from enhancer import energy


def test_white_noise_of_twice_the_amplitude_has_log_four_more_energy_in_each_band():
    noise = torch.randn(2, 1, 128, 128, generator=torch.Generator().manual_seed(0)) * 0.1
    more = energy.log_energies(2 * noise) - energy.log_energies(noise)
    assert more.shape == (2, 49, 3)
    assert float(more.mean()) == pytest.approx(math.log(4), abs=0.02)


def test_a_wave_has_its_energy_in_its_band():
    x = torch.arange(64.0)
    wave = torch.sin(2 * math.pi * 0.18 * x).expand(1, 1, 64, 64)
    found = energy.log_energies(wave).mean(dim=1)[0]
    assert int(found.argmax()) == 0
    assert float(found[0] - found[2]) > 4


def test_texture_at_another_place_costs_less_than_texture_left_out():
    generator = torch.Generator().manual_seed(0)
    truth, other = (torch.randn(1, 1, 64, 64, generator=generator) * 0.05 for _ in range(2))
    assert energy.difference(other, truth) < energy.difference(0.3 * truth, truth)


def test_a_flat_image_has_a_finite_energy_with_a_gradient():
    flat = torch.zeros(1, 1, 64, 64, requires_grad=True)
    energy.difference(flat, torch.randn(1, 1, 64, 64)).backward()
    assert torch.isfinite(flat.grad).all()
