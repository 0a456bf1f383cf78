"""Cutting an image into tiles: a plan of values, no pixels.

Each tile sees its neighbours' pixels as far as the network can (its halo), and the image continued by
reflection beyond the border. An output pixel therefore depends on the image alone, not on where the cuts
lie.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Tile:
    """A part of an image [top:bottom, left:right], in source pixels."""

    top: int
    bottom: int
    left: int
    right: int


def plan(height: int, width: int, side: int) -> list[Tile]:
    """Tiles of at most `side` pixels a side, as equal as they can be, that cover the image exactly once."""
    rows, columns = _cuts(height, side), _cuts(width, side)
    return [
        Tile(top, bottom, left, right)
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)
    ]


def with_halo(
    tile: Tile, halo: int, height: int, width: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Row and column indices of the tile and `halo` pixels around it, reflected at the image's border."""
    return (
        reflected(tile.top - halo, tile.bottom + halo, height),
        reflected(tile.left - halo, tile.right + halo, width),
    )


def reflected(start: int, stop: int, length: int) -> npt.NDArray[np.intp]:
    """Indices start..stop-1 folded into 0..length-1 about the first and last pixel, as often as needed."""
    if length == 1:
        return np.zeros(stop - start, dtype=np.intp)
    period = 2 * (length - 1)
    folded = np.arange(start, stop, dtype=np.intp) % period
    return np.where(folded < length, folded, period - folded)


def _cuts(length: int, side: int) -> list[int]:
    count = -(-length // side)
    return [length * index // count for index in range(count + 1)]
