"""Training: reads a recipe, runs its stage, saves itself, can go on where it stopped.

The loop is bounded by iterations and, if the recipe says so, by wall time; the learning rate follows
whichever of the two is further, so a run that shares its machine still ends its schedule. Each iteration's
randomness is a function of the seed and the iteration, so a resumed run sees the patches that an unbroken
one would have seen.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tqdm import tqdm

from enhancer.data import NATIVE_SIDE, Patches, Picture, list_images, read, resize, unit
from enhancer.errors import TrainingError
from enhancer.networks.generator import SCALES, Generator
from enhancer.normalise import affine_of
from enhancer.recipe import Recipe, load_recipe
from enhancer.stage import Average, FidelityStage


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


def train(config: Path, resume: bool = False) -> Outcome:
    """Trains as the TOML file `config` says; with `resume` goes on from the run's own checkpoint.

    Writes `out/name/checkpoint.pt` every few minutes and at the end. Raises RecipeError, DataError or
    TrainingError with a sentence for the user.
    """
    return run(load_recipe(config), resume=resume)


def device_of(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(name)


def make_stage(recipe: Recipe, device: torch.device, patches: Patches) -> Stage:
    if recipe.stage == "fidelity":
        return FidelityStage(recipe, device, patches)
    from enhancer.adversarial import AdversarialStage

    return AdversarialStage(recipe, device, patches)


def run(recipe: Recipe, *, resume: bool, stop_at: int | None = None) -> Outcome:
    """Trains; `stop_at` leaves off after that iteration without ending the schedule."""
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    device = device_of(recipe.device)
    folder = Path(recipe.out) / recipe.name
    checkpoint = folder / "checkpoint.pt"
    paths = list_images(Path(recipe.data), "train")
    checks = _check_images(Path(recipe.data))
    patches = Patches(paths, SCALES, patch=recipe.patch, large_share=recipe.large_share, seed=recipe.seed)
    stage = make_stage(recipe, device, patches)
    first, spent = 0, 0.0
    if resume:
        saved = load_checkpoint(checkpoint, device)
        stage.load_state(saved["stage"])
        first, spent = int(saved["iteration"]), float(saved["seconds"])
    elif checkpoint.exists():
        raise TrainingError(f"{checkpoint} is there already: resume that run, or move it away.")
    else:
        stage.prepare()
    folder.mkdir(parents=True, exist_ok=True)

    started, saved_at = time.monotonic() - spent, time.monotonic()
    allowed = recipe.max_minutes * 60 or float("inf")
    losses: dict[str, float] = {}
    figures: dict[str, float] = {}
    iteration = first
    bar = tqdm(total=recipe.iterations, initial=first, unit="it", file=sys.stderr, mininterval=10, ncols=0)
    with bar:
        while iteration < (stop_at or recipe.iterations) and time.monotonic() - started < allowed:
            progress = max(iteration / recipe.iterations, (time.monotonic() - started) / allowed)
            for key, value in stage.step(iteration, progress).items():
                if not np.isfinite(value):
                    raise TrainingError(f"{key} stopped being a number at iteration {iteration}.")
                losses[key] = value if key not in losses else losses[key] + 0.02 * (value - losses[key])
            iteration += 1
            bar.update()
            if iteration % recipe.check_every == 0:
                figures = check(stage.average.module, checks, device)
                shown = ", ".join(f"{key} {value:.3f}" for key, value in figures.items())
                minutes = (time.monotonic() - started) / 60
                bar.write(f"iteration {iteration}, {minutes:.1f} min, dev: {shown}", file=sys.stderr)
            bar.set_postfix({key: f"{value:.5f}" for key, value in losses.items()}, refresh=False)
            if time.monotonic() - saved_at > recipe.save_minutes * 60:
                save_checkpoint(checkpoint, stage, recipe, iteration, time.monotonic() - started, figures)
                saved_at = time.monotonic()
    seconds = time.monotonic() - started
    figures = check(stage.average.module, checks, device)
    save_checkpoint(checkpoint, stage, recipe, iteration, seconds, figures)
    return Outcome(iteration, seconds / 60, checkpoint, figures)


def save_checkpoint(
    path: Path, stage: Stage, recipe: Recipe, iteration: int, seconds: float, figures: dict[str, float]
) -> None:
    """Writes tensors and plain values only, and replaces the last checkpoint in one step."""
    content = {
        "stage": stage.state(),
        "recipe": dataclasses.asdict(recipe),
        "iteration": iteration,
        "seconds": seconds,
        "figures": figures,
        "revision": git_revision(),
    }
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """A checkpoint, read without pickle's code (`weights_only`)."""
    if not path.is_file():
        raise TrainingError(f"There is no checkpoint at {path} to go on from.")
    try:
        content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise TrainingError(f"{path} cannot be read as a checkpoint: {error}") from error
    return content


def git_revision() -> str:
    """The revision of the working tree that this module lies in, or `unknown`."""
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()


def _check_images(data: Path, count: int = 24) -> list[Picture]:
    paths = list_images(data, "dev")
    stride = max(1, len(paths) // count)
    return [Picture.of(resize(read(path), NATIVE_SIDE, NATIVE_SIDE), SCALES) for path in paths[::stride]]


@torch.inference_mode()
def check(generator: torch.nn.Module, pictures: list[Picture], device: torch.device) -> dict[str, float]:
    """PSNR over bicubic, dB, on a few `dev` images by the native protocol, float32."""
    from enhancer.networks.generator import enlarge

    assert isinstance(generator, Generator)
    gains: dict[str, float] = {}
    for scale in SCALES:
        differences = []
        for picture in pictures:
            lr = unit(picture.lr[scale])
            affine = affine_of(lr)
            x = torch.from_numpy(affine.forward(lr))[None, None].to(device)
            truth = torch.from_numpy(affine.forward(unit(picture.hr)))[None, None].to(device)
            ours = float(((generator.enhance(x, scale) - truth) ** 2).mean())
            base = float(((enlarge(x, scale) - truth) ** 2).mean())
            differences.append(10 * np.log10(base / ours))
        gains[f"x{scale} over bicubic"] = float(np.mean(differences))
    return gains
