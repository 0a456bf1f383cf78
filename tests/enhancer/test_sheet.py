from __future__ import annotations

import numpy as np
from PIL import Image

from enhancer import sheet


def test_a_sheet_shows_bicubic_each_model_and_the_truth(tmp_path, small_model_file, capsys):
    for index in range(3):
        noise = np.random.default_rng(index).integers(0, 256, (40, 40), dtype=np.uint8)
        Image.fromarray(noise).resize((300, 300), Image.Resampling.BICUBIC).save(tmp_path / f"{index}.png")
    out = tmp_path / "sheet.bmp"
    arguments = [str(out), "--data", str(tmp_path), "--models", str(small_model_file), "--count", "2"]
    assert sheet.main([*arguments, "--device", "cpu"]) == 0
    with Image.open(out) as image:
        assert image.size == (3 * 128 * 3, 2 * 128 * 3)


def test_a_sheet_of_nothing_says_so(tmp_path, capsys):
    assert sheet.main([str(tmp_path / "out.png"), "--data", str(tmp_path / "none")]) == 1
    assert "not a folder" in capsys.readouterr().err
