"""Pictures give their grey values at their own depth, or a typed reason."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pacs_node.errors import Reason, Refused
from pacs_node.pictures import is_picture, read_picture
from tests import dicom_variants as variants


def saved(tmp_path, image, suffix, **options):
    path = tmp_path / f"a{suffix}"
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [8, 16])
def test_png_and_tiff_keep_every_grey_level(tmp_path, suffix, bits):
    values = variants.chest_values(bits)

    picture = read_picture(saved(tmp_path, Image.fromarray(values), suffix), max_pixels=10**6)

    assert picture.lossy_ratio is None
    np.testing.assert_array_equal(picture.values, values)


def test_a_jpeg_tells_its_compression_ratio(tmp_path):
    values = variants.chest_values(8, 400, 400)
    path = saved(tmp_path, Image.fromarray(values), ".jpg", quality=90)

    picture = read_picture(path, max_pixels=10**6)

    assert picture.media_type == "image/jpeg"
    assert picture.lossy_ratio == pytest.approx(values.size / path.stat().st_size)


def test_grey_saved_as_colour_is_grey(tmp_path):
    values = variants.chest_values(8)
    rgb = Image.fromarray(values).convert("RGB")

    for path in (saved(tmp_path, rgb, ".png"), saved(tmp_path, rgb.convert("RGBA"), ".tif")):
        np.testing.assert_array_equal(read_picture(path, max_pixels=10**6).values, values)


def test_a_tiff_whose_zero_is_white_is_turned(tmp_path):
    values = variants.chest_values(16)
    path = saved(tmp_path, Image.fromarray(65535 - values), ".tif", tiffinfo={262: 0})

    np.testing.assert_array_equal(read_picture(path, max_pixels=10**6).values, values)


def test_a_photograph_taken_upright_is_turned_upright(tmp_path):
    values = variants.chest_values(8)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees

    picture = read_picture(saved(tmp_path, Image.fromarray(values), ".jpg", exif=exif), max_pixels=10**6)

    assert picture.values.shape == values.shape[::-1]


def _red():
    black = Image.new("L", (256, 256))
    return Image.merge("RGB", [Image.linear_gradient("L"), black, black])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Image.linear_gradient("L").convert("RGB").convert("HSV").convert("RGB"), None),
        (lambda: Image.radial_gradient("L").convert("P"), None),
        (_red, Reason.COLOUR),
        (lambda: Image.new("F", (8, 8), 0.5), Reason.UNSUPPORTED_BITS),
        (lambda: Image.new("I", (8, 8), 70000), Reason.UNSUPPORTED_BITS),
    ],
)  # fmt: skip
def test_colour_and_odd_depths_have_a_typed_reason(tmp_path, make, reason):
    path = saved(tmp_path, make(), ".tif")

    if reason is None:
        assert read_picture(path, max_pixels=10**6).values.dtype == np.uint8
        return
    with pytest.raises(Refused) as refused:
        read_picture(path, max_pixels=10**6)
    assert refused.value.refusal.reason is reason


def test_several_pages_are_refused(tmp_path):
    page = Image.new("L", (8, 8))
    path = saved(tmp_path, page, ".tif", save_all=True, append_images=[page])

    with pytest.raises(Refused) as refused:
        read_picture(path, max_pixels=10**6)
    assert refused.value.refusal.reason is Reason.MULTI_FRAME


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_truncated_picture_is_refused(tmp_path, suffix):
    path = saved(tmp_path, Image.fromarray(variants.chest_values(8, 400, 400)), suffix)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    with pytest.raises(Refused) as refused:
        read_picture(path, max_pixels=10**6)
    assert refused.value.refusal.reason in (Reason.BROKEN_STREAM, Reason.NOT_AN_IMAGE)


def test_other_formats_are_no_pictures(tmp_path):
    assert not is_picture(saved(tmp_path, Image.new("L", (8, 8)), ".gif"))
    assert is_picture(saved(tmp_path, Image.new("L", (8, 8)), ".png"))
