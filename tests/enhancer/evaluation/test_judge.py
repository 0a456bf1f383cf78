from __future__ import annotations

import numpy as np
import pytest
import torch

from enhancer.errors import DataError
from enhancer.evaluation import judge as judging
from enhancer.evaluation.judge import FEATURES, Judge, weights_file
from enhancer.networks.efficientnet import LITE0, EfficientNetLite, SameConv2d


@pytest.fixture
def images():
    rng = np.random.default_rng(10)
    rows, columns = np.mgrid[0:128, 0:192].astype(np.float32)
    truth = (0.5 + 0.3 * np.sin(rows / 9) * np.cos(columns / 7)).astype(np.float32)
    return [truth] + [np.float32(truth + s * rng.standard_normal(truth.shape)) for s in (0.0, 0.02, 0.1)]


@pytest.fixture
def untrained(tmp_path):
    """A file of weights as the distribution has it, with chance in it and a head that is not looked at."""
    torch.manual_seed(1)
    state = EfficientNetLite(LITE0).state_dict() | {"_fc.weight": torch.zeros(2, 2)}
    torch.save(state, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def test_distances_grow_with_the_noise_and_are_nothing_for_equal_images(images, untrained):
    distances, vectors = Judge(untrained).look(images)
    assert distances[0] == 0
    assert 0 < distances[1] < distances[2]
    assert [each.shape for each in vectors] == [(2 * 3, FEATURES)] * 4
    assert FEATURES == 40 + 80 + 112


def test_the_paired_distance_is_the_sum_over_layers_of_the_mean_over_pixels(images, untrained):
    network = Judge(untrained).network
    pair = torch.from_numpy(np.stack(images[:1] + images[-1:]))[:, None].repeat(1, 3, 1, 1) * 2 - 1
    with torch.no_grad():
        stem, *blocks = network(pair)
    expected = 0.0
    for level in (stem, blocks[0], blocks[2], blocks[4], blocks[7], blocks[10]):
        a, b = (one / one.square().sum(0).sqrt().clamp_min(1e-10) for one in level)
        expected += float((a - b).square().sum(0).mean())
    distances, _ = Judge(untrained).look([images[0], images[-1]])
    assert distances[0] == pytest.approx(expected, rel=1e-4)


def test_a_patch_vector_is_the_mean_of_the_features_over_its_64_pixels(images, untrained):
    found = Judge(untrained)
    with torch.no_grad():
        _, *blocks = found.network(torch.from_numpy(images[2])[None, None].repeat(1, 3, 1, 1) * 2 - 1)
    _, vectors = found.look([images[0], images[2]])
    second_row_third_column = blocks[4][0, :, 8:16, 16:24].mean(dim=(1, 2)).numpy()
    assert vectors[1][5, :40] == pytest.approx(second_row_third_column, abs=1e-5)


def test_padding_is_tensorflows_same():
    torch.manual_seed(2)
    for kernel, stride, side in [(3, 2, 8), (5, 2, 9), (5, 1, 7), (3, 2, 7)]:
        convolution = SameConv2d(1, 1, kernel, stride, bias=False)
        convolution.requires_grad_(False)
        image = torch.rand(1, 1, side, side)
        out = convolution(image)
        assert out.shape[-1] == -(-side // stride)
        total = max((out.shape[-1] - 1) * stride + kernel - side, 0)
        before = total // 2
        by_hand = torch.zeros(())
        for row in range(kernel):
            for column in range(kernel):
                r, c = row - before, column - before
                if r >= 0 and c >= 0:
                    by_hand = by_hand + convolution.weight[0, 0, row, column] * image[0, 0, r, c]
        assert float(out[0, 0, 0, 0]) == pytest.approx(float(by_hand), abs=1e-5)


def test_a_file_of_other_weights_and_none_at_all_are_refused(tmp_path, monkeypatch):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(DataError, match=r"other\.pth"):
        Judge(tmp_path / "other.pth")
    monkeypatch.setattr(judging, "weights_file", lambda: None)
    with pytest.raises(DataError, match=r"cxr-sr\[judge\]"):
        Judge()


@pytest.mark.skipif(weights_file() is None, reason="the judging network's weights are not installed")
def test_the_network_with_its_real_weights_tells_blur_from_truth(images):
    """Its stem is a bank of edge filters: a blurred image differs more than a slightly brighter one."""
    network = Judge()
    assert len(network.network._blocks) == 11
    truth = images[2]
    blurred = np.asarray(
        (truth + np.roll(truth, 1, 0) + np.roll(truth, 1, 1) + np.roll(truth, (1, 1), (0, 1))) / 4, np.float32
    )
    (blur, brighter), _ = network.look([truth, blurred, truth + np.float32(0.01)])
    assert blur > 5 * brighter > 0
