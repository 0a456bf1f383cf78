from __future__ import annotations

import numpy as np
import pytest

from enhancer.evaluation.bootstrap import Bootstrap, around


def test_the_interval_of_a_mean_is_near_the_normal_one():
    rng = np.random.default_rng(7)
    values = rng.normal(10, 2, 200)
    low, high = Bootstrap([str(index) for index in range(200)]).mean(values)
    error = values.std(ddof=1) / np.sqrt(200)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.06)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.06)


def test_images_of_one_patient_count_together():
    """Four equal images of each of ten patients say no more than one image of each."""
    values = np.random.default_rng(8).normal(0, 1, 10)
    single = Bootstrap([str(index) for index in range(10)]).mean(values)
    fourfold = Bootstrap([str(index // 4) for index in range(40)]).mean(np.repeat(values, 4))
    assert np.ptp(fourfold) == pytest.approx(np.ptp(single), rel=0.15)
    apart = Bootstrap([str(index) for index in range(40)]).mean(np.repeat(values, 4))
    assert np.ptp(apart) < 0.7 * np.ptp(fourfold)


def test_a_share_of_equal_figures_is_exact_as_both_are_drawn_together():
    values = np.random.default_rng(9).uniform(1, 9, 12)
    drawn = Bootstrap([str(index) for index in range(12)])
    assert drawn.share(values / 2, values) == pytest.approx((0.5, 0.5))


def test_there_is_no_interval_of_one_patient_or_of_what_is_not_finite():
    assert Bootstrap(["a", "a"]).mean([1.0, 2.0]) is None
    assert Bootstrap(["a", "b"]).mean([1.0, float("inf")]) is None
    assert Bootstrap(["a", "b"]).share([1.0, 2.0], [0.0, 0.0]) is None
    assert around(1.0, [1.0]) is None
    low, high = around(5.0, [1.0, 3.0])
    assert (low + high) / 2 == pytest.approx(5.0)


def test_the_same_patients_give_the_same_draws():
    one, other = Bootstrap(["a", "b", "c"]), Bootstrap(["a", "b", "c"])
    assert np.array_equal(one.weights(5), other.weights(5))
    assert one.weights(5).sum(axis=1).tolist() == [3.0] * 5
