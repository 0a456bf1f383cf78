from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from enhancer.evaluation import classical as module
from enhancer.evaluation.classical import TUNED, Setting, classical, denoised, tune
from enhancer.evaluation.images import Original, make_pair, rng_of
from enhancer.evaluation.measure import removed
from enhancer.noise import DOSES, simulate
from enhancer.resample import enlarged, reduced


@pytest.fixture
def truth():
    rows, columns = np.mgrid[0:256, 0:256]
    return np.uint8(128 + 60 * np.sin(rows / 21) * np.cos(columns / 17))


def test_every_dose_and_scale_has_its_setting():
    assert TUNED.keys() == {(dose, scale) for dose in DOSES for scale in (2, 4)}


def test_it_takes_noise_away(truth, tmp_path):
    made = make_pair(Original(truth), "native", 2, noise=(simulate, 0.1, rng_of(tmp_path, 0.1)))
    ours = np.mean((classical(0.1, 2)(made) - made.truth) ** 2)
    base = np.mean((enlarged(made.lr, 2) - made.truth) ** 2)
    assert ours < 0.6 * base


def test_a_strength_of_nothing_leaves_the_source_alone_and_grey_values_keep_their_level(truth):
    lr = (truth / 255).astype(np.float32)
    assert denoised(lr, Setting(0.0, 3)) is lr
    assert denoised(lr, Setting(0.005, 3)).mean() == pytest.approx(lr.mean(), abs=1e-3)


def test_a_dose_in_between_takes_the_nearest_setting(truth):
    made = make_pair(Original(truth), "native", 4)
    assert np.array_equal(classical(0.12, 4)(made), classical(0.1, 4)(made))


def test_tuning_takes_the_best_of_the_grid(truth, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "STRENGTHS", (0.0, 0.01))
    monkeypatch.setattr(module, "SIZES", (3,))
    Image.fromarray(truth).save(tmp_path / "a.png")
    best, sums = tune([tmp_path / "a.png"], 0.1, 2)
    assert best == Setting(0.01, 3)
    assert sums[best] == max(sums.values())


def test_what_is_removed_is_told_apart_noise_from_anatomy(truth):
    rng = np.random.default_rng(3)
    made = make_pair(
        Original(truth),
        "native",
        2,
        noise=(lambda image, *_: image + 0.05 * rng.standard_normal(image.shape), 0.5, rng),
    )
    white = removed(made.truth, made)
    assert abs(white["removed_neighbours"]) < 0.2
    assert abs(white["removed_anatomy"]) < 0.1
    clean = make_pair(Original(truth), "native", 2)
    blurred = removed(ndimage.gaussian_filter(clean.truth, 6), clean)
    assert blurred["removed_neighbours"] > 0.5
    assert blurred["removed_anatomy"] > 0.5
    kept = removed(enlarged(reduced(clean.truth, 2), 2), clean)
    assert kept["removed_rms"] < 0.2 * blurred["removed_rms"]
