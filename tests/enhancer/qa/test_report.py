from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from enhancer.errors import DataError
from enhancer.model import IdentityModel
from enhancer.qa.assess import STEPS, assess, pictures
from enhancer.qa.plots import Curve, plot, ticks
from enhancer.qa.report import SUMMARY, summary, write


@pytest.fixture(scope="module")
def found():
    steps = []
    result = assess(
        IdentityModel(),
        [],
        4,
        step=lambda: steps.append(1),
        others={"oracle": lambda made: made.truth},
    )
    assert len(steps) == 3 * STEPS
    return result


def test_a_report_is_a_page_with_its_plots_and_json(found, tmp_path):
    page = write(found, tmp_path / "out")
    text = page.read_text()
    for name in ("sharpness.png", "noise.png", "bars.png"):
        assert f"({name})" in text
        with Image.open(page.parent / name) as picture:
            assert picture.size == (640, 400)
    values = json.loads((page.parent / "report.json").read_text())
    assert values["digest"] == IdentityModel().info.digest
    assert values["methods"].keys() == {"bicubic", "identity", "oracle"}
    assert values["methods"]["oracle"]["sharpness"]["half"] == pytest.approx(0.5, abs=0.01)


def test_the_summary_has_a_row_a_test_and_a_column_a_method(found):
    lines = summary(found).splitlines()
    assert lines[2] == "| | bicubic | identity | oracle |"
    assert len(lines) == 4 + len(SUMMARY)
    bicubic, identity = ([line.split(" | ")[index] for line in lines[4:]] for index in (1, 2))
    assert bicubic == identity, "the identity enlarges by bicubic"
    assert any("text: recovered" in line and line.endswith("| 1.00 / 0.00 |") for line in lines)


def test_findings_are_planted_in_pictures_of_dev_patients_alone(tmp_path):
    (tmp_path / "val" / "nih_512").mkdir(parents=True)
    rows = ["file,split,patient"]
    for index in range(8):
        path = tmp_path / "val" / "nih_512" / f"{index}.png"
        Image.fromarray(np.full((300, 300), 10 * index, np.uint8)).save(path)
        rows.append(f"val/nih_512/{index}.png,val,patient {index}")
    (tmp_path / "SOURCES.csv").write_text("\n".join(rows) + "\n")
    from enhancer.data import half_of

    dev = [index for index in range(8) if half_of(f"patient {index}") == "dev"]
    assert 1 < len(dev) < 8
    shown = pictures(tmp_path / "val", 8)
    assert [round(float(image[0, 0]) * 25.5) for image in shown] == dev
    assert shown[0].shape == (256, 256)
    assert len(pictures(tmp_path, 1)) == 1
    with pytest.raises(DataError):
        pictures(tmp_path.parent / "none", 1)


def test_a_plot_draws_every_curve_in_a_colour_of_its_own():
    picture = plot("t", "x", [Curve("a", [0, 1], [0, 1]), Curve("b", [0, 1], [1, 0], marked=True)], limit=0.5)
    colours = {colour for _, colour in picture.getcolors(1 << 20)}
    assert {(110, 110, 110), (0, 90, 181)} <= colours


def test_ticks_are_round_and_within_the_range():
    assert ticks(0.5) == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert ticks(27.3) == [0, 5, 10, 15, 20, 25]
    assert ticks(1.05)[-1] == 1
