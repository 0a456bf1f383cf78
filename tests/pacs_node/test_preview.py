"""Previews show what a viewer would: windowed, bright as bright, small enough for a page."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image

from pacs_node import preview
from tests import dicom_variants as variants


def test_the_window_of_the_header_is_applied():
    ds = variants.cr(WindowCenter="2048", WindowWidth="2048")
    values = np.array([[0, 1023, 2048, 3071, 4095]], "u2")

    shown = preview.windowed(ds, values)

    assert shown.tolist() == [[0, 0, 128, 255, 255]]


def test_monochrome1_is_shown_with_its_low_values_bright():
    values = np.array([[0, 4095]], "u2")

    assert preview.windowed(variants.cr(photometric="MONOCHROME1"), values).tolist() == [[255, 0]]


def test_a_rescaled_and_signed_image_is_windowed_in_its_own_units():
    ds = variants.cr(
        variants.chest_values(12, signed=True), RescaleSlope="2", RescaleIntercept="100",
        WindowCenter="100", WindowWidth="2000",
    )  # fmt: skip
    values = np.array([[-600, 0, 600]], "i2")

    assert preview.windowed(ds, values).tolist() == [[0, 128, 255]]


def test_without_a_window_the_range_of_the_image_is_shown():
    ds = variants.cr(WindowCenter=None, WindowWidth=None)
    values = variants.chest_values(12) // 8 + 2000

    shown = preview.windowed(ds, values)

    assert shown.min() <= 2
    assert shown.max() >= 253


def test_padding_is_black_and_does_not_count():
    ds = variants.cr(photometric="MONOCHROME1", WindowCenter=None, WindowWidth=None)
    values = variants.chest_values(12) // 8 + 2000
    values[:10] = 0

    shown = preview.windowed(ds, values, (0, 0))

    assert not shown[:10].any()
    assert shown[10:].max() >= 250


def test_a_large_image_is_reduced_to_what_a_page_shows():
    values = np.tile(variants.chest_values(8), (60, 10))

    picture = Image.open(BytesIO(preview.preview_png(variants.cr(values, bits=8), values)))

    assert (picture.mode, picture.size) == ("L", (284, preview.LONG_SIDE))
