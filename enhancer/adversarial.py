"""Stage 2: from the fidelity net to one whose images look like radiographs (Ledig et al. 2017).

Five losses on the enlarged image: the mean absolute error, the distance in features, the relativistic
adversarial loss, the difference of the reduced result from the source, and that of the energy in each band
of spatial frequency from the truth's.
Their weights in the recipe are shares of influence: the gradient that each sends into the image is brought
to the length of the pixel loss's before it is weighted (after Esser et al. 2021, "Taming Transformers", who
balance the adversarial term so), and no loss's natural size matters.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from enhancer import energy
from enhancer.data import Patches
from enhancer.networks.discriminator import PatchDiscriminator, relativistic_hinge
from enhancer.networks.features import DenoisingFeatures, ImageNetFeatures
from enhancer.networks.generator import enlarge, reduce
from enhancer.recipe import Recipe
from enhancer.stage import FidelityStage, schedule, set_rate

FEATURE_SEED = 1_000_000_000
"""Iterations of the feature network are counted from here, so that its patches are others."""


class AdversarialStage(FidelityStage):
    """The generator against the discriminator."""

    def __init__(self, recipe: Recipe, device: torch.device, patches: Patches) -> None:
        super().__init__(recipe, device, patches)
        self.discriminator = PatchDiscriminator().to(device)
        foreign = recipe.features == "imagenet"
        self.features = (ImageNetFeatures() if foreign else DenoisingFeatures()).to(device)
        self.discriminator_optimiser = torch.optim.Adam(
            self.discriminator.parameters(),
            lr=recipe.discriminator_learning_rate,
            betas=(0.5, 0.99),
            foreach=True,
        )
        self.lengths: dict[str, float] = {}

    def prepare(self) -> None:
        """Takes over the fidelity net's weights and trains the feature network."""
        self._take_over(Path(self.recipe.start_from))
        if self.recipe.weight_feature and isinstance(self.features, DenoisingFeatures):
            self._train_features(self.features)

    def _train_features(self, features: DenoisingFeatures) -> None:
        """A noisy patch in, its noise out, for the time that the recipe gives."""
        optimiser = torch.optim.Adam(features.parameters(), lr=2e-3, foreach=True)
        generator = torch.Generator(self.device).manual_seed(self.recipe.seed)
        allowed, started, iteration = self.recipe.feature_minutes * 60, time.monotonic(), 0
        while iteration == 0 or time.monotonic() - started < allowed:
            set_rate(
                optimiser, 2e-3 * schedule((time.monotonic() - started) / max(allowed, 1e-9), iteration, 20)
            )
            hr = self._real(FEATURE_SEED + iteration)
            level = torch.rand(len(hr), 1, 1, 1, generator=generator, device=self.device) * 0.1 + 0.005
            noise = torch.randn(hr.shape, generator=generator, device=self.device) * level
            with self.autocast():
                found = features.noise(hr + noise)
            loss = ((found - noise) / level).abs().mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            iteration += 1
        features.calibrate(self._real(FEATURE_SEED - 1))
        features.eval().requires_grad_(False)

    def _real(self, iteration: int) -> Tensor:
        return torch.from_numpy(self.patches.batch(iteration, 4, self.recipe.batch)[1]).to(self.device)

    def step(self, iteration: int, progress: float) -> dict[str, float]:
        """The discriminator's step, then the generator's."""
        recipe = self.recipe
        set_rate(
            self.discriminator_optimiser,
            recipe.discriminator_learning_rate * schedule(progress, iteration, 1),
        )
        self.set_rates(progress, iteration)
        lr, hr, scale = self.batch(iteration)
        base = enlarge(lr, scale)
        alone = iteration < recipe.adversarial_after and recipe.weight_adversarial > 0
        with torch.set_grad_enabled(not alone):
            sr = self.generate(lr, scale)
        shown: dict[str, float] = {}
        real = torch.zeros(1)
        if recipe.weight_adversarial:
            with self.autocast():
                real, fake = self.discriminator(torch.cat([hr, sr.detach()]), torch.cat([base, base])).chunk(
                    2
                )
            loss = relativistic_hinge(real, fake)
            self.discriminator_optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.discriminator_optimiser.step()
            shown["D"] = float(loss.detach())
        if not alone:
            shown |= self._improve(sr, hr, lr, base, real.detach(), scale)
            self.average.update(self.generator, iteration)
        return shown

    def _improve(
        self, sr: Tensor, hr: Tensor, lr: Tensor, base: Tensor, real: Tensor, scale: int
    ) -> dict[str, float]:
        recipe = self.recipe
        image = sr.detach().requires_grad_()
        losses = {"L1": (recipe.weight_pixel, (image - hr).abs().mean())}
        if recipe.weight_reduced:
            losses["reduced"] = (recipe.weight_reduced, (reduce(image, scale) - lr).abs().mean())
        if recipe.weight_feature:
            with self.autocast():
                with torch.no_grad():
                    wanted = self.features(hr)
                distance = self.features.distance(self.features(image), wanted)
            losses["feature"] = (recipe.weight_feature, distance)
        if recipe.weight_energy:
            losses["energy"] = (recipe.weight_energy, energy.difference(image, hr))
        if recipe.weight_adversarial:
            self.discriminator.requires_grad_(False)
            with self.autocast():
                fake = self.discriminator(image, base)
            self.discriminator.requires_grad_(True)
            losses["G"] = (recipe.weight_adversarial, relativistic_hinge(fake, real))
        total = torch.zeros_like(image)
        pixel_length = image.numel() ** -0.5
        for name, (weight, loss) in losses.items():
            (gradient,) = torch.autograd.grad(loss, image)
            key = f"{name} x{scale}"
            length = float(gradient.norm()) / pixel_length
            self.lengths[key] = self.lengths.get(key, length) * 0.98 + length * 0.02
            total += gradient * (weight / max(self.lengths[key], 1e-12))
        for optimiser in self.optimisers:
            optimiser.zero_grad(set_to_none=True)
        sr.backward(total)
        for optimiser in self.optimisers:
            optimiser.step()
        return {f"{name} x{scale}": float(loss.detach()) for name, (_, loss) in losses.items()}

    def state(self) -> dict[str, Any]:
        return {
            **super().state(),
            "discriminator": self.discriminator.state_dict(),
            "discriminator_optimiser": self.discriminator_optimiser.state_dict(),
            "features": self._features_state(),
            "lengths": self.lengths,
        }

    def _features_state(self) -> dict[str, Any]:
        """The feature network's weights; of a foreign one nothing, as they are fixed."""
        return self.features.state_dict() if isinstance(self.features, DenoisingFeatures) else {}

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self.discriminator.load_state_dict(state["discriminator"])
        self.discriminator_optimiser.load_state_dict(state["discriminator_optimiser"])
        if isinstance(self.features, DenoisingFeatures):
            self.features.load_state_dict(state["features"])
            self.features.eval().requires_grad_(False)
        self.lengths = dict(state["lengths"])
