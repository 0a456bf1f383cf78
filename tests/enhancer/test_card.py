from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from enhancer import card, modelfile
from enhancer.errors import EnhancerError
from enhancer.evaluation import markdown
from enhancer.evaluation.images import Original
from enhancer.evaluation.report import Report, Row
from enhancer.model import IdentityModel


@pytest.fixture
def shipped(tmp_path, monkeypatch, small_model_file):
    """A folder of shipped models that holds the small one and its card, and one image to evaluate."""
    folder = tmp_path / "weights"
    folder.mkdir()
    shutil.copy(small_model_file, folder / "small.safetensors")
    monkeypatch.setattr(modelfile, "SHIPPED", folder)
    monkeypatch.setattr(modelfile, "DIGESTS", folder / "digests.json")
    digest = modelfile.read_model(small_model_file).digest
    (folder / "digests.json").write_text(f'{{"small": "{digest}"}}')
    marks = "\n".join([card.BEGIN, "old", card.END, *card.ABLATIONS])
    (folder / "small.md").write_text(f"# Small\n\n{marks}\n\nWhat I saw.\n")
    data = tmp_path / "val" / "nih_512"
    data.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(noise).resize((300, 300), Image.Resampling.BICUBIC).save(data / "a.png")
    # of patient 4 the hash says `dev`
    (tmp_path / "SOURCES.csv").write_text("file,split,patient\nval/nih_512/a.png,val,patient 4\n")
    shown = ("dev", "val")
    runs = (card.Run("main", "native", 4, "val", shown), card.Run("x2", "native", 2, "val", shown))
    monkeypatch.setattr(card, "RUNS", runs)
    return folder


@pytest.fixture
def arguments(tmp_path):
    places = ["--data", str(tmp_path / "val"), "--kept", str(tmp_path / "kept")]
    return ["small", *places, "--device", "cpu"]


def test_a_card_is_filled_between_its_marks_and_nowhere_else(shipped, arguments, tmp_path, capsys):
    assert card.main([*arguments, "--skip", "qa"]) == 0
    text = (shipped / "small.md").read_text()
    assert text.startswith("# Small\n")
    assert text.endswith("What I saw.\n")
    assert "old" not in text
    assert text.count("| bicubic |") == text.count("| small |") == 4
    assert modelfile.committed_digests()["small"] in text
    assert (tmp_path / "kept" / "small-worst.png").is_file(), "a picture for what is said of failures"
    assert "| bicubic |" in capsys.readouterr().out


def test_what_was_measured_of_a_model_is_not_measured_again(shipped, arguments, monkeypatch):
    assert card.main([*arguments, "--skip", "qa"]) == 0
    text = (shipped / "small.md").read_text()

    def forbidden(*_, **__):
        raise AssertionError("measured again")

    monkeypatch.setattr(card, "measure", forbidden)
    assert card.main([*arguments, "--skip", "qa"]) == 0
    assert (shipped / "small.md").read_text() == text


def test_the_card_shows_the_summary_of_the_physical_test(shipped, arguments, monkeypatch):
    asked = []

    def quick(model, images, scale):
        asked.append((model.info.name, len(images), scale))

    monkeypatch.setattr(card, "assess", quick)
    monkeypatch.setattr("enhancer.card.physics.summary", lambda found: "what survives")
    for _ in range(2):
        assert card.main([*arguments, "--skip", "x2"]) == 0
    assert "### Physical test\n\nwhat survives" in (shipped / "small.md").read_text()
    assert asked == [("small", 1, 4)], "tested once and kept"


def test_a_part_can_be_left_out(shipped, arguments):
    assert card.main([*arguments, "--skip", "qa", "x2"]) == 0
    assert "×2 to" not in (shipped / "small.md").read_text()


def test_dicom_images_stand_in_rows_of_their_own(shipped, arguments, tmp_path):
    (tmp_path / "dicom").mkdir()
    for name in ("chest_a.dcm", "chest_a_j2k_lossless.dcm", "hip.dcm"):
        (tmp_path / "dicom" / name).write_bytes(b"")
    values = np.random.default_rng(1).integers(0, 1024, (300, 300)).astype(np.int32)
    dicom = ["--dicom", str(tmp_path / "dicom"), "--skip", "qa", "x2"]
    assert card.main([*arguments, *dicom], lambda path: Original(values, 0, 1023)) == 0
    text = (shipped / "small.md").read_text()
    assert text.count("| chest_a.dcm |") == 2, "once at x2, once at x4"
    assert "hip" not in text
    assert "j2k" not in text


def test_variants_are_measured_on_dev_into_their_own_table(shipped, arguments, monkeypatch):
    path = shipped / "small.safetensors"
    assert card.main([*arguments, "--ablation", f"without a loss={path}", f"with={path}"]) == 0
    text = (shipped / "small.md").read_text()
    assert "| without a loss |" in text
    assert "| with |" in text
    assert "old" in text, "the figures were not asked for"


def test_a_card_without_marks_is_left_alone(shipped, arguments, capsys):
    (shipped / "small.md").write_text("# Small\n")
    assert card.main(arguments) == 1
    assert "marks" in capsys.readouterr().err
    assert (shipped / "small.md").read_text() == "# Small\n"


def test_marks_are_needed():
    with pytest.raises(EnhancerError, match="marks"):
        card.filled(f"{card.BEGIN} without an end", "x")


def _report(protocol="native", **figures):
    known = {
        "psnr": 30.0,
        "ssim": 0.95,
        "l1": 0.01,
        "mse": 0.001,
        "gain": 3.1,
        "frechet_share": 0.5,
    } | figures
    rows = tuple(
        Row("nih_512", method, 9, 8, known, {"gain": (3.0, 3.2)}) for method in ("bicubic", "srresnet")
    )
    info = IdentityModel().info
    named = type(info)("srresnet", "1", info.digest, (4,), "cpu", None)
    return Report(protocol, 4, 256, None, "report", (named,), rows)


def test_what_was_asked_stands_beside_what_was_measured():
    text = markdown.promises([_report()])
    assert "| PSNR over bicubic, dB | nih_512 | +3.10 (+3.00 to +3.20) | ≥ +3.0 |" in text
    assert "| PSNR over bicubic, dB | nih_1024 | – | ≥ +3.0 |" in text
    assert "| Fréchet distance, share of bicubic's | nih_512 | 0.50 | shown |" in text


def test_both_protocols_stand_beside_the_figures_of_the_project_that_ours_follows():
    text = markdown.against_theirs([_report()], [_report("seed", psnr=46.0)])
    assert "42.29" in text
    assert "| `native`, nih_512, srresnet | 30.00 | 0.9500 | 0.00400 | 0.0200 |" in text
    assert "| `seed`, nih_512, bicubic | 46.00 |" in text


def test_a_report_comes_back_from_its_json():
    report = _report()
    assert Report.from_dict(report.to_dict()).to_dict() == report.to_dict()
    infinite = Report.from_dict(_report(psnr=float("inf")).to_dict())
    assert "psnr" not in infinite.rows[0].figures
