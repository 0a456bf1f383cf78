from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from enhancer.evaluation.frechet import Gaussian, distance


def test_distance_of_normal_distributions_on_axes_is_known():
    one = Gaussian(np.array([0.0, 1.0]), np.diag([4.0, 9.0]))
    other = Gaussian(np.array([3.0, 1.0]), np.diag([1.0, 16.0]))
    assert distance(one, other) == pytest.approx(9 + (2 - 1) ** 2 + (3 - 4) ** 2)
    assert distance(one, one) == pytest.approx(0, abs=1e-9)


def test_it_agrees_with_the_matrix_square_root():
    rng = np.random.default_rng(5)
    sets = [rng.standard_normal((400, 12)) @ rng.standard_normal((12, 12)) + rng.random(12) for _ in range(2)]
    one, other = (Gaussian.of(each) for each in sets)
    assert one.covariance == pytest.approx(np.cov(sets[0].T))
    cross = np.trace(sqrtm(one.covariance @ other.covariance).real)
    mean = np.sum((sets[0].mean(0) - sets[1].mean(0)) ** 2)
    expected = mean + np.trace(one.covariance) + np.trace(other.covariance) - 2 * cross
    assert distance(one, other) == pytest.approx(expected)
    assert distance(other, one) == pytest.approx(expected)


def test_a_weight_of_two_is_the_vector_twice():
    rng = np.random.default_rng(6)
    vectors = rng.standard_normal((20, 3))
    weights = rng.integers(0, 3, 20).astype(float)
    repeated = Gaussian.of(np.repeat(vectors, weights.astype(int), axis=0))
    weighted = Gaussian.of(vectors, weights)
    assert weighted.mean == pytest.approx(repeated.mean)
    assert weighted.covariance == pytest.approx(repeated.covariance)
