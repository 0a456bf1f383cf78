from __future__ import annotations

import numpy as np
import pytest

from enhancer.tiling import plan, reflected, with_halo


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


def test_reflection_is_that_of_numpy():
    line = np.arange(5)
    assert list(line[reflected(-3, 8, 5)]) == list(np.pad(line, 3, mode="reflect"))
    assert list(line[reflected(-11, 16, 5)]) == list(np.pad(line, 11, mode="reflect"))
    assert set(reflected(-4, 4, 1)) == {0}


def test_a_halo_takes_the_neighbours_pixels_inside_the_image():
    tile = plan(100, 100, 50)[3]
    rows, columns = with_halo(tile, 10, 100, 100)
    assert rows[0] == columns[0] == 40
    assert len(rows) == 70
    assert rows[-1] == 100 - 11
