"""What a training run leaves to look at: figures in a table, a plot, and pictures.

`curve.csv` has a line for each figure; `curve.png` draws them; `samples.png` shows crops of the images that
are looked at: bicubic, ours, the truth. Where `tensorboardX` is installed, the same goes to `tensorboard/`.
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from enhancer.data import Picture, UInt8, unit
from enhancer.networks.generator import Generator, enlarge
from enhancer.normalise import affine_of

CROP = 96
"""Side of a sample, pixels of the enlarged image."""
ROWS = 6
WIDTH, HEIGHT, EDGE = 420, 200, 28
"""Of one plot, pixels."""


class Record:
    """The record of one run, in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table = folder / "curve.csv"
        self._board: Any = None
        if importlib.util.find_spec("tensorboardX") is not None:
            self._board = importlib.import_module("tensorboardX").SummaryWriter(str(folder / "tensorboard"))

    def note(self, iteration: int, seconds: float, figures: Mapping[str, float]) -> None:
        """One line a figure, as names come and go; then the plot of all so far."""
        new = not self.table.exists()
        with self.table.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            if new:
                writer.writerow(["iteration", "minutes", "figure", "value"])
            for name, value in figures.items():
                writer.writerow([iteration, f"{seconds / 60:.2f}", name, f"{value:.6g}"])
        plot(self.table).save(self.folder / "curve.png")
        if self._board is not None:
            for name, value in figures.items():
                self._board.add_scalar(name.replace(" ", "_"), value, iteration)

    def show(self, iteration: int, generator: Generator, pictures: list[Picture], scale: int = 4) -> None:
        """Samples of some pictures."""
        grid = samples(generator, pictures[:: max(1, len(pictures) // ROWS)][:ROWS], scale)
        Image.fromarray(grid).save(self.folder / "samples.png")
        if self._board is not None:
            self._board.add_image("samples", grid[None], iteration)

    def close(self) -> None:
        """Writes what is not written yet."""
        if self._board is not None:
            self._board.close()


@torch.inference_mode()
def samples(generator: Generator, pictures: list[Picture], scale: int) -> UInt8:
    """Rows of bicubic, ours and the truth, from the middle of each picture, uint8 [rows, columns]."""
    device = next(generator.parameters()).device
    rows = []
    for picture in pictures:
        lr = unit(picture.lr[scale])
        affine = affine_of(lr)
        x = torch.from_numpy(affine.forward(lr))[None, None].to(device)
        enlarged = torch.cat([enlarge(x, scale), generator.enhance(x, scale)])[:, 0].cpu().numpy()
        images = list(enlarged * affine.gain + affine.offset)
        side = min(CROP, *picture.hr.shape)
        top, left = ((length - side) // 2 for length in picture.hr.shape)
        crops = [each[top : top + side, left : left + side] for each in (*images, unit(picture.hr))]
        rows.append(np.hstack([np.clip(np.rint(crop * 255), 0, 255).astype(np.uint8) for crop in crops]))
    return np.vstack(rows).repeat(2, axis=0).repeat(2, axis=1)


def plot(table: Path) -> Image.Image:
    """A small plot for each figure of a `curve.csv`, over iterations."""
    curves: dict[str, list[tuple[float, float]]] = {}
    with table.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            curves.setdefault(row["figure"], []).append((float(row["iteration"]), float(row["value"])))
    image = Image.new("L", (2 * WIDTH, HEIGHT * -(-len(curves) // 2)), 255)
    draw = ImageDraw.Draw(image)
    for index, (name, points) in enumerate(sorted(curves.items())):
        _curve(draw, (index % 2 * WIDTH, index // 2 * HEIGHT), name, points)
    return image


def _curve(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], name: str, points: list[tuple[float, float]]
) -> None:
    left, top = corner[0] + EDGE, corner[1] + EDGE
    right, bottom = corner[0] + WIDTH - EDGE, corner[1] + HEIGHT - EDGE
    low, high = min(value for _, value in points), max(value for _, value in points)
    last = max(points[-1][0], 1.0)
    span = (high - low) or 1.0
    places = [
        (left + (right - left) * iteration / last, bottom - (bottom - top) * (value - low) / span)
        for iteration, value in points
    ]
    draw.rectangle((left, top, right, bottom), outline=200)
    draw.line(places, fill=0, width=2)
    draw.text((left, corner[1] + 8), f"{name}: {points[-1][1]:.5g}", fill=0)
    draw.text((left, bottom + 6), f"{low:.4g} to {high:.4g}; {last:g} iterations", fill=96)
