"""A folder without configuration and an environment without our variables."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from config import Settings, load_settings


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, empty."""
    for name in list(os.environ):
        if name.upper().startswith("CXR_SR_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def load(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Load settings from the text of a file `node.toml` and variables."""

    def act(toml: str = "", **variables: str) -> Settings:
        file = folder / "node.toml"
        file.write_text(toml)
        for name, value in variables.items():
            monkeypatch.setenv(f"CXR_SR_{name}", value)
        return load_settings(Path("node.toml"))

    return act
