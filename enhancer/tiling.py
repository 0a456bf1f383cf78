"""Cutting an image into tiles: a plan of values, no pixels.

Each tile sees its neighbours' pixels as far as the network can (its halo). Where a halo would leave the
image it ends at the image's border, and the network's own padding begins there in every tiling, as it did
at the border of the patches that it was trained on. An output pixel therefore depends on the image alone,
not on where the cuts lie. (Continuing the image by reflection instead cost 0.25 to 0.8 dB over whole images
of 256x256, nearly all of it in the outermost four pixels.)
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """A part of an image [top:bottom, left:right], in source pixels."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def side(self) -> int:
        """The longer one."""
        return max(self.bottom - self.top, self.right - self.left)

    def cut(self, side: int) -> list[Tile]:
        """The same part in tiles of at most `side` pixels a side."""
        parts = plan(self.bottom - self.top, self.right - self.left, side)
        return [
            Tile(part.top + self.top, part.bottom + self.top, part.left + self.left, part.right + self.left)
            for part in parts
        ]


def plan(height: int, width: int, side: int) -> list[Tile]:
    """Tiles of at most `side` pixels a side, as equal as they can be, that cover the image exactly once."""
    rows, columns = _cuts(height, side), _cuts(width, side)
    return [
        Tile(top, bottom, left, right)
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(columns)
    ]


def with_halo(tile: Tile, halo: int, height: int, width: int) -> Tile:
    """The tile and up to `halo` pixels around it, as far as the image goes."""
    return Tile(
        max(tile.top - halo, 0),
        min(tile.bottom + halo, height),
        max(tile.left - halo, 0),
        min(tile.right + halo, width),
    )


def _cuts(length: int, side: int) -> list[int]:
    count = -(-length // side)
    return [length * index // count for index in range(count + 1)]
