"""Simulated low dose."""

from __future__ import annotations

import numpy as np
import pytest

from enhancer import noise


@pytest.fixture
def ramp():
    return np.tile(np.linspace(0.2, 0.8, 256, dtype=np.float32), (256, 1))


def test_full_dose_changes_nothing(ramp):
    assert np.array_equal(noise.simulate(ramp, 1.0, np.random.default_rng(0)), ramp)


def test_less_dose_is_more_noise_and_keeps_the_mean(ramp):
    left = [noise.simulate(ramp, dose, np.random.default_rng(0)) - ramp for dose in noise.DOSES]
    spreads = [float(each[:, :128].std()) for each in left]
    assert spreads[0] < spreads[1] < spreads[2]
    # the logarithm of few quanta is a little above the truth on average
    assert all(
        abs(float(each[:, :128].mean())) < 0.1 * spread for each, spread in zip(left, spreads, strict=True)
    )


def test_the_noise_is_that_of_the_missing_quanta():
    flat = np.full((512, 512), 0.4, np.float32)
    quanta = noise.QUANTA * np.exp(-noise.TONE * 0.4)
    got = noise.simulate(flat, 0.25, np.random.default_rng(1))
    coarse = got.reshape(64, 8, 64, 8).mean(axis=(1, 3))  # the detector's blur has no part in so large pixels
    expected = np.sqrt(0.75 / (0.25 * quanta * 64)) / noise.TONE
    assert float(coarse.std()) == pytest.approx(expected, rel=0.1)


def test_attenuated_places_are_noisier(ramp):
    got = noise.simulate(ramp, 0.25, np.random.default_rng(0)) - ramp
    assert float(got[:, 200:].std()) > 1.5 * float(got[:, :56].std())


def test_neighbouring_pixels_share_quantum_noise():
    flat = np.full((256, 256), 0.2, np.float32)
    got = noise.simulate(flat, 0.5, np.random.default_rng(0)) - flat
    assert 0.1 < np.corrcoef(got[:, 1:].ravel(), got[:, :-1].ravel())[0, 1] < 0.9


@pytest.mark.parametrize("dose", [0, -1, 1.5])
def test_a_dose_that_is_no_share_is_refused(ramp, dose):
    with pytest.raises(ValueError, match="dose must be"):
        noise.simulate(ramp, dose, np.random.default_rng(0))
