from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from enhancer import resample
from enhancer.networks.discriminator import PatchDiscriminator, SpectralConv2d, relativistic_hinge
from enhancer.networks.features import DenoisingFeatures
from enhancer.networks.generator import Doubling, Generator, Tail, enlarge, reduce
from enhancer.networks.srgan2017 import Discriminator2017, Generator2017


@pytest.mark.parametrize("scale", [2, 4])
def test_an_untrained_generator_is_nearly_bicubic(scale):
    torch.manual_seed(0)
    x = torch.rand(2, 1, 12, 9)
    out = Generator(8, 2).enhance(x, scale)
    assert out.shape == (2, 1, 12 * scale, 9 * scale)
    assert (out - enlarge(x, scale)).abs().max() < 0.05


@pytest.mark.parametrize("scale", [2, 4])
def test_no_pixel_beyond_the_halo_reaches_an_output_pixel(scale):
    torch.manual_seed(0)
    generator = Generator(8, 2)
    for tail in generator.tails.values():
        assert isinstance(tail, Tail)
        torch.nn.init.normal_(tail.last.weight, std=1.0)
    x = torch.rand(1, 1, 31, 31, requires_grad=True)
    middle = generator(x, scale)[0, 0, 15 * scale : 16 * scale, 15 * scale : 16 * scale]
    (gradient,) = torch.autograd.grad(middle.abs().sum(), x)
    reached = gradient[0, 0].nonzero()
    assert int((reached - 15).abs().max()) <= generator.halo


def test_a_new_sub_pixel_convolution_is_a_nearest_neighbour_enlargement():
    out = Doubling(6, 3)(torch.rand(1, 6, 5, 5))
    blocks = out.unfold(2, 2, 2).unfold(3, 2, 2)
    assert torch.allclose(blocks, blocks[..., :1, :1].expand_as(blocks))


@pytest.mark.parametrize("scale", [2, 4])
def test_tensors_and_arrays_are_resampled_alike_and_as_pillow_does(scale):
    image = np.random.default_rng(1).random((24, 20), dtype=np.float32)
    tensor = torch.from_numpy(image)[None, None]
    assert np.abs(enlarge(tensor, scale)[0, 0].numpy() - resample.enlarged(image, scale)).max() < 1e-5
    assert np.abs(reduce(tensor, scale)[0, 0].numpy() - resample.reduced(image, scale)).max() < 1e-5
    pillow = Image.fromarray(image).resize((20 // scale, 24 // scale), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(pillow), resample.reduced(image, scale))


def test_spectral_normalisation_brings_the_largest_singular_value_to_one():
    torch.manual_seed(0)
    conv = SpectralConv2d(4, 8, 3)
    with torch.no_grad():
        conv.weight.mul_(30)
        for _ in range(60):
            conv(torch.zeros(1, 4, 8, 8))
        weight = conv.weight.detach().flatten(1)
        sigma = torch.dot(conv.u, weight @ torch.nn.functional.normalize(weight.t() @ conv.u, dim=0))
    assert float(sigma) == pytest.approx(float(torch.linalg.matrix_norm(weight, 2)), rel=1e-2)


def test_the_discriminator_scores_places_and_the_hinge_is_zero_when_it_is_sure():
    score = PatchDiscriminator(4)(torch.rand(2, 1, 64, 48), torch.rand(2, 1, 64, 48))
    assert score.shape == (2, 1, 8, 6)
    real, fake = torch.full((4,), 3.0), torch.full((4,), -3.0)
    assert float(relativistic_hinge(real, fake)) == 0
    assert float(relativistic_hinge(fake, real)) == pytest.approx(7)


def test_features_come_at_three_sizes_with_equal_power():
    torch.manual_seed(0)
    features = DenoisingFeatures(4)
    x = torch.rand(2, 1, 32, 32)
    features.calibrate(x)
    with torch.no_grad():
        levels = features(x)
    assert [level.shape[-1] for level in levels] == [32, 16, 8]
    for level in levels:
        assert float(level.var(dim=(0, 2, 3)).mean()) == pytest.approx(1, rel=0.05)
    assert features.noise(x).shape == x.shape


def test_the_published_srgan_enlarges_and_gives_one_verdict_an_image():
    generator = Generator2017(8, 2)
    assert generator(torch.rand(2, 1, 6, 7)).shape == (2, 1, 24, 28)
    published = sum(parameter.numel() for parameter in Generator2017().parameters())
    assert 1.4e6 < published < 1.6e6
    assert Discriminator2017(side=32, width=4, dense=8)(torch.rand(2, 1, 32, 32)).shape == (2, 1)
