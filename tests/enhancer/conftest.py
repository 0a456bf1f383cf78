"""Small images and a small untrained model, for tests that need no good result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from enhancer.modelfile import write_model
from enhancer.networks.generator import Generator, Tail


@pytest.fixture
def radiograph():
    """Something smooth with structure and noise, float32 [61, 83] in [0, 1]."""
    rng = np.random.default_rng(7)
    rows, columns = np.mgrid[0:61, 0:83].astype(np.float32)
    image = 0.5 + 0.3 * np.sin(rows / 9) * np.cos(columns / 7) + 0.03 * rng.standard_normal((61, 83))
    image[20:30, 40:44] += 0.15
    return np.clip(image, 0, 1).astype(np.float32)


@pytest.fixture
def small_model_file(tmp_path: Path) -> Path:
    """A narrow, shallow generator with weights that do something."""
    torch.manual_seed(3)
    generator = Generator(channels=16, blocks=2)
    with torch.no_grad():
        for tail in generator.tails.values():
            assert isinstance(tail, Tail)
            tail.last.weight.normal_(std=0.05)
    path = tmp_path / "small.safetensors"
    write_model(path, generator, name="small", version="0", channels=16, blocks=2)
    return path
