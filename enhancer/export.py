"""Turns a checkpoint's averaged weights into a model file.

`python -m enhancer.export CHECKPOINT NAME VERSION`; with `--mix MODEL --share 0.1` a tenth of each weight
is of the model that training started from; the result lies between the two in what it invents (network
interpolation, Wang et al. 2018, "ESRGAN").
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from enhancer.checkpoint import load_checkpoint
from enhancer.domain import Domain
from enhancer.errors import EnhancerError
from enhancer.modelfile import DIGESTS, SHIPPED, read_model, write_digest, write_model
from enhancer.networks.generator import Generator
from enhancer.recipe import recipe_of


def export(
    checkpoint: Path,
    name: str,
    version: str,
    folder: Path = SHIPPED,
    *,
    mix: Path | None = None,
    share: float = 0.0,
) -> str:
    """Writes `folder/NAME.safetensors` and its line in the table of digests; returns the SHA-256.

    `share`, 0 to 1, of each weight comes from the model file `mix`.
    """
    saved = load_checkpoint(checkpoint, torch.device("cpu"))
    recipe = recipe_of(saved["recipe"], str(checkpoint))
    generator = Generator(recipe.channels, recipe.blocks)
    generator.load_state_dict(saved["stage"]["average"])
    if mix is not None:
        other = read_model(mix).generator.state_dict()
        own = generator.state_dict()
        generator.load_state_dict({key: torch.lerp(own[key], other[key], share) for key in own})
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
        mixed="" if mix is None else f"{share:g} of {read_model(mix).digest}",
        domain=Domain().as_json(),
    )
    return write_digest(folder / DIGESTS.name, name, path.read_bytes())


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m enhancer.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("name")
    parser.add_argument("version")
    parser.add_argument("--folder", type=Path, default=SHIPPED)
    parser.add_argument("--mix", type=Path, help="model file that a share of each weight comes from")
    parser.add_argument("--share", type=float, default=0.0, help="that share, 0 to 1")
    options = parser.parse_args(arguments)
    try:
        digest = export(
            options.checkpoint,
            options.name,
            options.version,
            options.folder,
            mix=options.mix,
            share=options.share,
        )
    except EnhancerError as error:
        print(error, file=sys.stderr)
        return 1
    print(digest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
