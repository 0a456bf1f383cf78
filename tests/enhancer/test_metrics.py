from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import convolve2d

from enhancer import metrics
from enhancer.metrics import gmsd, l1, mse, psnr, ssim


def _gmsd_as_its_authors_wrote_it(one, two):
    """Line by line after the program of Xue et al., with a general convolution."""
    prewitt = np.array([[1, 0, -1]] * 3) / 3
    magnitudes = []
    for image in (one * 255, two * 255):
        # MATLAB's conv2(..., 'same') of an even kernel keeps the later half: drop the first row and column
        mean = convolve2d(image, np.full((2, 2), 0.25), mode="full")[1:, 1:]
        half = mean[: image.shape[0], : image.shape[1]][::2, ::2]
        across = convolve2d(half, prewitt, mode="same")
        along = convolve2d(half, prewitt.T, mode="same")
        magnitudes.append(np.sqrt(across**2 + along**2))
    a, b = magnitudes
    return np.std((2 * a * b + 170) / (a**2 + b**2 + 170))


@pytest.mark.parametrize("shape", [(64, 64), (61, 83), (128, 37)])
def test_gmsd_agrees_with_the_program_of_its_authors(shape):
    rng = np.random.default_rng(shape[0])
    truth = np.clip(0.5 + 0.3 * np.sin(np.add.outer(np.arange(shape[0]), np.arange(shape[1])) / 5), 0, 1)
    image = np.clip(truth + 0.05 * rng.standard_normal(shape), 0, 1)
    expected = _gmsd_as_its_authors_wrote_it(image, truth)
    assert expected > 0.01
    assert gmsd(image, truth) == pytest.approx(expected, rel=1e-12)
    assert gmsd(truth, image) == pytest.approx(expected, rel=1e-12)
    assert gmsd(truth, truth) == 0


def test_gmsd_of_a_step_that_vanished_has_a_value_that_can_be_worked_out_by_hand():
    """Half the columns of the gradient map see the step (255 / 1 on two of them), the others nothing."""
    truth = np.zeros((64, 64))
    truth[:, 32:] = 1
    flat = np.zeros((64, 64))
    # after halving: 32 columns, the step between 15 and 16; gradient 255 on columns 15 and 16, and at the far
    # border, where zeros begin, on column 31; rows 0 and 31 also see the border along the other axis
    inner = truth[::2, ::2] * 255
    padded = np.pad(inner, 1)
    across = sum(padded[1 + r : 33 + r, 2:] - padded[1 + r : 33 + r, :-2] for r in (-1, 0, 1)) / 3
    along = sum(padded[2:, 1 + c : 33 + c] - padded[:-2, 1 + c : 33 + c] for c in (-1, 0, 1)) / 3
    # the last row and column of means are halved by the zeros beyond the border in neither: 64 is even
    magnitude = np.hypot(across, along)
    assert gmsd(flat, truth) == pytest.approx(np.std(170 / (magnitude**2 + 170)), rel=1e-12)


def test_metrics_of_known_differences():
    truth = np.full((16, 16), 0.5)
    image = truth + 0.1
    assert psnr(image, truth) == pytest.approx(20)
    assert l1(image, truth) == pytest.approx(0.1)
    assert mse(image, truth) == pytest.approx(0.01)
    assert psnr(truth, truth) == float("inf")
    assert ssim(truth, truth) == pytest.approx(1)


def test_ms_ssim_is_one_for_equal_images_and_falls_with_noise():
    pytest.importorskip("torchmetrics")
    measure = metrics.ms_ssim()
    rng = np.random.default_rng(1)
    truth = rng.random((192, 192))
    assert measure(truth, truth) == pytest.approx(1)
    slight, strong = (
        measure(truth + noise * rng.standard_normal(truth.shape), truth) for noise in (0.05, 0.3)
    )
    assert 1 > slight > strong


def test_without_torchmetrics_there_is_no_ms_ssim(monkeypatch):
    monkeypatch.setattr("enhancer.metrics.importlib.util.find_spec", lambda name: None)
    assert metrics.ms_ssim() is None
