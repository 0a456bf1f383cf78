"""What every training stage shares: the generator, its average, its optimiser and the learning rate."""

from __future__ import annotations

import contextlib
import copy
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from enhancer.data import Patches
from enhancer.errors import RecipeError
from enhancer.modelfile import read_model
from enhancer.muon import Muon, is_matrix
from enhancer.networks.generator import Generator
from enhancer.recipe import Recipe

SQUARED_FLOOR = 3e-5


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


def log_squared(difference: Tensor) -> Tensor:
    """Mean over a batch [N, 1, H, W] of the logarithm of each patch's mean squared error.

    The floor, about 10 dB below what a good patch has, keeps empty background from outweighing the rest.
    """
    return (difference.square().mean(dim=(1, 2, 3)) + SQUARED_FLOOR).log().mean()


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


def optimisers_of(recipe: Recipe, generator: Generator) -> list[torch.optim.Optimizer]:
    """Adam for everything, or Muon for the matrices and Adam for the rest."""
    if recipe.optimiser == "adam":
        parameters = list(generator.parameters())
        return [torch.optim.Adam(parameters, lr=recipe.learning_rate, betas=(0.9, 0.99), foreach=True)]
    matrices = [weight for weight in generator.parameters() if is_matrix(weight)]
    rest = [weight for weight in generator.parameters() if not is_matrix(weight)]
    return [
        Muon(matrices, lr=recipe.learning_rate),
        torch.optim.Adam(rest, lr=recipe.adam_rate, betas=(0.9, 0.99), foreach=True),
    ]


class FidelityStage:
    """Stage 1: mean absolute error between the enlarged and the true image (Lim et al. 2017).

    From `squared_from` of the schedule on it is the mean logarithm of each patch's squared error, which is
    what PSNR measures (Chen et al. 2022, "Simple Baselines for Image Restoration", train so throughout).
    """

    def __init__(self, recipe: Recipe, device: torch.device, patches: Patches) -> None:
        self.recipe = recipe
        self.device = device
        self.patches = patches
        torch.manual_seed(recipe.seed)
        generator = Generator(recipe.channels, recipe.blocks)
        self.generator: Generator = generator.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = Average(self.generator, recipe.average)
        self.optimisers = optimisers_of(recipe, self.generator)

    def prepare(self) -> None:
        """What a new run does before its first iteration; a resumed one does not."""
        if self.recipe.start_from:
            self._take_over(Path(self.recipe.start_from))

    def _take_over(self, start: Path) -> None:
        """Start from the weights of a model file."""
        if not start.is_file():
            raise RecipeError(f"start_from must name the model to start from; there is none at {start}.")
        weights = read_model(start).generator.state_dict()
        self.generator.load_state_dict(weights)
        self.average.module.load_state_dict(weights)

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
        self.set_rates(progress, iteration)
        lr, hr, scale = self.batch(iteration)
        difference = self.generate(lr, scale) - hr
        absolute = difference.abs().mean()
        squared = self.recipe.squared_from and progress >= self.recipe.squared_from
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        (log_squared(difference) if squared else absolute).backward()
        for optimiser in self.optimisers:
            optimiser.step()
        self.average.update(self.generator, iteration)
        return {f"L1 x{scale}": float(absolute.detach())}

    def set_rates(self, progress: float, iteration: int) -> None:
        """The generator's learning rate: Adam's share keeps `adam_rate` where Muon has the rest."""
        factor = schedule(progress, iteration, self.recipe.warm_up)
        for optimiser in self.optimisers:
            alone = isinstance(optimiser, Muon) or len(self.optimisers) == 1
            set_rate(optimiser, factor * (self.recipe.learning_rate if alone else self.recipe.adam_rate))

    def state(self) -> dict[str, Any]:
        """Everything to go on from, of tensors and plain values."""
        return {
            "generator": self.generator.state_dict(),
            "average": self.average.module.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        self.generator.load_state_dict(state["generator"])
        self.average.module.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
