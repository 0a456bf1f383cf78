"""The settings themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from config import Settings
from config.load import PREFIX


def test_settings_made_by_hand_do_not_depend_on_the_environment(monkeypatch):
    monkeypatch.setenv(f"{PREFIX}DICOM__PORT", "1")
    assert Settings().dicom.port == 11112


def test_settings_cannot_be_changed():
    settings = Settings()
    with pytest.raises(ValidationError):
        settings.data_dir = Path("x")  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.dicom.port = 1  # type: ignore[misc]


def test_a_folder_with_odd_characters_makes_addresses_that_can_be_read_back(tmp_path):
    settings = Settings(data_dir=tmp_path / "a b%20#")
    assert settings.storage_url == f"file://{tmp_path}/a%20b%2520%23/objects"
    assert settings.database_url == f"sqlite:///{tmp_path}/a b%20#/cxr-sr.db"


def test_an_address_without_the_folder_stays_as_it_is():
    settings = Settings(
        database={"url": "postgresql+psycopg://u:p@h/n"}, storage={"url": "s3://bucket/prefix"}
    )
    assert settings.database_url == "postgresql+psycopg://u:p@h/n"
    assert settings.storage_url == "s3://bucket/prefix"
