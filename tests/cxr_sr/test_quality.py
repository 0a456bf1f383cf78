"""`cxr-sr evaluate` and `cxr-sr qa` from a shell, and files of any kind as images to evaluate."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from PIL import Image

from cxr_sr import cli
from cxr_sr.stored import StoredReader
from enhancer import IdentityModel
from enhancer.errors import DataError
from tests import dicom_variants as variants


@pytest.fixture(autouse=True)
def identity(monkeypatch):
    """A model that costs nothing, and no judging network."""
    monkeypatch.setattr("enhancer.model.load", lambda name, device: IdentityModel())
    monkeypatch.setattr("enhancer.evaluate.weights_file", lambda: None)


@pytest.fixture
def folder(tmp_path):
    """Two pictures of two patients, one of each half, as SOURCES.csv tells them."""
    data = tmp_path / "val" / "nih_512"
    data.mkdir(parents=True)
    for index in (1, 4):
        noise = np.random.default_rng(index).integers(0, 256, (40, 40), dtype=np.uint8)
        Image.fromarray(noise).resize((300, 300), Image.Resampling.BICUBIC).save(data / f"{index}.png")
    lines = ["file,split,patient", *(f"val/nih_512/{index}.png,val,patient {index}" for index in (1, 4))]
    (tmp_path / "SOURCES.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "val"


def test_evaluate_prints_a_table_and_writes_the_rows_and_the_worst(folder, tmp_path, capsys):
    table, worst = tmp_path / "images.csv", tmp_path / "worst.png"
    arguments = ["evaluate", "--data", str(folder), "--csv", str(table), "--worst", str(worst)]
    assert cli.run(arguments) == 0
    shown = capsys.readouterr()
    assert "identity" in shown.out
    assert "lanczos" in shown.out
    assert [row["file"] for row in csv.DictReader(table.read_text().splitlines())] == ["1.png", "4.png"]
    with Image.open(worst) as picture:
        assert picture.size == (3 * 256 + 8, 2 * 276)


def test_evaluate_as_json_says_what_was_measured_and_how(folder, capsys):
    arguments = ["evaluate", "--data", str(folder), "--dose", "0.25", "--scale", "2", "--json"]
    assert cli.run([*arguments, "--limit", "1", "--side", "128"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["dose"], values["scale"], values["side"]) == (0.25, 2, 128)
    assert values["rows"][0]["images"] == 1


def test_the_half_for_the_card_comes_with_a_reminder(folder, capsys):
    for split, reminds in (("report", True), ("dev", False)):
        cli.run(["evaluate", "--data", str(folder), "--split", split, "--limit", "1"])
        assert ("once a release" in capsys.readouterr().err) == reminds


def test_a_picture_of_a_kind_that_is_unknown_is_a_sentence(folder, tmp_path, capsys):
    arguments = ["evaluate", "--data", str(folder), "--limit", "1", "--worst", str(tmp_path / "worst.what")]
    assert cli.run(arguments) == 1
    assert "worst.what cannot be written" in capsys.readouterr().err


def test_dicom_is_evaluated_at_its_stored_values(tmp_path, capsys):
    values = variants.chest_values(12, rows=300, columns=280)
    for photometric in ("MONOCHROME1", "MONOCHROME2"):
        stored = 4095 - values if photometric == "MONOCHROME1" else values
        (tmp_path / photometric).mkdir()
        ds = variants.cr(stored, photometric=photometric)
        variants.written(ds, tmp_path / photometric / "a.dcm")
    assert cli.run(["evaluate", "--data", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    psnr = {row["dataset"]: row["psnr"] for row in rows if row["method"] == "bicubic"}
    assert psnr["MONOCHROME1"] == pytest.approx(psnr["MONOCHROME2"], abs=0.02)


def test_stored_values_are_read_bright_and_with_padding_set_aside(tmp_path):
    values = variants.chest_values(10, rows=60, columns=50) + np.uint16(16)
    values[:8] = 0
    padded = variants.cr(values, bits=12, photometric="MONOCHROME1", PixelPaddingValue=0)
    path = variants.written(padded, tmp_path / "padded.dcm")
    with StoredReader() as reader:
        original = reader(path)
    kept = values[8:].astype(int)
    assert (original.low, original.high) == (kept.min(), kept.max())
    assert np.array_equal(original.values[8:], kept.min() + kept.max() - kept)
    assert np.all(original.values[:8] == kept.max()), (
        "padding is the value nearest to it, shown the same way round"
    )
    assert original.patient == padded.PatientID


def test_sixteen_bit_pictures_keep_their_grey_levels(tmp_path):
    values = np.arange(100 * 120, dtype=np.uint16).reshape(100, 120) + 500
    Image.fromarray(values).save(tmp_path / "deep.png")
    with StoredReader() as reader:
        original = reader(tmp_path / "deep.png")
    assert np.array_equal(original.values, values)
    assert (original.low, original.high) == (500, 500 + values.size - 1)


def test_a_file_that_is_no_dicom_is_named(tmp_path):
    (tmp_path / "broken.dcm").write_bytes(b"no image")
    with StoredReader() as reader, pytest.raises(DataError, match=r"broken\.dcm"):
        reader(tmp_path / "broken.dcm")


def test_qa_writes_its_report_and_prints_the_summary(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("enhancer.qa.planted.KINDS", {"nodule": (6.0,)})
    out = tmp_path / "qa"
    assert cli.run(["qa", "--out", str(out), "--data", str(folder), "--images", "1"]) == 0
    shown = capsys.readouterr()
    assert "| | bicubic | identity |" in shown.out
    assert "report.md" in shown.err
    assert "| nodule | 6 | 12% |" in (out / "report.md").read_text()
    assert json.loads((out / "report.json").read_text())["images"] == 1
