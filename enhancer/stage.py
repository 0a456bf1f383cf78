"""What every training stage shares: the generator, its average, its optimiser and the learning rate."""

from __future__ import annotations

import contextlib
import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from enhancer.data import Patches
from enhancer.networks.generator import Generator
from enhancer.recipe import Recipe


def schedule(progress: float, iteration: int, warm_up: int) -> float:
    """Factor of the learning rate: a linear warm-up, then half a cosine down to zero at progress 1."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
    return cosine * min(1.0, (iteration + 1) / max(warm_up, 1))


def scale_of(recipe: Recipe, iteration: int) -> int:
    """The scale that an iteration trains, spread evenly: 2 for `x2_share` of them, else 4."""
    share = recipe.x2_share
    return 2 if math.floor((iteration + 1) * share) > math.floor(iteration * share) else 4


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = rate


class Average:
    """Exponential moving average of a module's weights (and, from its start, quicker while there are few)."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, iteration: int) -> None:
        decay = min(self.decay, (1 + iteration) / (10 + iteration))
        mine: list[Tensor] = list(self.module.parameters())
        torch._foreach_lerp_(mine, list(module.parameters()), 1 - decay)


class FidelityStage:
    """Stage 1: mean absolute error between the enlarged and the true image (Lim et al. 2017)."""

    def __init__(self, recipe: Recipe, device: torch.device, patches: Patches) -> None:
        self.recipe = recipe
        self.device = device
        self.patches = patches
        torch.manual_seed(recipe.seed)
        generator = Generator(recipe.channels, recipe.blocks)
        self.generator: Generator = generator.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = Average(self.generator, recipe.average)
        self.optimiser = torch.optim.Adam(
            self.generator.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99), foreach=True
        )

    def prepare(self) -> None:
        """What a new run does before its first iteration; a resumed one does not."""

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.recipe.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def batch(self, iteration: int) -> tuple[Tensor, Tensor, int]:
        """A normalised pair (lr, hr) on the device, and its scale."""
        scale = scale_of(self.recipe, iteration)
        lr, hr = self.patches.batch(iteration, scale, self.recipe.batch)
        return torch.from_numpy(lr).to(self.device), torch.from_numpy(hr).to(self.device), scale

    def generate(self, lr: Tensor, scale: int) -> Tensor:
        """The enlarged batch, float32, with its graph."""
        with self.autocast():
            return self.generator.enhance(lr.contiguous(memory_format=torch.channels_last), scale)

    def step(self, iteration: int, progress: float) -> dict[str, float]:
        """One iteration; returns the losses to show."""
        set_rate(
            self.optimiser, self.recipe.learning_rate * schedule(progress, iteration, self.recipe.warm_up)
        )
        lr, hr, scale = self.batch(iteration)
        loss = (self.generate(lr, scale) - hr).abs().mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.average.update(self.generator, iteration)
        return {f"L1 x{scale}": float(loss.detach())}

    def state(self) -> dict[str, Any]:
        """Everything to go on from, of tensors and plain values."""
        return {
            "generator": self.generator.state_dict(),
            "average": self.average.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.generator.load_state_dict(state["generator"])
        self.average.module.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
