from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

import enhancer
from enhancer.errors import DataError
from enhancer.evaluate import evaluate
from enhancer.metrics import l1, mse, psnr, ssim


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
    report = evaluate(folder, protocol=protocol, scale=scale, model=enhancer.IdentityModel())
    by_hand = [_bicubic_by_hand(folder / "one" / f"{index}.png", protocol, scale) for index in range(2)]
    assert report.row("one", "bicubic").figures["psnr"] == pytest.approx(np.mean(by_hand), abs=1e-9)
    assert report.row("one", "bicubic").images == 2


def test_a_model_that_enlarges_by_bicubic_scores_like_bicubic_up_to_rounding(folder):
    report = evaluate(folder, model=enhancer.IdentityModel())
    for dataset in ("one", "two"):
        ours = report.row(dataset, "identity").figures
        base = report.row(dataset, "bicubic").figures
        assert ours["psnr"] == pytest.approx(base["psnr"], abs=0.3)
        assert ours["ssim"] == pytest.approx(base["ssim"], abs=0.01)


def test_a_report_is_a_table_for_people_and_json_for_machines(folder):
    report = evaluate(folder, model=enhancer.IdentityModel(), limit=1)
    values = json.loads(report.as_json())
    assert values == report.to_dict()
    assert {row["method"] for row in values["rows"]} == {"bicubic", "lanczos", "identity"}
    assert all(row["images"] == 1 for row in values["rows"])
    assert {"psnr", "ssim", "l1", "mse", "consistency"} <= values["rows"][0].keys()
    assert "lanczos" in report.table()


def test_one_half_of_the_patients_can_be_evaluated_alone(folder):
    counts = []
    for patients in ("dev", "report"):
        try:
            rows = evaluate(folder, model=enhancer.IdentityModel(), patients=patients).rows
        except DataError:
            rows = ()
        counts.append(sum(row.images for row in rows if row.method == "bicubic"))
    assert sum(counts) == 3, "the image that no table lists belongs to neither"


def test_a_folder_without_images_and_an_unknown_protocol_are_refused(tmp_path, folder):
    with pytest.raises(DataError, match="not a folder"):
        evaluate(tmp_path / "none", model=enhancer.IdentityModel())
    with pytest.raises(DataError, match="native, seed"):
        evaluate(folder, protocol="other", model=enhancer.IdentityModel())
    (folder / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"broken\.png"):
        evaluate(folder, model=enhancer.IdentityModel())


def test_metrics_of_known_differences():
    truth = np.full((16, 16), 0.5)
    image = truth + 0.1
    assert psnr(image, truth) == pytest.approx(20)
    assert l1(image, truth) == pytest.approx(0.1)
    assert mse(image, truth) == pytest.approx(0.01)
    assert psnr(truth, truth) == float("inf")
    assert ssim(truth, truth) == pytest.approx(1)
