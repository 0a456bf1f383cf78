"""The training configuration: a TOML file read into a frozen dataclass, wrong keys refused by name."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from enhancer.errors import RecipeError


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What `cxr-sr train --config FILE` needs to know; paths are relative to the current folder."""

    stage: Literal["fidelity", "adversarial"]
    name: str
    """Name of the model that the run makes, e.g. `srresnet`."""
    data: str = "../shared/data/cxr"
    """Folder with `SOURCES.csv`, `train/` and `val/`."""
    out: str = "var/train"
    """Folder for checkpoints; the run writes below `out/name`."""
    start_from: str = ""
    """Weights (.safetensors or a checkpoint .pt) to start from; the adversarial stage needs one."""
    seed: int = 1
    iterations: int = 20_000
    max_minutes: float = 0.0
    """Wall time of the whole schedule, 0 for none; the learning rate follows whichever is further."""
    batch: int = 16
    patch: int = 32
    """Side of a low-resolution patch, pixels."""
    large_share: float = 0.3
    area_share: float = 0.0
    """Share of the patches that are reduced by block means instead of bicubic."""
    blur_share: float = 0.0
    """Share of the patches whose source is slightly blurred."""
    noise_share: float = 0.0
    """Share of the patches whose source has the noise of a lower dose."""
    turned_share: float = 1.0
    """Share of the patches that are turned by a random number of quarters."""
    protocol: Literal["native", "seed"] = "native"
    """`seed`: the truth is the image reduced to 64x64 and enlarged again (see the model cards)."""
    x2_share: float = 0.22
    """Share of the batches that train the x2 tail; the others train x4."""
    optimiser: Literal["adam", "muon"] = "adam"
    """What trains the generator; `muon` leaves what is no matrix to Adam at `adam_rate`."""
    learning_rate: float = 4e-4
    adam_rate: float = 4e-4
    squared_from: float = 0.0
    """Share of the fidelity stage's schedule after which each patch's squared error counts by its logarithm,
    as in PSNR; 0: never."""
    discriminator_learning_rate: float = 2e-4
    warm_up: int = 200
    average: float = 0.999
    """Decay of the exponential moving average of the weights."""
    threads: int = 0
    device: str = "auto"
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    save_minutes: float = 3.0
    check_every: int = 500
    """Iterations between looks at the `dev` images."""
    weight_pixel: float = 1.0
    weight_feature: float = 0.0
    weight_adversarial: float = 0.0
    weight_reduced: float = 0.0
    weight_energy: float = 0.0
    features: Literal["radiograph", "imagenet"] = "radiograph"
    """What the feature loss looks with: a net trained on the radiographs, or EfficientNet-Lite1."""
    feature_minutes: float = 2.0
    """Wall time given to training the feature network of the adversarial stage."""
    adversarial_after: int = 200
    """Iterations of the adversarial stage in which only the discriminator gets to know the generator."""
    channels: int = 64
    blocks: int = 16

    def digest(self) -> str:
        """SHA-256 of the configuration, hexadecimal."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()


def load_recipe(path: Path) -> Recipe:
    """Reads a TOML file; a wrong key or type is a RecipeError that names it."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not valid TOML: {error}.") from error
    return recipe_of(values, str(path))


def recipe_of(values: dict[str, Any], where: str) -> Recipe:
    """A recipe of plain values; `where` names their origin in errors."""
    fields = {field.name: field for field in dataclasses.fields(Recipe)}
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in fields:
            raise RecipeError(f"{where}: {key} is not a key of a training configuration.")
        kind = str(fields[key].type)
        expected: type = {"int": int, "float": float}.get(kind, str)
        if expected is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, expected) or isinstance(value, bool):
            raise RecipeError(f"{where}: {key} must be of type {expected.__name__}, not {value!r}.")
        checked[key] = value
    choices = {
        "stage": ("fidelity", "adversarial"),
        "precision": ("bfloat16", "float32"),
        "optimiser": ("adam", "muon"),
        "features": ("radiograph", "imagenet"),
        "protocol": ("native", "seed"),
    }
    for key, allowed in choices.items():
        if key in checked and checked[key] not in allowed:
            raise RecipeError(f"{where}: {key} must be one of {', '.join(allowed)}, not {checked[key]!r}.")
    for key in ("stage", "name"):
        if key not in checked:
            raise RecipeError(f"{where}: {key} is missing.")
    recipe = Recipe(**checked)
    if recipe.iterations < 1 or recipe.batch < 1 or recipe.patch < 8:
        raise RecipeError(f"{where}: iterations and batch must be at least 1, patch at least 8.")
    return recipe
