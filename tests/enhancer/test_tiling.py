from __future__ import annotations

import numpy as np
import pytest

from enhancer.tiling import Tile, plan, with_halo


@pytest.mark.parametrize(
    ("height", "width", "side"), [(1, 1, 8), (64, 64, 64), (65, 200, 64), (1955, 1841, 192)]
)
def test_tiles_cover_the_image_exactly_once_and_stay_within_their_size(height, width, side):
    seen = np.zeros((height, width), int)
    for tile in plan(height, width, side):
        assert 0 < tile.bottom - tile.top <= side
        assert 0 < tile.right - tile.left <= side
        seen[tile.top : tile.bottom, tile.left : tile.right] += 1
    assert (seen == 1).all()


def test_a_halo_takes_the_neighbours_pixels_and_ends_with_the_image():
    first, *_, last = plan(100, 90, 50)
    assert with_halo(first, 10, 100, 90) == Tile(0, 60, 0, 55)
    assert with_halo(last, 10, 100, 90) == Tile(40, 100, 35, 90)
    assert with_halo(last, 500, 100, 90) == Tile(0, 100, 0, 90)
