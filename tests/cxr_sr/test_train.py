"""`cxr-sr train` as its user starts and stops it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from enhancer.trainingset import is_kept_apart

RECIPE = """
stage = "fidelity"
name = "toy"
data = "{data}"
out = "{out}"
iterations = 100000
batch = 1
patch = 8
channels = 4
blocks = 1
device = "cpu"
precision = "float32"
large_share = 0.0
check_every = 100000
"""


@pytest.fixture
def config(tmp_path):
    """A long run on a folder of noise, some of it kept apart."""
    folder = tmp_path / "images"
    folder.mkdir()
    kept = next(name for name in (f"{n}.png" for n in range(1000)) if is_kept_apart(name))
    for name in (kept, "trained.png", "trained too.png"):
        pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    path = tmp_path / "toy.toml"
    path.write_text(RECIPE.format(data=folder, out=tmp_path / "out"))
    return path


def test_a_terminated_run_saves_itself_and_says_how_to_go_on(config, tmp_path):
    command = [sys.executable, "-m", "cxr_sr", "train", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as run:
        deadline = time.monotonic() + 120
        while not (tmp_path / "out" / "toy" / "tensorboard").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(0.5)
        run.send_signal(signal.SIGTERM)
        _, said = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "--resume goes on from there" in said
    assert "Traceback" not in said
    assert (tmp_path / "out" / "toy" / "checkpoint.pt").is_file()
