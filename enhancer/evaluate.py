"""Image quality against the reductions of a folder's own images, beside bicubic and Lanczos.

Two protocols, kept apart by name:

- `native`: the truth is the image reduced to 256x256, the input that reduced by the scale. The honest one.
- `seed`: the image is reduced to 256 / scale and enlarged again to 256x256; that soft image is the truth,
the input
  is that reduced again. Its figures are high for any method and say little.

Pillow's bicubic does every reduction, on 8 bits. Every method's result is rounded to 8 bits and compared in
[0, 1].
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from enhancer.consistency import consistency
from enhancer.data import NATIVE_SIDE, half_of, images_below, list_patients, read, reduced, resize, unit
from enhancer.errors import DataError
from enhancer.metrics import METRICS
from enhancer.model import Model, load

UInt8 = npt.NDArray[np.uint8]
PROTOCOLS = ("native", "seed")


@dataclass(frozen=True)
class Row:
    """Mean figures of one method over one data set (the folder that its images lie in)."""

    dataset: str
    method: str
    images: int
    figures: dict[str, float]
    """`psnr` in dB, `ssim`, `l1`, `mse` in [0, 1], and `consistency` in grey levels of 255 (RMS)."""


@dataclass(frozen=True)
class Report:
    """What an evaluation found."""

    protocol: str
    scale: int
    model: str
    version: str
    digest: str
    device: str
    patients: str
    rows: tuple[Row, ...]

    def row(self, dataset: str, method: str) -> Row:
        """The figures of a data set by a method; KeyError when there are none."""
        for row in self.rows:
            if (row.dataset, row.method) == (dataset, method):
                return row
        raise KeyError((dataset, method))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "protocol": self.protocol,
            "scale": self.scale,
            "model": {"name": self.model, "version": self.version, "digest": self.digest},
            "device": self.device,
            "patients": self.patients,
            "rows": [
                {"dataset": row.dataset, "method": row.method, "images": row.images, **row.figures}
                for row in self.rows
            ],
        }

    def as_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    def table(self) -> str:
        """A table for people."""
        columns = f"{'data set':<14}{'method':<12}{'images':>7}{'PSNR dB':>10}{'gain':>8}{'SSIM':>9}"
        lines = [
            f"protocol {self.protocol}, x{self.scale}, patients: {self.patients}",
            f"model {self.model} {self.version} on {self.device}",
            columns + f"{'L1':>10}{'MSE':>11}{'input RMS':>11}",
        ]
        for row in self.rows:
            figures = row.figures
            gain = figures["psnr"] - self.row(row.dataset, "bicubic").figures["psnr"]
            lines.append(
                f"{row.dataset:<14}{row.method:<12}{row.images:>7}{figures['psnr']:>10.3f}{gain:>+8.3f}"
                f"{figures['ssim']:>9.4f}{figures['l1']:>10.5f}{figures['mse']:>11.6f}"
                f"{figures['consistency']:>11.3f}"
            )
        lines.append(
            "gain: PSNR over bicubic; input RMS: the result reduced against the input, grey levels of 255"
        )
        return "\n".join(lines)


def pair(image: UInt8, protocol: str, scale: int) -> tuple[UInt8, UInt8]:
    """The input uint8 [256/scale, 256/scale] and the truth uint8 [256, 256] of an image of any size."""
    if protocol == "seed":
        small = resize(image, NATIVE_SIDE // scale, NATIVE_SIDE // scale)
        truth = resize(small, NATIVE_SIDE, NATIVE_SIDE)
    else:
        truth = resize(image, NATIVE_SIDE, NATIVE_SIDE)
    return reduced(truth, scale), truth


def evaluate(
    data: Path,
    *,
    protocol: str = "native",
    model_name: str = "srgan",
    scale: int = 4,
    limit: int | None = None,
    device: str = "auto",
    patients: Literal["all", "dev", "report"] = "all",
    model: Model | None = None,
    quiet: bool = False,
) -> Report:
    """Evaluates a model on every image below `data` (the first `limit` of each data set).

    `patients` takes the validation patients of one half; it needs a `SOURCES.csv` in `data` or above it.
    `model` is used in place of `model_name` when given. Raises EnhancerError with a sentence for the user.
    """
    if protocol not in PROTOCOLS:
        raise DataError(f"The protocol is one of {', '.join(PROTOCOLS)}, not {protocol!r}.")
    model = model or load(model_name, device)
    datasets = _datasets(data, patients, limit)
    methods: dict[str, Callable[[UInt8], UInt8]] = {
        "bicubic": lambda lr: _enlarge(lr, scale, Image.Resampling.BICUBIC),
        "lanczos": lambda lr: _enlarge(lr, scale, Image.Resampling.LANCZOS),
        model.info.name: lambda lr: _as_bytes(model.enhance(unit(lr), scale)),
    }
    rows = []
    total = sum(len(paths) for paths in datasets.values())
    with tqdm(total=total, unit="image", disable=True if quiet else None, ncols=80) as bar:
        for dataset, paths in datasets.items():
            figures: dict[str, list[dict[str, float]]] = {method: [] for method in methods}
            for path in paths:
                lr, truth = pair(read(path), protocol, scale)
                for method, enlarge in methods.items():
                    figures[method].append(_figures(enlarge(lr), truth, lr, scale))
                bar.update()
            rows += [
                Row(
                    dataset,
                    method,
                    len(paths),
                    {key: float(np.mean([one[key] for one in each])) for key in each[0]},
                )
                for method, each in figures.items()
            ]
    info = model.info
    return Report(protocol, scale, info.name, info.version, info.digest, info.device, patients, tuple(rows))


def _figures(sr: UInt8, truth: UInt8, lr: UInt8, scale: int) -> dict[str, float]:
    a, b = sr.astype(np.float64) / 255, truth.astype(np.float64) / 255
    figures = {name: metric(a, b) for name, metric in METRICS.items()}
    figures["consistency"] = consistency(sr.astype(np.float32), lr.astype(np.float32), scale).rms
    return figures


def _datasets(data: Path, patients: str, limit: int | None) -> dict[str, list[Path]]:
    wanted: set[Path] | None = None
    if patients != "all":
        wanted = {path for path, patient in list_patients(data).items() if half_of(patient) == patients}
    datasets: dict[str, list[Path]] = {}
    for path in images_below(data):
        if wanted is not None and path.resolve() not in wanted:
            continue
        paths = datasets.setdefault(path.parent.name, [])
        if limit is None or len(paths) < limit:
            paths.append(path)
    if not any(datasets.values()):
        raise DataError(f"{data} holds no image to evaluate (patients: {patients}).")
    return datasets


def _enlarge(lr: UInt8, scale: int, how: Image.Resampling) -> UInt8:
    size = (lr.shape[1] * scale, lr.shape[0] * scale)
    return np.asarray(Image.fromarray(lr).resize(size, how))


def _as_bytes(image: npt.NDArray[np.float32]) -> UInt8:
    return np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
