"""Files are enhanced without a service, each into a file of its kind, or refused with a sentence."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from enhancer import IdentityModel
from pacs_node.files import Failed, NotEnhanced, Written, enhance_path
from tests import dicom_variants as variants


def test_dicom_in_gives_derived_dicom_out(tmp_path):
    source = variants.written(variants.cr(), tmp_path / "in.dcm")

    (done,) = enhance_path(source, tmp_path / "out.dcm", scale=2, model=IdentityModel())

    assert isinstance(done, Written)
    assert (done.scale, done.source_size, done.result_size) == (2, (80, 96), (160, 192))
    ds = dcmread(tmp_path / "out.dcm")
    assert (ds.Rows, ds.Columns, ds.ImageType[3]) == (192, 160, "AI_SR")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.dcm", "out.dcm"]


@pytest.mark.parametrize(
    ("bits", "suffix"), [(8, ".png"), (16, ".png"), (8, ".tif"), (16, ".tif"), (8, ".jpg")]
)
def test_a_picture_in_gives_a_png_of_the_same_depth_out(tmp_path, bits, suffix):
    values = variants.chest_values(bits)
    source = tmp_path / f"in{suffix}"
    Image.fromarray(values).save(source)

    list(enhance_path(source, tmp_path / "out.png", scale=4, model=IdentityModel()))

    result = np.asarray(Image.open(tmp_path / "out.png"))
    assert result.dtype == values.dtype
    assert result.shape == (4 * 96, 4 * 80)


def test_an_auto_scale_follows_the_size_of_the_image(tmp_path):
    source = tmp_path / "in.png"
    Image.fromarray(np.tile(variants.chest_values(8), (12, 1))).save(source)

    (done,) = enhance_path(source, tmp_path / "out.png", model=IdentityModel())

    assert isinstance(done, Written)
    assert done.scale == 2


def test_a_folder_is_enhanced_file_by_file_and_a_bad_one_does_not_stop_the_rest(tmp_path):
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    variants.written(variants.cr(), folder / "a.dcm")
    (folder / "b.txt").write_text("no image")
    Image.fromarray(variants.chest_values(8)).save(folder / "deep" / "c.jpg")

    outcomes = list(enhance_path(folder, tmp_path / "out", scale=2, model=IdentityModel()))

    assert [type(outcome) for outcome in outcomes] == [Written, Failed, Written]
    assert outcomes[1] == Failed(folder / "b.txt", "This is neither DICOM nor a picture that we know.")
    assert (tmp_path / "out" / "a.dcm").is_file()
    assert (tmp_path / "out" / "deep" / "c.png").is_file()


def test_a_source_is_never_overwritten(tmp_path):
    source = variants.written(variants.cr(), tmp_path / "in.dcm")
    before = source.read_bytes()

    with pytest.raises(NotEnhanced, match="overwrite"):
        list(enhance_path(source, source, model=IdentityModel()))

    assert source.read_bytes() == before


def test_an_image_for_processing_is_refused_with_a_sentence(tmp_path):
    source = variants.written(variants.dx(for_processing=True), tmp_path / "in.dcm")

    with pytest.raises(NotEnhanced, match="not enhanced"):
        list(enhance_path(source, tmp_path / "out.dcm", model=IdentityModel()))

    assert not (tmp_path / "out.dcm").exists()


def test_the_same_file_gives_the_same_object_again(tmp_path):
    source = variants.written(variants.cr(), tmp_path / "in.dcm")

    list(enhance_path(source, tmp_path / "one.dcm", model=IdentityModel()))
    list(enhance_path(source, tmp_path / "two.dcm", model=IdentityModel()))

    one, two = dcmread(tmp_path / "one.dcm"), dcmread(tmp_path / "two.dcm")
    assert (one.SOPInstanceUID, one.PixelData) == (two.SOPInstanceUID, two.PixelData)
