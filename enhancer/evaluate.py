"""Image quality against the reductions of a folder's own images, beside bicubic and Lanczos.

The protocols are told in :mod:`enhancer.evaluation.images`. Every method's result is rounded to the grey
levels of its image and compared in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from enhancer.data import NATIVE_SIDE, SUFFIXES, half_of, images_below, list_patients
from enhancer.errors import DataError
from enhancer.evaluation.classical import NAME as CLASSICAL
from enhancer.evaluation.classical import classical
from enhancer.evaluation.images import PROTOCOLS, Pair, Reader, Simulate, make_pair, read_picture, rng_of
from enhancer.evaluation.judge import Judge, weights_file
from enhancer.evaluation.measure import Measured, Measurer, Method
from enhancer.evaluation.report import Report, Row
from enhancer.evaluation.summary import summarise
from enhancer.evaluation.worst import Worst
from enhancer.metrics import ms_ssim
from enhancer.model import Model, load
from enhancer.networks.generator import SCALES

__all__ = ["SPLITS", "Evaluation", "Report", "Row", "evaluate", "measure"]

SPLITS = ("all", "val", "dev", "report")
"""Every image of the folder; the validation images of its SOURCES.csv; one half of their patients."""


@dataclass(frozen=True)
class Evaluation:
    """The figures of every image, from which reports are made."""

    protocol: str
    scale: int
    side: int
    dose: float | None
    split: str
    models: tuple[Model, ...]
    images: tuple[Measured, ...]
    worst: Worst
    missing: tuple[str, ...]

    def report(self, split: str | None = None) -> Report:
        """Of all images, or of those of one half (`dev` or `report`). DataError where there is none."""
        images = [image for image in self.images if split in (None, self.split) or image.half == split]
        if not images:
            raise DataError(f"There is no image of the split {split} among those measured.")
        infos = tuple(model.info for model in self.models)
        rows = tuple(summarise(images))
        shown = split or self.split
        return Report(self.protocol, self.scale, self.side, self.dose, shown, infos, rows, self.missing)


def evaluate(
    data: Path,
    *,
    protocol: str = "native",
    model_name: str = "srgan",
    scale: int = 4,
    limit: int | None = None,
    device: str = "auto",
    split: str = "all",
    model: Model | None = None,
    quiet: bool = False,
) -> Report:
    """Evaluates a model on every image below `data` (the first `limit` of each data set).

    `split` other than `all` needs a `SOURCES.csv` in `data` or above it. `model` is used in place of
    `model_name` when given. Raises EnhancerError with a sentence for the user.
    """
    models = [model or load(model_name, device)]
    return measure(
        data, models, protocol=protocol, scale=scale, limit=limit, split=split, quiet=quiet
    ).report()


def measure(
    data: Path,
    models: Sequence[Model],
    *,
    protocol: str = "native",
    scale: int = 4,
    side: int = NATIVE_SIDE,
    split: str = "all",
    limit: int | None = None,
    datasets: Sequence[str] = (),
    noise: tuple[Simulate, float] | None = None,
    judge: Judge | bool = True,
    reader: Reader = read_picture,
    suffixes: Set[str] = SUFFIXES,
    others: Mapping[str, Method] | None = None,
    keep: Callable[[Path], bool] | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Measures every image below `data` by bicubic, Lanczos and each model.

    side: of the truth; images whose shorter side is smaller are left out and counted in `missing`. noise: a
    simulation and its dose, which go onto the truth before it is reduced. judge: True takes the judging
    network if it is installed. reader, suffixes: how a file becomes an image, and which files are tried.
    others: further methods by name. datasets: only those of these names. keep: which files. Raises
    DataError, ModelInputError.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"The protocol is one of {', '.join(PROTOCOLS)}, not {protocol!r}.")
    if scale not in SCALES or side % scale:
        raise DataError(f"A scale of {scale} and a side of {side} pixels do not fit one another.")
    missing: list[str] = []
    if judge is True and weights_file() is None:
        missing.append("perceptual and Fréchet distance: not measured, pip install 'cxr-sr[judge]'")
        judge = False
    seeing = Judge() if judge is True else judge or None
    if ms_ssim() is None:
        missing.append("MS-SSIM: not measured, pip install 'cxr-sr[judge]'")
    methods: dict[str, Method] = {"bicubic": bicubic, "lanczos": lanczos}
    methods |= {model.info.name: _of_model(model) for model in models} | dict(others or {})
    if noise is not None:
        methods[CLASSICAL] = classical(noise[1], scale)
    measurer = Measurer(methods, judge=seeing)
    wanted = _wanted(data, split, limit, suffixes, datasets, keep or (lambda _: True))
    worst = Worst()
    first = models[0].info.name if models else "lanczos"
    images: list[Measured] = []
    small = 0
    with tqdm(total=sum(map(len, wanted.values())), unit="image", disable=quiet or None, ncols=80) as bar:
        for dataset, files in wanted.items():
            for path, (patient, half) in files.items():
                original = reader(path)
                bar.update()
                if min(original.values.shape) < side and protocol == "native":
                    small += 1
                    continue
                chance = None if noise is None else (*noise, rng_of(path, noise[1]))
                made = make_pair(original, protocol, scale, side=side, noise=chance)
                results = measurer.results(made)
                patient = patient or original.patient or str(path)
                found = measurer.measure(dataset, path, patient, half, made, results)
                images.append(found)
                gain = found.figures[first]["gain"]
                worst.see(f"{dataset}/{path.name}", gain, made.lr, results[first], made.truth)
    if small:
        missing.append(f"{small} images are smaller than {side}x{side} pixels and were left out")
    if not images:
        raise DataError(f"{data} holds no image of at least {side}x{side} pixels.")
    dose = None if noise is None else noise[1]
    return Evaluation(protocol, scale, side, dose, split, tuple(models), tuple(images), worst, tuple(missing))


def bicubic(made: Pair) -> npt.NDArray[np.floating]:
    """Pillow's, of the input; an image of 8 bits stays one, as Pillow would have it."""
    return _enlarged(made, Image.Resampling.BICUBIC)


