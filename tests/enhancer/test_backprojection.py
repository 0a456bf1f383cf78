from __future__ import annotations

import numpy as np
import pytest

import enhancer
from enhancer.backprojection import limits_of, projected
from enhancer.resample import enlarged, reduced


@pytest.fixture(scope="module")
def clipped():
    """A source whose darkest quarter and brightest spot were clipped."""
    rng = np.random.default_rng(5)
    smooth = enlarged(rng.random((8, 8), dtype=np.float32), 4)
    return np.clip(smooth, np.float32(0.35), np.float32(0.8))


def test_only_values_that_many_pixels_share_are_limits(clipped):
    assert limits_of(clipped) == (np.float32(0.35), np.float32(0.8))
    rng = np.random.default_rng(6)
    assert limits_of(rng.random((32, 32), dtype=np.float32)) == (None, None)
    assert limits_of(np.full((32, 32), 0.5, np.float32)) == (None, None)


@pytest.mark.parametrize("scale", [2, 4])
def test_a_clipped_source_comes_back_from_a_result_that_stays_within_its_limits(clipped, scale):
    wrong = enlarged(clipped, scale) + np.float32(0.02)
    wrong[10:14, 10:14] += 0.3
    result = projected(wrong, clipped, scale)
    assert result.min() >= np.float32(0.35)
    assert result.max() <= np.float32(0.8)
    once = np.clip(wrong + enlarged(clipped - reduced(wrong, scale), scale), 0.35, 0.8)
    ours, plain = (np.abs(reduced(each, scale) - clipped).max() for each in (result, once))
    assert ours < plain / 3


def test_limits_follow_an_affine_map_of_the_source(clipped):
    model = enhancer.load("srresnet", "cpu", precision="float32")
    plain = model.enhance(clipped, 4)
    for gain, offset in ((0.5, 0.2), (-1.0, 1.0)):
        mapped = model.enhance(np.float32(gain) * clipped + np.float32(offset), 4)
        assert np.abs(mapped - (gain * plain + offset)).max() < 1e-3
