"""Known answers: bicubic, an oracle that knows the truth, and enlargers that invent or blur."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from enhancer.qa import field, objects
from enhancer.qa.edge import sharpness
from enhancer.qa.field import noise
from enhancer.qa.patterns import discs, resolved
from enhancer.qa.planted import compare, false_structure, marks, matched, survival
from enhancer.resample import enlarged


def oracle(made):
    return made.truth


def bicubic(made):
    return enlarged(made.lr, made.scale)


def inventor(made):
    """Puts a nodule of three grey levels into the same place of every image."""
    return bicubic(made) + 3 / 255 * objects.nodule(100, 100, 6)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(13)
    smooth = ndimage.gaussian_filter(rng.standard_normal((2, 256, 256)), (0, 12, 12)) * 4
    return [np.clip(0.5 + each, 0.2, 0.8).astype(np.float32) for each in smooth]


def _keys(cycles):
    """The Fourier transform of Keys' kernel (a = -0.5), cycles a source pixel."""
    x = np.linspace(-2, 2, 4001)
    r = np.abs(x)
    kernel = np.where(r <= 1, 1.5 * r**3 - 2.5 * r**2 + 1, -0.5 * r**3 + 2.5 * r**2 - 4 * r + 2)
    return np.array([(kernel * np.cos(2 * np.pi * f * x)).sum() * (x[1] - x[0]) for f in cycles])


@pytest.mark.parametrize("scale", [2, 4])
def test_bicubic_has_the_transfer_of_its_kernel_twice(scale):
    """Once where the antialiased reduction weighs with it, once where the enlargement does."""
    found = sharpness(bicubic, scale)
    frequencies = np.array(found.frequencies)
    within = (frequencies > 0.01) & (frequencies < 0.45 / scale)
    expected = _keys(frequencies[within] * scale) ** 2
    assert np.array(found.transfer)[within] == pytest.approx(expected, abs=0.04)
    assert 0.3 / scale < found.half < 0.5 / scale < found.tenth
    assert abs(found.shift) < 0.05
    assert 0.02 < found.overshoot < 0.2


def test_an_oracle_transfers_everything():
    found = sharpness(oracle, 4)
    assert np.array(found.transfer) == pytest.approx(1)
    assert found.half == found.tenth == pytest.approx(0.5, abs=0.01)
    assert found.overshoot == pytest.approx(0, abs=1e-6)
    assert found.shift == 0


def test_a_moved_edge_and_a_blurred_one_are_caught():
    moved = sharpness(lambda made: np.roll(made.truth, 1, axis=1), 4)
    assert moved.shift == pytest.approx(1, abs=0.1)
    blurred = sharpness(lambda made: ndimage.gaussian_filter(made.truth, 2), 4)
    assert blurred.half == pytest.approx(np.sqrt(np.log(2) / 2) / np.pi / 2, rel=0.05), "of a Gaussian of 2"


def test_noise_that_an_enlarger_repeats_has_its_power_at_what_the_source_holds():
    found = noise(bicubic, 4)
    assert found.invented < 1e-3
    assert found.beyond < 0.15
    assert 1 < found.correlation < 4
    assert found.peak < 0.125
    gone = noise(oracle, 4)
    assert gone.sigma == 0
    assert gone.correlation == 0


def test_white_noise_has_even_power_and_no_correlation(monkeypatch):
    def white(made):
        same = np.random.default_rng(int(abs(made.lr.sum()) * 1e6) % 2**31)
        flat = np.ptp(made.lr[20:-20, 20:-20]) == 0
        return made.truth + (0 if flat else field.SIGMA * same.standard_normal(made.truth.shape))

    found = noise(white, 4)
    assert found.sigma == pytest.approx(1, rel=0.02)
    assert np.array(found.power[2:]) == pytest.approx(1, rel=0.15)
    assert found.correlation == pytest.approx(1 - 1 / np.e, abs=0.05)
    assert found.beyond == pytest.approx(15 / 16, abs=0.02)


def test_what_is_invented_in_an_even_field_is_told_in_grey_levels():
    assert noise(inventor, 4).invented == pytest.approx(3, abs=0.1)


