"""Grey values are measurements: the way to the network and back loses nothing and invents nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import enhancer
from enhancer import IdentityModel, modelfile
from enhancer.networks.generator import Generator, Tail, enlarge, reduce
from enhancer.normalise import affine_of
from pacs_node import codecs, decode, stored
from pacs_node.enhancement import enhance_image
from tests import dicom_variants as variants

NATIVE = codecs.EXPLICIT_VR_LITTLE_ENDIAN


def through_identity(ds):
    """Stored values before, and after the whole path with a model that changes nothing at x1."""
    image = decode.decode(ds, NATIVE)
    return image.values, enhance_image(ds, image, IdentityModel(), 1).values


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", range(8, 17))
def test_an_identity_model_gives_stored_values_back_bit_for_bit(bits, signed, photometric):
    rng = np.random.default_rng(bits)
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    values = rng.integers(low, high, (64, 48), endpoint=True)
    values.flat[:2] = low, high
    values = values.astype(f"{'i' if signed else 'u'}{1 if bits == 8 else 2}")

    before, after = through_identity(variants.cr(values, bits=bits, photometric=photometric))

    assert after.dtype == before.dtype
    np.testing.assert_array_equal(after, before)


def test_every_one_of_65536_values_comes_back():
    values = np.arange(65536, dtype="u2").reshape(256, 256)

    before, after = through_identity(variants.cr(values, bits=16))

    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("attributes", [
    {"PixelPaddingValue": 0},
    {"PixelPaddingValue": 4000, "PixelPaddingRangeLimit": 4095},
    {"PixelPaddingValue": 1000, "PixelPaddingRangeLimit": 1300},
])  # fmt: skip
def test_padding_comes_back_as_it_was_and_nothing_becomes_padding(attributes):
    ds = variants.cr(**attributes)
    before, after = through_identity(ds)
    np.testing.assert_array_equal(after, before)

    image = decode.decode(ds, NATIVE)
    result = enhance_image(ds, image, IdentityModel(), 4).values
    low, high = image.padding

    was = np.repeat(np.repeat((before >= low) & (before <= high), 4, 0), 4, 1)
    is_now = (result >= low) & (result <= high)
    assert was.any()
    np.testing.assert_array_equal(is_now, was)


def test_padding_does_not_count_towards_the_range():
    values = variants.chest_values(12) // 4 + 1000
    values[:10] = 0
    ds = variants.cr(values, PixelPaddingValue=0)

    given = stored.to_network(decode.decode(ds, NATIVE), inverted=False)

    assert given.grey_map.lowest >= 1000
    assert (given.lr.min(), given.lr.max()) == (0, 1)
    assert given.kept_out is not None
    assert given.kept_out[:10].all()


def test_what_a_shutter_hides_beyond_the_range_comes_back_as_it_was():
    values = variants.chest_values(12) // 4 + 1000
    values[:6] = 4095
    ds = variants.with_shutter(variants.cr(values))

    before, after = through_identity(ds)

    np.testing.assert_array_equal(after, before)
    from pacs_node.geometry import shutter_mask

    given = stored.to_network(
        decode.decode(ds, NATIVE), inverted=False, shuttered=shutter_mask(ds, *values.shape)
    )
    assert given.grey_map.highest < 4095


def test_an_image_of_padding_alone_passes():
    before, after = through_identity(variants.cr(np.full((16, 16), 7, "u2"), PixelPaddingValue=7))

    np.testing.assert_array_equal(after, before)


def test_a_flat_image_passes():
    before, after = through_identity(variants.cr(np.full((16, 16), 7, "u2")))

    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize(
    ("attributes", "dark"),
    [
        ({"PhotometricInterpretation": "MONOCHROME2"}, False),
        ({"PhotometricInterpretation": "MONOCHROME1"}, True),
        ({"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}, True),
        ({"PhotometricInterpretation": "MONOCHROME2", "PresentationLUTShape": "INVERSE"}, True),
        ({"PhotometricInterpretation": "MONOCHROME2", "PresentationLUTShape": "IDENTITY"}, False),
        (
            {"PhotometricInterpretation": "MONOCHROME2", "RescaleSlope": "-1", "RescaleIntercept": "4095"},
            True,
        ),
        (
            {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": "-1", "RescaleIntercept": "4095"},
            False,
        ),
    ],
)
def test_the_network_sees_bright_as_high(attributes, dark):
    ds = variants.cr(**attributes)
    assert stored.high_is_dark(ds) is dark

    image = decode.decode(ds, NATIVE)
    given = stored.to_network(image, inverted=stored.high_is_dark(ds))

    brightest = image.values.argmin() if dark else image.values.argmax()
    assert given.lr.flat[brightest] == 1


def test_an_overshoot_is_clamped_to_what_the_bits_hold():
    image = decode.decode(variants.cr(), NATIVE)
    given = stored.to_network(image, inverted=False)

    result = stored.from_network(given.lr * 3 - 1, image, given)

    assert (result.min(), result.max()) == (0, 4095)


def test_a_result_that_is_no_whole_multiple_is_refused():
    image = decode.decode(variants.cr(), NATIVE)
    given = stored.to_network(image, inverted=False)

    with pytest.raises(ValueError, match="multiple"):
        stored.from_network(np.zeros((100, 100), np.float32), image, given)


@pytest.mark.parametrize(("bits", "photometric"), [(10, "MONOCHROME1"), (16, "MONOCHROME2")])
def test_the_path_in_float32_agrees_with_float64_to_half_a_stored_unit(tmp_path, bits, photometric):
    torch.manual_seed(5)
    generator = Generator(channels=8, blocks=1)
    with torch.no_grad():
        for tail in generator.tails.values():
            assert isinstance(tail, Tail)
            tail.last.weight.normal_(std=0.05)
    path = tmp_path / "small.safetensors"
    modelfile.write_model(path, generator, name="small", version="0", channels=8, blocks=1)
    ds = variants.cr(variants.chest_values(bits, 40, 36), bits=bits, photometric=photometric)
    image = decode.decode(ds, NATIVE)

    found = enhance_image(ds, image, enhancer.load(path, "cpu", precision="float32"), 2).values

    expected = _in_float64(modelfile.read_model(path).generator.double(), image, photometric)
    expected = np.clip(expected, image.format.lowest, image.format.highest)
    assert np.abs(found - expected).max() <= 0.5 + (1 << bits) * 2e-7


def _in_float64(generator, image, photometric):
    """The whole path, stored values to stored values, unrounded: Float64[2H, 2W]."""
    low, high = float(image.values.min()), float(image.values.max())
    exact = (image.values.astype(np.float64) - low) / (high - low)
    exact = 1 - exact if photometric == "MONOCHROME1" else exact
    affine = affine_of(exact)
    lr = torch.from_numpy(exact)[None, None]
    with torch.inference_mode():
        sr = enlarge(lr, 2) + generator((lr - affine.offset) / affine.gain, 2) * affine.gain
        sr += enlarge(lr - reduce(sr, 2), 2)
    values = sr[0, 0].numpy()
    return (1 - values if photometric == "MONOCHROME1" else values) * (high - low) + low
