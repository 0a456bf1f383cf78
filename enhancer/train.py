"""Training: reads a recipe, runs its stage, saves itself, can go on where it stopped.

The loop is bounded by iterations and, if the recipe says so, by wall time; the learning rate follows
whichever of the two is further, so a run that shares its machine still ends its schedule. Each iteration's
randomness is a function of the seed and the iteration, so a resumed run sees the patches that an unbroken
one would have seen.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Set
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tqdm import tqdm

from enhancer.adversarial import AdversarialStage
from enhancer.check import check, pictures_of
from enhancer.checkpoint import load_checkpoint, save_checkpoint
from enhancer.data import SUFFIXES, Patches
from enhancer.device import place
from enhancer.errors import TrainingError
from enhancer.evaluation.images import Reader, read_picture
from enhancer.networks.generator import SCALES, Generator
from enhancer.recipe import Recipe, load_recipe
from enhancer.record import Record
from enhancer.stage import Average, FidelityStage
from enhancer.trainingset import training_set


class Stage(Protocol):
    """What the loop asks of a stage."""

    generator: Generator
    average: Average

    def prepare(self) -> None: ...

    def step(self, iteration: int, progress: float) -> dict[str, float]: ...

    def state(self) -> dict[str, Any]: ...

    def load_state(self, state: dict[str, Any]) -> None: ...


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    iterations: int
    minutes: float
    checkpoint: Path
    figures: dict[str, float]


def train(
    config: Path, resume: bool = False, reader: Reader = read_picture, suffixes: Set[str] = SUFFIXES
) -> Outcome:
    """Trains as the TOML file `config` says; with `resume` goes on from the run's own checkpoint.

    `reader` and `suffixes` say what files a folder of images without `SOURCES.csv` may hold.
    Writes `checkpoint.pt` (every few minutes, at the end, and when interrupted) and what
    :mod:`enhancer.record` tells to the folder
    `out/name`. Raises RecipeError, DataError, DeviceError or TrainingError with a sentence for the user.
    """
    return run(load_recipe(config), resume=resume, reader=reader, suffixes=suffixes)


def run(
    recipe: Recipe,
    *,
    resume: bool,
    stop_at: int | None = None,
    reader: Reader = read_picture,
    suffixes: Set[str] = SUFFIXES,
) -> Outcome:
    """Trains; `stop_at` leaves off after that iteration without ending the schedule."""
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    device = place(recipe.device).device
    folder = Path(recipe.out) / recipe.name
    checkpoint = folder / "checkpoint.pt"
    saved = load_checkpoint(checkpoint, device) if resume else None
    if saved is None and checkpoint.exists():
        raise TrainingError(f"{checkpoint} is there already: resume that run, or move it away.")
    images = training_set(Path(recipe.data), reader, suffixes)
    pictures = pictures_of(images.looks, recipe.protocol)
    patches = Patches(
        images.train,
        SCALES,
        patch=recipe.patch,
        large_share=recipe.large_share,
        seed=recipe.seed,
        area_share=recipe.area_share,
        blur_share=recipe.blur_share,
        noise_share=recipe.noise_share,
        turned_share=recipe.turned_share,
        protocol=recipe.protocol,
    )
    kind = FidelityStage if recipe.stage == "fidelity" else AdversarialStage
    stage: Stage = kind(recipe, device, patches)
    first, spent = 0, 0.0
    if saved is None:
        stage.prepare()
    else:
        try:
            stage.load_state(saved["stage"])
            first, spent = int(saved["iteration"]), float(saved["seconds"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise TrainingError(f"{checkpoint} is of another stage or network than the recipe's.") from error
    folder.mkdir(parents=True, exist_ok=True)

    started, saved_at = time.monotonic() - spent, time.monotonic()
    allowed = recipe.max_minutes * 60 or float("inf")
    last = min(stop_at or recipe.iterations, recipe.iterations)
    losses: dict[str, float] = {}
    figures: dict[str, float] = {}
    iteration = first

    def save() -> None:
        save_checkpoint(checkpoint, stage, recipe, iteration, time.monotonic() - started, figures)

    record = Record(folder)
    average = stage.average.module
    assert isinstance(average, Generator)
    bar = tqdm(total=recipe.iterations, initial=first, unit="it", mininterval=5, ncols=0, disable=None)
    try:
        while iteration < last and time.monotonic() - started < allowed:
            progress = max(iteration / recipe.iterations, (time.monotonic() - started) / allowed)
            for key, value in stage.step(iteration, progress).items():
                if not np.isfinite(value):
                    raise TrainingError(f"{key} stopped being a number at iteration {iteration}.")
                losses[key] = value if key not in losses else losses[key] + 0.02 * (value - losses[key])
            iteration += 1
            bar.update()
            if iteration % recipe.check_every == 0 or iteration == last:
                figures = check(stage.average.module, pictures, device)
                record.note(iteration, time.monotonic() - started, {**losses, **figures})
                record.show(iteration, average, pictures)
            shown = {**losses, **figures}
            bar.set_postfix({key: f"{value:.5g}" for key, value in shown.items()}, refresh=False)
            if time.monotonic() - saved_at > recipe.save_minutes * 60:
                save()
                saved_at = time.monotonic()
    except KeyboardInterrupt as interrupt:
        save()
        raise TrainingError(
            f"Interrupted at iteration {iteration}; --resume goes on from there."
        ) from interrupt
    finally:
        bar.close()
        record.close()
    figures = check(stage.average.module, pictures, device)
    save()
    return Outcome(iteration, (time.monotonic() - started) / 60, checkpoint, figures)
