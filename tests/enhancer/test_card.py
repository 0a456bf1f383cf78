from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from enhancer import card, modelfile
from enhancer.errors import EnhancerError


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
    (folder / "small.md").write_text(f"# Small\n\n{card.BEGIN}\nold\n{card.END}\n\nWhat I saw.\n")
    (tmp_path / "val").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(noise).resize((300, 300), Image.Resampling.BICUBIC).save(tmp_path / "val" / "a.png")
    (tmp_path / "SOURCES.csv").write_text("file,split,patient\nval/a.png,val,patient 4\n")
    monkeypatch.setattr(card, "RUNS", (("native", 4, "all"), ("native", 2, "all")))
    return folder


def test_a_card_is_filled_between_its_marks_and_nowhere_else(shipped, tmp_path, capsys):
    assert card.main(["small", "--data", str(tmp_path / "val"), "--device", "cpu"]) == 0
    text = (shipped / "small.md").read_text()
    assert text.startswith("# Small\n")
    assert text.endswith("What I saw.\n")
    assert "old" not in text
    assert text.count("| bicubic |") == text.count("| small |") == 2
    assert modelfile.committed_digests()["small"] in text
    assert "| bicubic |" in capsys.readouterr().out


def test_a_card_without_marks_is_left_alone(shipped, tmp_path, capsys):
    (shipped / "small.md").write_text("# Small\n")
    assert card.main(["small", "--data", str(tmp_path / "val")]) == 1
    assert "marks" in capsys.readouterr().err
    assert (shipped / "small.md").read_text() == "# Small\n"


def test_marks_are_needed():
    with pytest.raises(EnhancerError, match="marks"):
        card.filled(f"{card.BEGIN} without an end", "x")
