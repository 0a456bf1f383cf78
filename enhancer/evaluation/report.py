"""What an evaluation found: figures by data set and method with intervals, as a table, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from enhancer.evaluation.bootstrap import DRAWS, Interval
from enhancer.evaluation.measure import Measured
from enhancer.model import ModelInfo


@dataclass(frozen=True)
class Row:
    """Figures of one method over one data set (the folder that its images lie in)."""

    dataset: str
    method: str
    images: int
    patients: int
    figures: dict[str, float]
    """Means over images of `psnr` (dB), `ssim`, `ms_ssim`, `gmsd`, `l1`, `mse` (in [0, 1]), `perceptual`,
    `energy_LOW_HIGH` (dB against the truth) and `consistency` (RMS, grey levels of 255); over all windows of
    the data set `consistency_p999` (`consistency_p999_image`: the mean of each image's); over all patches
    `frechet`; beside bicubic `gain` (dB), `gmsd_share`, `perceptual_share`, `frechet_share`; with noise
    `over_classical` (dB), `removed_rms`, `removed_neighbours`, `removed_anatomy`. What could not be
    measured is not there."""
    intervals: dict[str, Interval] = field(default_factory=dict)
    """95 % by bootstrap over patients, where there are at least two."""


@dataclass(frozen=True)
class Report:
    """One evaluation. `missing` says in a sentence each what was not measured and why."""

    protocol: str
    scale: int
    side: int
    dose: float | None
    split: str
    models: tuple[ModelInfo, ...]
    rows: tuple[Row, ...]
    missing: tuple[str, ...] = ()

    def row(self, dataset: str, method: str) -> Row:
        """The figures of a data set by a method; KeyError when there are none."""
        for row in self.rows:
            if (row.dataset, row.method) == (dataset, method):
                return row
        raise KeyError((dataset, method))

    @property
    def datasets(self) -> list[str]:
        """In the order of the rows."""
        return list(dict.fromkeys(row.dataset for row in self.rows))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a figure that is not finite is null."""
        return {
            "protocol": self.protocol,
            "scale": self.scale,
            "side": self.side,
            "dose": self.dose,
            "split": self.split,
            "models": [
                {"name": info.name, "version": info.version, "digest": info.digest, "device": info.device}
                for info in self.models
            ],
            "bootstrap": {"draws": DRAWS, "level": 0.95, "over": "patients"},
            "missing": list(self.missing),
            "rows": [
                {
                    "dataset": row.dataset,
                    "method": row.method,
                    "images": row.images,
                    "patients": row.patients,
                    **{key: _finite(value) for key, value in row.figures.items()},
                    "intervals": {key: list(interval) for key, interval in row.intervals.items()},
                }
                for row in self.rows
            ],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Report:
        """What :meth:`to_dict` gave; a figure that was not finite is not there any more."""
        rows = []
        for row in values["rows"]:
            named = {"dataset", "method", "images", "patients", "intervals"}
            figures = {key: value for key, value in row.items() if key not in named and value is not None}
            intervals = {key: (low, high) for key, (low, high) in row["intervals"].items()}
            rows.append(
                Row(row["dataset"], row["method"], row["images"], row["patients"], figures, intervals)
            )
        models = tuple(
            ModelInfo(one["name"], one["version"], one["digest"], (values["scale"],), one["device"], None)
            for one in values["models"]
        )
        return cls(
            values["protocol"],
            values["scale"],
            values["side"],
            values["dose"],
            values["split"],
            models,
            tuple(rows),
            tuple(values["missing"]),
        )

    def as_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    def table(self) -> str:
        """A table for people."""
        noise = "" if self.dose is None else f", noise of {self.dose:.0%} dose"
        models = "; ".join(f"{info.name} {info.version} on {info.device}" for info in self.models)
        head = (
            f"protocol {self.protocol}, x{self.scale} to {self.side}x{self.side}, split {self.split}{noise}"
        )
        columns = [column for column in COLUMNS if any(column.name in row.figures for row in self.rows)]
        cells = [["data set", "method", "images", *(column.head for column in columns)]]
        cells += [
            [row.dataset, row.method, str(row.images), *(column.cell(row) for column in columns)]
            for row in self.rows
        ]
        widths = [max(len(line[index]) for line in cells) for index in range(len(cells[0]))]
        lines = [
            "  ".join(
                cell.ljust(width) if index < 2 else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in cells
        ]
        return "\n".join([head, models, *lines, *NOTES, *self.missing])


@dataclass(frozen=True)
class Column:
    """A figure in the table for people."""

    name: str
    head: str
    form: str
    with_interval: bool = False

    def cell(self, row: Row) -> str:
        """The figure, and how far its interval reaches to either side; empty where there is none."""
        if self.name not in row.figures:
            return ""
        text = format(row.figures[self.name], self.form)
        interval = row.intervals.get(self.name)
        if self.with_interval and interval is not None and interval[0] != interval[1]:
            text += f" ±{(interval[1] - interval[0]) / 2:{self.form.lstrip('+')}}"
        return text


COLUMNS = (
    Column("psnr", "PSNR dB", ".3f"),
    Column("gain", "gain", "+.2f", with_interval=True),
    Column("over_classical", "over classical", "+.2f", with_interval=True),
    Column("ssim", "SSIM", ".4f"),
    Column("ms_ssim", "MS-SSIM", ".4f"),
    Column("gmsd", "GMSD", ".4f"),
    Column("gmsd_share", "share", ".2f"),
    Column("l1", "L1", ".5f"),
    Column("mse", "MSE", ".6f"),
    Column("perceptual", "percept.", ".3f"),
    Column("perceptual_share", "share", ".2f", with_interval=True),
    Column("frechet", "Fréchet", ".1f"),
    Column("frechet_share", "share", ".2f", with_interval=True),
    Column("energy_0.125_0.25", "0.125-0.25", "+.1f"),
    Column("energy_0.25_0.5", "0.25-0.5 dB", "+.1f"),
    Column("consistency", "input RMS", ".3f"),
    Column("consistency_p999", "99.9 %", ".2f"),
)
NOTES = (
    "gain: PSNR over bicubic; share: of bicubic's; ±: half of the 95 % interval, bootstrap over patients",
    "0.125-0.25, 0.25-0.5: energy at these frequencies (cycles a pixel) against the truth, dB",
    "input RMS: the result reduced against the input, grey levels of 255; 99.9 %: of its windows of 8x8",
)


def as_csv(images: Sequence[Measured]) -> str:
    """A row an image: data set, file, patient (numbered, never named), and each method's figures."""
    numbers: dict[str, int] = {}
    for image in images:
        numbers.setdefault(image.patient, len(numbers) + 1)
    methods = list(images[0].figures) if images else []
    names = [(method, figure) for method in methods for figure in images[0].figures[method]]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["dataset", "file", "patient", *(f"{method}_{figure}" for method, figure in names)])
    for image in images:
        values = [f"{image.figures[method].get(figure, math.nan):.6g}" for method, figure in names]
        writer.writerow([image.dataset, image.path.name, numbers[image.patient], *values])
    return stream.getvalue()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
