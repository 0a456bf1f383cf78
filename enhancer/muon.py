"""Muon: momentum whose step is brought near an orthogonal matrix (Jordan et al. 2024, "Muon: An optimizer for
hidden layers in neural networks").

Each convolution's weight counts as a matrix [outer, inner * kernel]. What is not a matrix (biases, the first
and the last convolution, with their single channel) is left to Adam. The step has the root mean square that
Adam's usually has (Liu et al. 2025, "Muon is Scalable for LLM Training"), so learning rates are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5
_RMS = 0.2


def is_matrix(parameter: Tensor) -> bool:
    """Whether a weight is for Muon: a convolution's, with more than one channel on both sides."""
    return parameter.ndim == 4 and min(parameter.shape[:2]) > 1


class Muon(torch.optim.Optimizer):
    """For weights [outer, inner, height, width] alone; see :func:`is_matrix`."""

    def __init__(self, params: Iterable[nn.Parameter], lr: float = 1e-3, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; weights of one shape are brought to orthogonality together."""
        assert closure is None
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    alike.setdefault(weight.shape, []).append(weight)
            for shape, weights in alike.items():
                wanted = torch.stack(
                    [self._direction(weight, group["momentum"]).flatten(1) for weight in weights]
                )
                rate = group["lr"] * _RMS * max(wanted.shape[1:]) ** 0.5
                for weight, step in zip(weights, orthogonal(wanted), strict=True):
                    weight.add_(step.view(shape), alpha=-rate)

    def _direction(self, weight: Tensor, momentum: float) -> Tensor:
        """The gradient with Nesterov's momentum."""
        state: dict[str, Any] = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight, memory_format=torch.contiguous_format)
        assert weight.grad is not None
        gradient = weight.grad.contiguous()
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum)


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices [n, rows, columns] with all singular values near 1, by a Newton-Schulz iteration."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    first, third, fifth = _COEFFICIENTS
    for _ in range(_ROUNDS):
        square = x @ x.mT
        x = first * x + (third * square + fifth * square @ square) @ x
    return x if wide else x.mT
