from __future__ import annotations

import numpy as np
import pytest

from enhancer.qa import objects


def test_the_area_of_a_disc_is_that_of_a_circle_and_its_edge_is_shared_by_pixels():
    disc = objects.disc(100.3, 80.7, 10.0)
    assert disc.sum() == pytest.approx(np.pi * 100, rel=2e-3)
    assert ((disc > 0) & (disc < 1)).sum() > 30


def test_a_line_has_its_width_and_length():
    assert objects.line(128, 128, 1.5, length=40).sum() == pytest.approx(60, rel=0.02)


def test_a_nodule_is_one_in_the_middle_and_nothing_from_its_radius_on():
    nodule = objects.nodule(128, 128, 6)
    assert nodule.max() == pytest.approx(1, abs=0.01)
    rows, columns = np.mgrid[0:256, 0:256] + 0.5
    assert not nodule[np.hypot(rows - 128, columns - 128) > 6].any()
    assert nodule.sum() == pytest.approx(2 / 3 * np.pi * 36, rel=0.02), "a ball's volume over its radius"


def test_a_pneumothorax_has_a_bright_edge_and_darker_air_beside_it():
    edge = objects.pneumothorax(128, 90, 2)
    assert edge.max() == 1
    assert edge.min() == -0.5
    middle = edge[128]
    assert 80 < np.argmin(middle) < np.argmax(middle) < 100, "the air lies outside of the lung"


def test_a_phantom_has_the_spread_of_an_image_and_an_even_middle():
    phantom = objects.phantom()
    assert phantom.std() > 0.1
    assert objects.inner(phantom).std() == 0


def test_text_can_be_read_and_the_collimator_has_two_sides():
    letters = objects.text("L PORTABLE")
    assert letters.max() == pytest.approx(1)
    assert 0.001 < letters.mean() < 0.05
    outside = objects.collimation()
    assert outside[:, 0].max() == 0
    assert outside[:, -1].min() == 1
