"""Checkpoints of a training run: tensors and plain values, read back without pickle's code."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path
from typing import Any, Protocol

import torch

from enhancer.errors import TrainingError
from enhancer.recipe import Recipe


class Stateful(Protocol):
    """Something whose state is worth keeping."""

    def state(self) -> dict[str, Any]: ...


def save_checkpoint(
    path: Path, stage: Stateful, recipe: Recipe, iteration: int, seconds: float, figures: dict[str, float]
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
