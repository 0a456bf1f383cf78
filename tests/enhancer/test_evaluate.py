from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image

import enhancer
from enhancer.errors import DataError
from enhancer.evaluate import evaluate, measure
from enhancer.evaluation.classical import NAME
from enhancer.evaluation.report import as_csv


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(2)
    for dataset, side in (("one", 512), ("two", 300)):
        (tmp_path / "val" / dataset).mkdir(parents=True)
        for index in range(2):
            small = Image.fromarray(rng.integers(0, 256, (side // 6, side // 6), dtype=np.uint8))
            image = small.resize((side, side), Image.Resampling.LANCZOS)
            image.save(tmp_path / "val" / dataset / f"{index}.png")
    (tmp_path / "SOURCES.csv").write_text(
        "file,split,patient\nval/one/0.png,val,a\nval/one/1.png,val,b\nval/two/0.png,val,a\n"
    )
    return tmp_path / "val"


def _measured(folder, **how):
    how = {"judge": False, "quiet": True} | how
    return measure(folder, [enhancer.IdentityModel()], **how)


def _bicubic_by_hand(path, protocol, scale):
    image = Image.open(path).convert("L")
    if protocol == "seed":
        image = image.resize((256 // scale,) * 2, Image.Resampling.BICUBIC)
    truth = image.resize((256, 256), Image.Resampling.BICUBIC)
    source = truth.resize((256 // scale,) * 2, Image.Resampling.BICUBIC)
    result = source.resize((256, 256), Image.Resampling.BICUBIC)
    error = np.mean((np.asarray(result, float) - np.asarray(truth, float)) ** 2)
    return 10 * np.log10(255**2 / error)


@pytest.mark.parametrize(("protocol", "scale"), [("native", 4), ("native", 2), ("seed", 4)])
def test_the_figures_of_bicubic_agree_with_a_computation_by_hand(folder, protocol, scale):
    report = _measured(folder, protocol=protocol, scale=scale).report()
    by_hand = [_bicubic_by_hand(folder / "one" / f"{index}.png", protocol, scale) for index in range(2)]
    assert report.row("one", "bicubic").figures["psnr"] == pytest.approx(np.mean(by_hand), abs=1e-4)
    assert report.row("one", "bicubic").images == 2


def test_a_model_that_enlarges_by_bicubic_scores_like_bicubic_up_to_rounding(folder):
    report = evaluate(folder, model=enhancer.IdentityModel(), quiet=True)
    for dataset in ("one", "two"):
        ours = report.row(dataset, "identity").figures
        base = report.row(dataset, "bicubic").figures
        assert ours["psnr"] == pytest.approx(base["psnr"], abs=0.3)
        assert ours["ssim"] == pytest.approx(base["ssim"], abs=0.01)
        assert ours["gain"] == pytest.approx(0, abs=0.3)
        assert ours["gmsd_share"] == pytest.approx(1, abs=0.05)


def test_a_report_is_a_table_for_people_and_json_for_machines(folder):
    found = _measured(folder, limit=1)
    report = found.report()
    values = json.loads(report.as_json())
    assert values == report.to_dict()
    assert {row["method"] for row in values["rows"]} == {"bicubic", "lanczos", "identity"}
    assert all(row["images"] == 1 for row in values["rows"])
    figures = {"psnr", "ssim", "gmsd", "l1", "mse", "consistency", "consistency_p999", "gain"}
    assert figures | {"energy_0.125_0.25", "energy_0.25_0.5"} <= values["rows"][0].keys()
    assert "lanczos" in report.table()
    assert values["models"][0]["digest"] == enhancer.IdentityModel().info.digest


def test_an_interval_needs_two_patients_and_holds_its_mean(folder):
    report = _measured(folder).report()
    for row in report.rows:
        assert row.patients == 2
        for name, (low, high) in row.intervals.items():
            assert low <= row.figures[name] <= high, (row.dataset, row.method, name)
    alone = _measured(folder, limit=1).report()
    assert all(not row.intervals for row in alone.rows)


def test_the_halves_of_the_patients_make_up_the_validation_images(folder):
    counts = []
    for split in ("dev", "report"):
        try:
            rows = _measured(folder, split=split).report().rows
        except DataError:
            rows = ()
        counts.append(sum(row.images for row in rows if row.method == "bicubic"))
    assert sum(counts) == 3, "the image that no table lists belongs to neither"
    assert len(_measured(folder, split="val").images) == 3
    assert len(_measured(folder).images) == 4


def test_a_half_can_be_reported_from_all_that_was_measured(folder):
    whole = _measured(folder, split="val")
    halves = {image.half for image in whole.images}
    for half in halves:
        own, taken = _measured(folder, split=half).report(), whole.report(half)
        assert own.to_dict()["rows"] == taken.to_dict()["rows"]
    for half in {"dev", "report"} - halves:
        with pytest.raises(DataError):
            whole.report(half)


def test_the_csv_has_a_row_an_image_and_names_no_patient(folder):
    found = _measured(folder, split="val")
    rows = list(csv.DictReader(io.StringIO(as_csv(found.images))))
    assert [(row["dataset"], row["file"], row["patient"]) for row in rows] == [
        ("one", "0.png", "1"),
        ("one", "1.png", "2"),
        ("two", "0.png", "1"),
    ]
    mean = np.mean([float(row["identity_psnr"]) for row in rows[:2]])
    assert mean == pytest.approx(found.report().row("one", "identity").figures["psnr"], abs=1e-3)


def test_the_worst_are_shown_worst_first(folder):
    found = _measured(folder)
    picture = np.asarray(found.worst.picture())
    assert picture.shape[0] == 4 * (256 + 20)
    assert picture.shape[1] == 3 * 256 + 2 * 4
    gains = [image.figures["identity"]["gain"] for image in found.images]
    assert [case.gain for case in found.worst.cases] == sorted(gains)


def test_images_smaller_than_the_truth_are_left_out_and_counted(folder):
    found = _measured(folder, side=512)
    assert {image.dataset for image in found.images} == {"one"}
    assert any(sentence.startswith("2 images are smaller") for sentence in found.missing)
    with pytest.raises(DataError, match="1024"):
        _measured(folder, side=1024)


def test_noise_goes_into_the_input_and_not_into_the_truth(folder):
    def simulate(image, dose, rng):
        return image + dose * rng.standard_normal(image.shape).astype(np.float32)

    clean = _measured(folder).report().row("one", "bicubic").figures["psnr"]
    slight, strong = (
        _measured(folder, noise=(simulate, dose)).report().row("one", "bicubic").figures["psnr"]
        for dose in (0.02, 0.2)
    )
    assert clean > slight > strong
    again = _measured(folder, noise=(simulate, 0.2)).report().row("one", "bicubic").figures["psnr"]
    assert again == strong


def test_with_noise_the_classical_way_stands_beside_the_models(folder):
    def simulate(image, dose, rng):
        return image + 0.1 * rng.standard_normal(image.shape).astype(np.float32)

    report = _measured(folder, noise=(simulate, 0.1), limit=1).report()
    row = report.row("one", NAME)
    assert row.figures["over_classical"] == 0
    assert report.row("one", "identity").figures["over_classical"] == pytest.approx(
        report.row("one", "identity").figures["psnr"] - row.figures["psnr"]
    )
    assert row.figures["removed_rms"] > 0
    assert "over classical" in report.table()
    assert "over_classical" not in _measured(folder, limit=1).report().rows[0].figures


def test_further_methods_stand_beside_the_model(folder):
    found = _measured(folder, others={"truth": lambda made: made.truth}, datasets=["two"]).report()
    figures = found.row("two", "truth").figures
    assert figures["psnr"] == float("inf")
    assert figures["gmsd"] == 0
    assert found.to_dict()["rows"][-1]["psnr"] is None
    assert found.datasets == ["two"]


def test_without_the_judging_network_its_columns_are_left_out_and_that_is_said(folder, monkeypatch):
    monkeypatch.setattr("enhancer.evaluate.weights_file", lambda: None)
    monkeypatch.setattr("enhancer.evaluate.ms_ssim", lambda: None)
    report = _measured(folder, judge=True).report()
    assert "perceptual" not in report.rows[0].figures
    assert sum("cxr-sr[judge]" in sentence for sentence in report.missing) == 2
    assert "cxr-sr[judge]" in report.table()


def test_what_cannot_be_evaluated_is_refused(tmp_path, folder):
    with pytest.raises(DataError, match="not a folder"):
        _measured(tmp_path / "none")
    with pytest.raises(DataError, match="native, seed"):
        _measured(folder, protocol="other")
    with pytest.raises(DataError, match="fit"):
        _measured(folder, scale=3)
    with pytest.raises(DataError, match="all, val, dev, report"):
        _measured(folder, split="test")
    (folder / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png"):
        _measured(folder)
