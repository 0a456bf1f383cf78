"""Turns a checkpoint's averaged weights into a model file.

`python -m enhancer.export CHECKPOINT NAME VERSION`
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from enhancer.checkpoint import load_checkpoint
from enhancer.domain import Domain
from enhancer.errors import EnhancerError
from enhancer.modelfile import DIGESTS, SHIPPED, write_digest, write_model
from enhancer.networks.generator import Generator
from enhancer.recipe import recipe_of


def export(checkpoint: Path, name: str, version: str, folder: Path = SHIPPED) -> str:
    """Writes `folder/NAME.safetensors` and its line in the table of digests; returns the SHA-256."""
    saved = load_checkpoint(checkpoint, torch.device("cpu"))
    recipe = recipe_of(saved["recipe"], str(checkpoint))
    generator = Generator(recipe.channels, recipe.blocks)
    generator.load_state_dict(saved["stage"]["average"])
    path = folder / f"{name}.safetensors"
    write_model(
        path,
        generator,
        name=name,
        version=version,
        channels=recipe.channels,
        blocks=recipe.blocks,
        recipe=recipe.digest(),
        revision=str(saved["revision"]),
        iterations=str(saved["iteration"]),
        minutes=f"{saved['seconds'] / 60:.1f}",
        stage=recipe.stage,
        domain=Domain().as_json(),
    )
    return write_digest(folder / DIGESTS.name, name, path.read_bytes())


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m enhancer.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("name")
    parser.add_argument("version")
    parser.add_argument("--folder", type=Path, default=SHIPPED)
    options = parser.parse_args(arguments)
    try:
        digest = export(options.checkpoint, options.name, options.version, options.folder)
    except EnhancerError as error:
        print(error, file=sys.stderr)
        return 1
    print(digest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
