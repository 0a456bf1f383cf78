from __future__ import annotations

import numpy as np
import pytest

from enhancer.consistency import consistency, window_rms
from enhancer.errors import ModelInputError
from enhancer.resample import enlarged, reduced


@pytest.fixture
def pair():
    """A result at four times the size, float32 [512, 640], and the source that it reduces to."""
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[0:512, 0:640].astype(np.float32)
    sr = 0.5 + 0.2 * np.sin(rows / 37) * np.cos(columns / 29) + 0.02 * rng.standard_normal((512, 640))
    sr += 0.1 * ((columns // 45) % 2 == 0)
    sr = sr.astype(np.float32)
    return sr, reduced(sr, 4)


def test_a_result_that_reduces_to_its_source_has_no_difference(pair):
    sr, lr = pair
    found = consistency(sr, lr, 4)
    assert found.maximum < 1e-6
    assert found.rms <= found.p999 <= found.maximum


def test_detail_finer_than_a_source_pixel_is_not_counted(pair):
    sr, lr = pair
    fine = sr + 0.1 * np.where(np.indices(sr.shape).sum(0) % 2, 1, -1).astype(np.float32)
    assert consistency(fine, lr, 4).maximum < 2e-3


def test_a_planted_nodule_is_caught_by_the_local_figures_alone(pair):
    sr, lr = pair
    rows, columns = np.mgrid[0:512, 0:640]
    radius = np.hypot(rows - 300, columns - 200) / 12
    nodule = 0.04 * np.clip(1 - radius**2, 0, None)
    found = consistency((sr + nodule).astype(np.float32), lr, 4)
    assert found.rms < 0.002, "a mean over the image hides it"
    assert found.maximum > 0.01
    assert found.p999 > 0.005


def test_a_shift_by_one_source_pixel_is_caught(pair):
    sr, lr = pair
    found = consistency(np.roll(sr, 4, axis=1), lr, 4)
    assert found.rms > 0.01
    assert found.maximum > 0.02


def test_a_blur_is_caught(pair):
    sr, lr = pair
    found = consistency(enlarged(reduced(sr, 8), 8), lr, 4)
    assert found.rms > 0.005
    assert found.p999 > 0.01


def test_it_is_in_units_of_the_input(pair):
    sr, lr = pair
    shifted = consistency(sr + np.float32(0.01), lr, 4)
    assert shifted.rms == pytest.approx(0.01, rel=1e-3)
    scaled = consistency((sr + np.float32(0.01)) * 4095, lr * 4095, 4)
    assert scaled.rms == pytest.approx(40.95, rel=1e-3)


def test_windows_reach_every_pixel_of_an_odd_image():
    for spot in [(0, 0), (20, 30), (20, 0), (11, 17)]:
        difference = np.zeros((21, 31))
        difference[spot] = 8.0
        assert window_rms(difference).max() == pytest.approx(1.0)
    assert window_rms(np.ones((3, 5))).shape == (1, 1)


def test_a_result_of_another_size_is_refused(pair):
    sr, lr = pair
    with pytest.raises(ModelInputError, match="not 2 times"):
        consistency(sr, lr, 2)
