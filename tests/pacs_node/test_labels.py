"""A label in the image: legible, in a corner that shows little, and nothing else of the object changes."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.pixels import unpack_bits

from pacs_node import derive, labels
from pacs_node.decode import decode
from pacs_node.geometry import shutter_mask
from pacs_node.uids import ResultUids
from tests import dicom_variants as variants
from tests.derived_checks import new_errors
from tests.peers import require as require_peer

NAMES = ResultUids("1.2.3.4", "1.2.3.5")
LINES = labels.label_lines(4, "srgan", "2.0")


def labelled(ds, label):
    return labels.labelled(ds, label, LINES, NAMES)


def values_of(ds):
    return decode(ds, str(ds.file_meta.TransferSyntaxUID)).values


def plane_of(ds, group=0x6000):
    bits = np.asarray(unpack_bits(ds[group, 0x3000].value))[: ds.Rows * ds.Columns]
    return bits.reshape(ds.Rows, ds.Columns).astype(bool)


def test_a_label_says_that_it_is_enhanced_by_which_model_and_for_research():
    text = " ".join(LINES)
    assert "AI-ENHANCED x4" in text
    assert "srgan 2.0" in text
    assert "RESEARCH" in text
    assert "NOT FOR DIAGNOSIS" in text


@pytest.mark.parametrize("make", [variants.cr, variants.dx, variants.secondary_capture])
@pytest.mark.parametrize("label", [labels.OVERLAY, labels.BURNED])
def test_the_copy_has_names_of_its_own_and_passes_the_validator(make, label, tmp_path):
    source = make()
    variants.written(source, tmp_path / "before.dcm")
    before = dcmread(tmp_path / "before.dcm")
    after = labelled(dcmread(tmp_path / "before.dcm"), label)
    derive.write_file(after, tmp_path / "after.dcm")

    assert (after.SOPInstanceUID, after.SeriesInstanceUID) == ("1.2.3.5", "1.2.3.4")
    assert after.file_meta.MediaStorageSOPInstanceUID == "1.2.3.5"
    assert after.StudyInstanceUID == before.StudyInstanceUID
    assert int(after.SeriesNumber) > int(before.SeriesNumber)
    assert "label" in after.DerivationDescription.lower()
    assert new_errors(require_peer("dciodvfy"), tmp_path / "before.dcm", tmp_path / "after.dcm") == []


def test_an_overlay_leaves_every_pixel_as_it_was():
    ds = variants.cr()
    before = values_of(ds).copy()
    after = labelled(ds, labels.OVERLAY)

    assert np.array_equal(values_of(after), before)
    assert after.get("BurnedInAnnotation") != "YES"
    plane = plane_of(after)
    assert plane.shape == before.shape
    assert 0.001 < plane.mean() < 0.5
    assert (after[0x6000, 0x0010].value, after[0x6000, 0x0011].value) == before.shape


def test_an_overlay_takes_a_group_that_is_free():
    ds = variants.cr()
    for element, vr, value in ((0x0010, "US", 1), (0x0011, "US", 8), (0x3000, "OW", b"\xff\0")):
        ds.add_new((0x6000, element), vr, value)
    after = labelled(ds, labels.OVERLAY)

    assert after[0x6000, 0x3000].value == b"\xff\0"
    assert plane_of(after, 0x6002).any()


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_burned_letters_are_bright_on_dark_within_the_images_own_range(photometric):
    ds = variants.cr(PhotometricInterpretation=photometric)
    before = values_of(ds).copy()
    after = labelled(ds, labels.BURNED)
    values = values_of(after)
    changed = values != before

    assert after.BurnedInAnnotation == "YES"
    assert (values.min(), values.max()) == (before.min(), before.max())
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    box = values[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    dark = before.max() if photometric == "MONOCHROME1" else before.min()
    assert 0.5 < (box == dark).mean() < 0.98, "letters on a plain ground"
    assert set(np.unique(values[changed])) <= {before.min(), before.max()}


def test_a_burned_label_never_becomes_padding():
    ds = variants.cr()
    values = values_of(ds).copy()
    padding = int(values.min())
    ds.add_new("PixelPaddingValue", "US", padding)
    after = labelled(ds, labels.BURNED)
    was, now = values == padding, values_of(after) == padding
    assert not (now & ~was).any()


def test_a_label_lies_in_the_flattest_corner():
    values = np.random.default_rng(0).integers(0, 4000, (400, 400)).astype(np.uint16)
    values[-80:, -300:] = 7
    assert labels.choose_place(values, None, (60, 200)) == (340, 200)


@pytest.mark.parametrize("shape", ["RECTANGULAR", "CIRCULAR"])
def test_a_label_lies_where_no_shutter_hides_it(shape):
    rows = columns = 600
    ds = variants.cr(np.full((rows, columns), 100, np.uint16), ShutterShape=shape)
    if shape == "RECTANGULAR":
        ds.ShutterUpperHorizontalEdge, ds.ShutterLowerHorizontalEdge = 100, 500
        ds.ShutterLeftVerticalEdge, ds.ShutterRightVerticalEdge = 50, 550
    else:
        ds.CenterOfCircularShutter, ds.RadiusOfCircularShutter = [300, 300], 290
    hidden = shutter_mask(ds, rows, columns)
    size = labels.draw_text(LINES, rows, columns).shape
    top, left = labels.choose_place(values_of(ds), hidden, size)
    assert not hidden[top : top + size[0], left : left + size[1]].any()
    assert top < 200 or top > 350, "near the edge of what is seen"


@pytest.mark.parametrize(("rows", "columns"), [(96, 80), (440, 440), (1760, 1424), (5000, 4000), (300, 30)])
def test_letters_suit_the_size_of_the_image_and_never_exceed_it(rows, columns):
    mask = labels.draw_text(LINES, rows, columns)
    assert mask.shape[0] <= rows
    assert mask.shape[1] <= columns
    assert mask.any()
    if columns > 400:
        assert mask.shape[0] / rows > 0.02, "too small to read"
        assert mask.shape[1] / columns < 0.5, "it covers too much"


def test_the_same_result_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        variants.written(
            variants.cr(SOPInstanceUID="1.2.9", StudyInstanceUID="1.2.8", SeriesInstanceUID="1.2.7"),
            tmp_path / "in.dcm",
        )
        derive.write_file(labelled(dcmread(tmp_path / "in.dcm"), labels.BURNED), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_another_word_is_no_label():
    with pytest.raises(ValueError, match="overlay or burned"):
        labelled(variants.cr(), "none")
