"""The optimiser of the matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from enhancer.muon import Muon, is_matrix, orthogonal


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (9, 9)])
def test_a_step_is_near_an_orthogonal_matrix(shape):
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape) * torch.tensor([1e-4, 1.0, 1e4]).view(3, 1, 1)
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_a_gradient_of_nothing_moves_nothing():
    assert torch.equal(orthogonal(torch.zeros(1, 4, 5)), torch.zeros(1, 4, 5))


def test_convolutions_between_several_channels_are_matrices_and_nothing_else_is():
    assert is_matrix(nn.Conv2d(4, 8, 3).weight)
    assert not is_matrix(nn.Conv2d(1, 8, 3).weight)
    assert not is_matrix(nn.Conv2d(8, 1, 3).weight)
    assert not is_matrix(torch.zeros(8))


def test_it_finds_the_least_squares_of_a_badly_scaled_problem():
    torch.manual_seed(1)
    inputs = torch.randn(64, 6, 3, 3) * torch.tensor([10.0, 3, 1, 0.3, 0.1, 0.03]).view(1, 6, 1, 1)
    truth = nn.Conv2d(6, 4, 3, bias=False)
    ours = nn.Conv2d(6, 4, 3, bias=False)
    optimiser = Muon(ours.parameters(), lr=0.1)
    before = (ours(inputs) - truth(inputs)).square().mean().item()
    for step in range(200):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - step / 200)
        optimiser.zero_grad()
        loss = (ours(inputs) - truth(inputs)).square().mean()
        loss.backward()
        optimiser.step()
    assert loss.item() < before / 1000
