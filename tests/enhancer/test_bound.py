"""The bound on the error of each pixel."""

from __future__ import annotations

import json

import numpy as np
import pytest

from enhancer import bound
from enhancer.errors import ModelFileError
from enhancer.resample import enlarged, reduced


def case(seed):
    """A smooth image with detail in one half, and a result that has most of the detail."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0.2, 0.8, 128, dtype=np.float32)
    detail = rng.standard_normal((128, 128)).astype(np.float32) * 0.05
    detail[:, :64] *= 0.1
    truth = (ramp[None, :] + detail).astype(np.float32)
    lr = reduced(truth, 4)
    sr = enlarged(lr, 4) + 0.5 * (truth - enlarged(lr, 4))
    return lr, sr.astype(np.float32), truth


@pytest.fixture(scope="module")
def fitted():
    return bound.fit([case(seed) for seed in range(6)], 4)


def test_nine_tenths_of_the_errors_of_images_not_seen_are_within_it(fitted):
    held = []
    for seed in range(10, 14):
        lr, sr, truth = case(seed)
        held.append(np.mean(np.abs(sr - truth) <= fitted.of(lr, sr, 4)))
    assert 0.85 < np.mean(held) < 0.95


def test_it_is_larger_where_errors_are_larger(fitted):
    lr, sr, _ = case(20)
    found = fitted.of(lr, sr, 4)
    assert found.shape == sr.shape
    assert found.dtype == np.float32
    assert found[:, 80:].mean() > 3 * found[:, :48].mean()


def test_it_follows_brightness_and_contrast(fitted):
    lr, sr, _ = case(21)
    assert np.allclose(fitted.of(3 * lr + 7, 3 * sr + 7, 4), 3 * fitted.of(lr, sr, 4), rtol=0.05, atol=1e-3)


def test_it_does_not_depend_on_the_bands_it_was_worked_out_in(fitted, monkeypatch):
    lr, sr, _ = case(22)
    whole = fitted.of(lr, sr, 4)
    monkeypatch.setattr(bound, "BAND", 32)
    banded = fitted.of(lr, sr, 4)
    assert np.mean(np.isclose(whole, banded, rtol=1e-3)) > 0.99


def test_it_comes_back_from_a_model_files_header(fitted):
    (again,) = bound.read_bounds(json.dumps({"4": fitted.as_json()})).values()
    assert again.limits == pytest.approx(fitted.limits, rel=1e-4)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"4": {}}', '{"4": {"weights": [1], "edges": [1], "limits": [1]}}']
)
def test_what_is_no_bound_is_refused(text):
    with pytest.raises(ModelFileError, match="error bound"):
        bound.read_bounds(text)


def test_a_flat_image_has_a_bound(fitted):
    flat = np.full((16, 16), 0.5, np.float32)
    assert np.isfinite(fitted.of(flat, enlarged(flat, 4), 4)).all()
