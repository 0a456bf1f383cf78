"""Fits the error bound of a shipped model on the `dev` patients and keeps it in the model file.

`python -m enhancer.fitbound NAME --data FOLDER`, then `--check` to measure it on the `report` patients: it
ships only if it holds for 87 to 93 % of the pixels there and orders them with a rank correlation of 0.5.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
from scipy import stats
from tqdm import tqdm

from enhancer import bound
from enhancer.data import Split, list_images
from enhancer.errors import EnhancerError, ModelFileError
from enhancer.evaluation.images import Original, make_pair, read_picture
from enhancer.model import Model, load
from enhancer.modelfile import DIGESTS, SHIPPED, read_model, write_digest

DATASETS = ("nih_512", "nih_1024", "kermany_512")


@dataclass(frozen=True)
class Held:
    """How a bound does on images that it was not fitted on."""

    scale: int
    images: int
    coverage: float
    """Share of all pixels whose error is within the bound."""
    correlation: float
    """Mean over images of the rank correlation (Spearman) of bound and error."""

    @property
    def ships(self) -> bool:
        """Whether it is good enough to be told to users."""
        return 0.87 <= self.coverage <= 0.93 and self.correlation >= 0.5


def cases(
    model: Model, data: Path, split: Split, scale: int
) -> Iterator[tuple[bound.Float32, bound.Float32, bound.Float32]]:
    """(lr, sr, truth) of each image of a split, by the native protocol."""
    paths = [path for name in DATASETS for path in list_images(data, split, name)]
    for path in tqdm(paths, desc=f"{split} x{scale}", unit="image", disable=None, leave=False):
        original: Original = read_picture(path)
        pair = make_pair(original, "native", scale)
        yield pair.lr, model.enhance(pair.lr, scale), pair.truth


def fit(name: str, data: Path, folder: Path = SHIPPED) -> str:
    """Fits both scales and writes the file again with its bounds; returns its new SHA-256."""
    path = folder / f"{name}.safetensors"
    file = read_model(path)
    model = load(path)
    bounds = {str(scale): bound.fit(cases(model, data, "dev", scale), scale) for scale in file.scales}
    said = json.dumps({scale: found.as_json() for scale, found in bounds.items()})
    content = safetensors.torch.save(
        safetensors.torch.load(path.read_bytes()), {**file.metadata, "bounds": said}
    )
    path.write_bytes(content)
    return write_digest(folder / DIGESTS.name, name, content)


def check(name: str, data: Path, scale: int, split: Split = "report") -> Held:
    """Measures a model's bound. ModelFileError for one that has none."""
    model = load(name)
    found = model.bounds.get(scale)
    if found is None:
        raise ModelFileError(f"The model {name} has no error bound for x{scale}.")
    inside: list[float] = []
    ranks: list[float] = []
    for lr, sr, truth in cases(model, data, split, scale):
        error = np.abs(sr - truth)
        limit = found.of(lr, sr, scale)
        inside.append(float(np.mean(error <= limit)))
        ranks.append(float(stats.spearmanr(limit.ravel(), error.ravel()).statistic))
    return Held(scale, len(inside), float(np.mean(inside)), float(np.mean(ranks)))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m enhancer.fitbound", description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cxr"))
    parser.add_argument("--check", action="store_true", help="measure on `report` instead of fitting")
    options = parser.parse_args(arguments)
    try:
        if options.check:
            for scale in load(options.name).info.scales:
                held = check(options.name, options.data, scale)
                verdict = "" if held.ships else ": not to be shipped"
                print(
                    f"x{scale}: {100 * held.coverage:.1f} % of the pixels of {held.images} images within the"
                    f" bound, rank correlation {held.correlation:.2f}{verdict}"
                )
        else:
            print(fit(options.name, options.data))
    except EnhancerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
