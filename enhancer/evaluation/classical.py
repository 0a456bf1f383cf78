"""The classical answer to noise: non-local means on the source, then bicubic.

Buades, Coll and Morel 2005, "A non-local algorithm for image denoising", as scikit-image has it. Quantum
noise is stronger where more was absorbed; before the means are taken the grey values are therefore brought to
a scale on which the simulated noise is even (the square root of the simulated counts, after Anscombe 1948),
and brought back after. Strength and patch were chosen for each dose on training images:
`python -m enhancer.evaluation.classical` does it again.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from skimage.restoration import denoise_nl_means

from enhancer.data import Float32, list_images, read
from enhancer.evaluation.images import Original, Pair, make_pair, rng_of
from enhancer.noise import DOSES, TONE, simulate
from enhancer.resample import enlarged

NAME = "non-local means, bicubic"
DISTANCE = 7
"""How far like patches are looked for, source pixels."""
STRENGTHS = (0.0, 0.002, 0.003, 0.004, 0.005, 0.0065, 0.008, 0.01, 0.0125)
SIZES = (3, 5, 7)


@dataclass(frozen=True)
class Setting:
    """Of the means, on the evened scale from about 0.14 to 1; a strength of 0 leaves the source alone."""

    strength: float
    size: int


TUNED: dict[tuple[float, int], Setting] = {
    (0.5, 2): Setting(0.003, 7),
    (0.25, 2): Setting(0.005, 7),
    (0.1, 2): Setting(0.01, 7),
    (0.5, 4): Setting(0.002, 7),
    (0.25, 4): Setting(0.003, 5),
    (0.1, 4): Setting(0.005, 5),
}
"""By dose and scale, chosen on 24 training images."""


def classical(dose: float, scale: int) -> Callable[[Pair], npt.NDArray[np.floating]]:
    """The pipeline tuned for a dose and scale; for a dose in between, as for the nearest."""
    nearest = min((key for key in TUNED if key[1] == scale), key=lambda key: abs(key[0] - dose))
    return lambda made: enlarged(denoised(made.lr, TUNED[nearest]), made.scale)


def denoised(lr: Float32, setting: Setting) -> Float32:
    """float32 [H, W] in [0, 1] -> the same with less noise."""
    if setting.strength == 0:
        return lr
    evened = np.exp(-TONE / 2 * lr.astype(np.float64))
    means = denoise_nl_means(
        evened, patch_size=setting.size, patch_distance=DISTANCE, h=setting.strength, fast_mode=True
    )
    return (-2 / TONE * np.log(np.maximum(means, 1e-3))).astype(np.float32)


def tune(paths: Sequence[Path], dose: float, scale: int) -> tuple[Setting, dict[Setting, float]]:
    """The setting of highest mean PSNR against the clean truth, and that of all."""
    settings = [Setting(*each) for each in itertools.product(STRENGTHS, SIZES)]
    sums = dict.fromkeys(settings, 0.0)
    for path in paths:
        made = make_pair(Original(read(path)), "native", scale, noise=(simulate, dose, rng_of(path, dose)))
        for setting in settings:
            result = made.rounded(enlarged(denoised(made.lr, setting), scale))
            error = float(np.mean((result.astype(np.float64) - made.truth) ** 2))
            sums[setting] += -10 * np.log10(error) / len(paths)
    return max(settings, key=lambda setting: sums[setting]), sums


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m enhancer.evaluation.classical", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cxr"))
    parser.add_argument("--count", type=int, default=24)
    options = parser.parse_args(arguments)
    paths = list_images(options.data, "train", "nih_512")
    paths = paths[:: max(1, len(paths) // options.count)][: options.count]
    for scale, dose in itertools.product((2, 4), DOSES):
        best, sums = tune(paths, dose, scale)
        alone = sums[Setting(0.0, SIZES[0])]
        print(f"({dose}, {scale}): {best!r},  # {sums[best]:.2f} dB, bicubic alone {alone:.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
