from __future__ import annotations

import numpy as np
import pytest

from enhancer.evaluation.spectrum import BANDS, power


@pytest.mark.parametrize("cycles", [0.04, 0.1, 0.2, 0.4])
@pytest.mark.parametrize("direction", [0.0, 0.5])
def test_a_wave_lies_in_the_band_of_its_frequency(cycles, direction):
    rows, columns = np.mgrid[0:128, 0:128]
    along = columns * np.cos(direction) + rows * np.sin(direction)
    energies = power(0.5 + 0.1 * np.sin(2 * np.pi * cycles * along))
    band = next(i for i, (low, high) in enumerate(BANDS) if low <= cycles < high)
    assert energies[band] > 0.99 * energies.sum()


def test_half_the_amplitude_has_a_quarter_of_the_energy():
    rng = np.random.default_rng(3)
    noise = rng.standard_normal((64, 96))
    assert power(noise / 2) * 4 == pytest.approx(power(noise))


def test_white_noise_has_energy_in_proportion_to_the_area_of_a_band():
    rng = np.random.default_rng(4)
    energies = np.mean([power(rng.standard_normal((128, 128))) for _ in range(20)], axis=0)
    areas = np.array([high**2 - low**2 for low, high in BANDS])
    assert energies / energies[-1] == pytest.approx(areas / areas[-1], rel=0.1)
