"""A worker loads the models that are configured or shipped, once, and nothing else."""

from __future__ import annotations

import pytest

import enhancer
from config import Settings
from config.settings import EnhancerSettings, Rule
from enhancer import IdentityModel, ModelFileError
from pacs_node.models import Models


@pytest.fixture
def loaded(monkeypatch):
    names: list[str] = []

    def load(name, device):
        names.append(name)
        return IdentityModel()

    monkeypatch.setattr(enhancer, "load", load)
    return names


def test_each_model_is_loaded_once(loaded):
    models = Models(Settings())

    assert models.get("srgan") is models.get("srgan")
    assert loaded == ["srgan"]


def test_models_of_rules_and_settings_may_be_paths(loaded):
    models = Models(
        Settings(
            enhancer=EnhancerSettings(model="/models/own.safetensors"),
            rules=(Rule(name="r", model="/models/other.safetensors"),),
        )
    )

    models.get("/models/own.safetensors")
    models.get("/models/other.safetensors")
    assert len(loaded) == 2


def test_nobody_can_make_a_worker_load_another_file(loaded):
    with pytest.raises(ModelFileError):
        Models(Settings()).get("/tmp/planted.safetensors")
    assert loaded == []
