"""A picture to look at: `python -m enhancer.sheet OUT.png --models srresnet srgan --data FOLDER`.

A row an image: bicubic, each model, the truth; crops of the `native` protocol's result, every pixel shown
as a block so that nothing is smoothed by the viewer.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from enhancer.data import images_below, read, unit
from enhancer.errors import EnhancerError
from enhancer.evaluation.images import pair
from enhancer.model import Model, load
from enhancer.resample import enlarged

CROP = 128
BLOCK = 3


def sheet(paths: Sequence[Path], models: Sequence[Model], *, scale: int = 4) -> npt.NDArray[np.uint8]:
    """Rows of crops from the middle of each image, uint8 [rows, columns]."""
    rows = []
    for path in paths:
        lr, truth = pair(read(path), "native", scale)
        source = unit(lr)
        images = [enlarged(source, scale), *(model.enhance(source, scale) for model in models), unit(truth)]
        top, left = (truth.shape[0] - CROP) // 2, truth.shape[1] // 8
        crops = [image[top : top + CROP, left : left + CROP] for image in images]
        rows.append(np.hstack([np.clip(np.rint(crop * 255), 0, 255).astype(np.uint8) for crop in crops]))
    return np.vstack(rows).repeat(BLOCK, axis=0).repeat(BLOCK, axis=1)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m enhancer.sheet", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cxr/val"))
    parser.add_argument("--models", nargs="+", default=["srresnet", "srgan"])
    parser.add_argument("--count", type=int, default=6)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args(arguments)
    try:
        paths = images_below(options.data)
        chosen = paths[:: max(1, len(paths) // options.count)][: options.count]
        pixels = sheet(chosen, [load(name, options.device) for name in options.models])
        Image.fromarray(pixels).save(options.out)
    except (EnhancerError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