def test_bars_below_the_limit_come_back_and_beyond_it_an_oracle_alone_knows_them():
    for bar in resolved(oracle, 4):
        assert bar.modulation == pytest.approx(1)
    found = {bar.of_limit: bar for bar in resolved(bicubic, 4)}
    assert found[0.25].modulation > 0.9
    assert found[0.25].modulation > found[0.5].modulation > found[0.9].modulation > found[1.3].modulation
    assert found[1.6].modulation < 0.1
    assert found[0.5].false == 0


def test_an_alias_is_caught_at_its_own_frequency():
    """Every fourth pixel, nothing averaged: bars of 1.3 of the limit come out as bars of 0.7."""
    found = {
        bar.of_limit: bar
        for bar in resolved(lambda made: np.kron(made.truth[2::4, 2::4], np.ones((4, 4))), 4)
    }
    assert found[1.3].false > 0.6


def test_discs_in_noise_keep_their_contrast_on_the_mean():
    for one in discs(oracle, 4):
        assert one.recovered == pytest.approx(1, abs=0.01)
    found = {(one.radius, one.contrast): one for one in discs(bicubic, 4)}
    assert found[12.0, 0.08].recovered == pytest.approx(1, abs=0.1)
    assert found[12.0, 0.08].contrast_to_noise > 3 * found[12.0, 0.02].contrast_to_noise


def test_an_oracle_returns_every_planted_finding_and_adds_nothing(images):
    for one in survival(oracle, images[:1], 4):
        assert one.recovered == pytest.approx(1, abs=1e-3), one
        assert one.distorted < 1e-3
        assert one.elsewhere < 1e-3


def test_of_a_finding_bicubic_keeps_the_more_the_larger_it_is(images):
    kept = {(one.kind, one.size): one.recovered for one in survival(bicubic, images[:1], 4)}
    assert kept["nodule", 3.0] < kept["nodule", 6.0] < kept["nodule", 12.0] == pytest.approx(1, abs=0.05)
    assert kept["line", 1.0] < kept["line", 4.0] < 1


def test_an_enlarger_that_takes_findings_away_is_caught(images):
    """It gives back the truth, less all that stands out from its surroundings."""

    def remover(made):
        return ndimage.gaussian_filter(made.truth, 12)

    kept = {(one.kind, one.size): one.recovered for one in survival(remover, images[:1], 4)}
    assert kept["nodule", 3.0] < 0.1
    assert kept["line", 1.0] < 0.1


def test_an_enlarger_that_changes_other_places_is_caught():
    planted = 0.1 * objects.nodule(100, 100, 6)
    difference = planted.copy()
    difference[200, 200] = 0.05
    recovered, distorted, elsewhere = compare(difference, planted, 0.1)
    assert (recovered, distorted, elsewhere) == (pytest.approx(1), pytest.approx(0), pytest.approx(0.5))
    assert compare(0.5 * planted, planted, 0.1)[0] == pytest.approx(0.5)
    doubled = compare(planted + 0.1 * objects.nodule(104, 100, 6), planted, 0.1)
    assert doubled[1] > 0.5


def test_an_invented_nodule_has_the_contrast_that_the_matched_filter_says(images):
    field = 0.04 * objects.nodule(120, 130, 6)
    strength = matched(field, 6.0)
    assert strength.max() == pytest.approx(0.04, rel=0.05)
    assert np.unravel_index(strength.argmax(), strength.shape) == (
        pytest.approx(120, abs=1),
        pytest.approx(130, abs=1),
    )
    assert matched(np.full((64, 64), 0.3), 6.0) == pytest.approx(0, abs=1e-9)
    honest, lying = (false_structure(method, images, 4)[1].worst for method in (bicubic, inventor))
    assert lying > honest + 1.5
    assert false_structure(oracle, images, 4)[0].worst == 0


def test_letters_and_a_collimators_edge_come_back_from_an_oracle_whole():
    for recovered, distorted, elsewhere in marks(oracle, 4).values():
        assert (recovered, distorted, elsewhere) == (
            pytest.approx(1, abs=1e-3),
            pytest.approx(0, abs=1e-3),
            pytest.approx(0, abs=1e-3),
        )
    found = marks(bicubic, 4)
    assert found["text"][0] < 0.9
    assert found["text"][1] > 0.2
    assert found["collimation edge"][0] > 0.95
