from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from cxr_sr import cli


@pytest.fixture
def folder(samples_dir, tmp_path):
    """A folder with a small DICOM image, a small PNG and a text."""
    made = tmp_path / "in"
    made.mkdir()
    ds = dcmread(samples_dir / "chest_pa_nih_256.dcm")
    ds.set_pixel_data(ds.pixel_array[64:96, 64:96], "MONOCHROME2", ds.BitsStored, generate_instance_uid=False)
    ds.save_as(made / "chest.dcm")
    Image.fromarray(np.arange(32 * 32, dtype=np.uint16).reshape(32, 32)).save(made / "chest.png")
    return made


def test_a_dicom_file_becomes_a_derived_one(folder, tmp_path, capsys):
    target = tmp_path / "out.dcm"
    assert (
        cli.run(["enhance", str(folder / "chest.dcm"), str(target), "--scale", "2", "--device", "cpu"]) == 0
    )
    assert capsys.readouterr().out == f"{target}\n"
    ds = dcmread(target)
    assert (ds.Rows, ds.Columns) == (64, 64)
    assert ds.ImageType[0] == "DERIVED"


def test_of_a_folder_what_cannot_be_enhanced_is_named_and_the_rest_is_done(folder, tmp_path, capsys):
    (folder / "letter.txt").write_text("no image")
    target = tmp_path / "out"
    assert cli.run(["enhance", str(folder), str(target), "--scale", "4", "--device", "cpu"]) == 1
    shown = capsys.readouterr()
    assert set(shown.out.splitlines()) == {str(target / "chest.dcm"), str(target / "chest.png")}
    assert "letter.txt" in shown.err
    with Image.open(target / "chest.png") as image:
        assert image.size == (128, 128)
        assert image.mode.startswith("I;16")


def test_a_file_that_is_no_image_is_one_line_and_status_1(tmp_path, capsys):
    (tmp_path / "letter.txt").write_text("no image")
    assert cli.run(["enhance", str(tmp_path / "letter.txt"), str(tmp_path / "out.dcm")]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1


def test_an_input_that_is_not_there_is_wrong_usage(tmp_path, capsys):
    assert cli.run(["enhance", str(tmp_path / "nothing.dcm"), str(tmp_path / "out.dcm")]) == 2
