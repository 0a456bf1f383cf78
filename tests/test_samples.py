"""The sample radiographs that ship with the project."""

from __future__ import annotations

import subprocess
from importlib import resources
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import ComputedRadiographyImageStorage

from tests.peers import ROOT, require

SAMPLES = sorted((ROOT / "cxr_sr" / "samples").glob("*.dcm"))
MADE = [path for path in SAMPLES if "nih" in path.name]


def test_there_are_samples_where_the_demo_looks_for_them() -> None:
    found = {entry.name for entry in resources.files("cxr_sr").joinpath("samples").iterdir()}
    assert {path.name for path in SAMPLES} <= found
    assert len(SAMPLES) == 3


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_a_sample_is_a_small_frontal_chest_radiograph_that_decodes(path: Path) -> None:
    ds = pydicom.dcmread(path)
    assert path.stat().st_size < 500_000
    assert ds.SOPClassUID == ComputedRadiographyImageStorage
    assert (ds.Modality, ds.BodyPartExamined, ds.ViewPosition) == ("CR", "CHEST", "PA")
    assert ds.pixel_array.shape == (ds.Rows, ds.Columns)
    assert ds.pixel_array.max() < 2**ds.BitsStored


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.stem)
def test_a_sample_of_our_making_has_no_spacing_and_says_that_it_was_lossy(path: Path) -> None:
    ds = pydicom.dcmread(path)
    assert "PixelSpacing" not in ds
    assert "ImagerPixelSpacing" not in ds
    assert ds.LossyImageCompression == "01"
    assert ds.ImageType[0] == "DERIVED"


@pytest.mark.parametrize("path", MADE, ids=lambda path: path.stem)
def test_the_validator_finds_no_error_in_a_sample_of_our_making(path: Path) -> None:
    command = [str(require("dciodvfy")), "-new", str(path)]
    said = subprocess.run(command, check=False, capture_output=True, text=True)
    assert [line for line in (said.stdout + said.stderr).splitlines() if line.startswith("Error")] == []


def test_no_two_samples_share_an_identity() -> None:
    identities = [pydicom.dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in SAMPLES]
    assert len(set(identities)) == len(SAMPLES)