def lanczos(made: Pair) -> npt.NDArray[np.floating]:
    """Pillow's, of three lobes."""
    return _enlarged(made, Image.Resampling.LANCZOS)


def _enlarged(made: Pair, how: Image.Resampling) -> npt.NDArray[np.floating]:
    lr = np.rint(made.lr * 255).astype(np.uint8) if made.levels == 255 else made.lr
    large = np.asarray(Image.fromarray(lr).resize((lr.shape[1] * made.scale, lr.shape[0] * made.scale), how))
    return large / np.float64(255) if made.levels == 255 else large


def _of_model(model: Model) -> Method:
    return lambda made: model.enhance(made.lr, made.scale)


Files = dict[Path, tuple[str | None, str | None]]


def _wanted(
    data: Path,
    split: str,
    limit: int | None,
    suffixes: Set[str],
    datasets: Sequence[str],
    keep: Callable[[Path], bool],
) -> dict[str, Files]:
    """By data set: the files with their patient and the half it belongs to, where a table tells them."""
    if split not in SPLITS:
        raise DataError(f"The split is one of {', '.join(SPLITS)}, not {split!r}.")
    try:
        patients = list_patients(data)
    except DataError:
        if split != "all":
            raise
        patients = {}
    found: dict[str, Files] = {}
    for path in images_below(data, suffixes):
        patient = patients.get(path.resolve())
        half = None if patient is None else half_of(patient)
        if (split == "val" and patient is None) or (split in ("dev", "report") and half != split):
            continue
        name = path.parent.name
        if (datasets and name not in datasets) or not keep(path):
            continue
        files = found.setdefault(name, {})
        if limit is None or len(files) < limit:
            files[path] = (patient, half)
    if not any(found.values()):
        raise DataError(f"{data} holds no image to evaluate (split: {split}).")
    return found
