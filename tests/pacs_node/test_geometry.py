"""What is measured in pixels is scaled by the true ratio, rows and columns apart."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import Dataset

from pacs_node import geometry
from pacs_node.geometry import Enlargement
from tests import dicom_variants as variants


def test_spacing_is_divided_for_rows_and_columns_apart_and_fits_a_decimal_string():
    ds = Dataset()
    ds.ImagerPixelSpacing = ["0.148", "0.2"]

    geometry.scale_spacings(ds, Enlargement((100, 100), (300, 700)))

    assert [float(v) for v in ds.ImagerPixelSpacing] == pytest.approx([0.148 / 3, 0.2 / 7])
    assert all(len(str(v)) <= 16 for v in ds.ImagerPixelSpacing)


@pytest.mark.parametrize("value", [["0", "0"], ["-1", "0.2"], ["0.2"], ["", ""]])
def test_an_unusable_spacing_is_dropped_and_named(value):
    ds = Dataset()
    ds.PixelSpacing = value
    ds.PixelSpacingCalibrationType = "GEOMETRY"

    dropped = geometry.scale_spacings(ds, Enlargement((10, 10), (20, 20)))

    assert dropped == ("PixelSpacing",)
    assert len(ds) == 0


def test_no_spacing_is_ever_added():
    ds = Dataset()

    assert geometry.scale_spacings(ds, Enlargement((10, 10), (20, 20))) == ()
    assert len(ds) == 0


def test_a_shutter_uncovers_the_same_part_of_the_image_afterwards():
    ds = variants.with_shutter(variants.dx())
    rows, columns = ds.Rows, ds.Columns
    before = geometry.shutter_mask(ds, rows, columns)

    geometry.scale_shapes(ds, Enlargement((rows, columns), (rows * 4, columns * 4)))

    after = geometry.shutter_mask(ds, rows * 4, columns * 4)
    np.testing.assert_array_equal(after, np.repeat(np.repeat(before, 4, 0), 4, 1))


def test_centres_and_vertices_move_with_the_middle_of_their_pixel():
    ds = Dataset()
    ds.CenterOfCircularShutter = [10, 21]
    ds.RadiusOfCircularShutter = 5
    ds.VerticesOfThePolygonalShutter = [1, 1, 1, 10, 10, 10]

    geometry.scale_shapes(ds, Enlargement((30, 30), (90, 90)))

    assert list(ds.CenterOfCircularShutter) == [29, 62]
    assert ds.RadiusOfCircularShutter == 15
    assert list(ds.VerticesOfThePolygonalShutter) == [2, 2, 2, 29, 29, 29]


@pytest.mark.parametrize("shape", ["CIRCULAR", "POLYGONAL"])
def test_circular_and_polygonal_shutters_hide_what_lies_outside(shape):
    ds = Dataset()
    ds.ShutterShape = shape
    ds.CenterOfCircularShutter, ds.RadiusOfCircularShutter = [16, 16], 8
    ds.VerticesOfThePolygonalShutter = [8, 8, 8, 24, 24, 24, 24, 8]

    hidden = geometry.shutter_mask(ds, 32, 32)

    assert not hidden[15, 15]
    assert hidden[0, 0]
    assert 150 < np.count_nonzero(~hidden) < 320


@pytest.mark.parametrize("shape", ["RECTANGULAR", "CIRCULAR", "POLYGONAL", "BITMAP"])
def test_a_shutter_without_its_numbers_hides_nothing(shape):
    ds = Dataset()
    ds.ShutterShape = shape

    assert geometry.shutter_mask(ds, 8, 8) is None


def test_a_shutter_that_hides_everything_is_not_believed():
    ds = Dataset()
    ds.ShutterShape = "RECTANGULAR"
    ds.ShutterLeftVerticalEdge, ds.ShutterRightVerticalEdge = 100, 200
    ds.ShutterUpperHorizontalEdge, ds.ShutterLowerHorizontalEdge = 100, 200

    assert geometry.shutter_mask(ds, 8, 8) is None


def test_a_bitmap_shutter_goes_with_its_overlay():
    ds = Dataset()
    ds.ShutterShape = ["RECTANGULAR", "BITMAP"]
    ds.ShutterOverlayGroup = 0x6000
    ds.ShutterPresentationValue = 0

    geometry.drop_bitmap_shutter(ds, [0x6000])

    assert ds.ShutterShape == "RECTANGULAR"
    assert "ShutterOverlayGroup" not in ds
    assert "ShutterPresentationValue" in ds


def test_the_finest_spacing_is_that_at_the_detector():
    ds = Dataset()
    ds.PixelSpacing = ["0.1", "0.1"]
    assert geometry.finest_spacing(ds) == 0.1
    ds.ImagerPixelSpacing = ["0.15", "0.14"]
    assert geometry.finest_spacing(ds) == 0.14
