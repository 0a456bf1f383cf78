"""Folders for their owner alone that a power cut does not take."""

from __future__ import annotations

import stat
from pathlib import Path

from db import files


def test_a_new_folder_is_for_its_owner_alone_and_each_name_on_the_way_is_synced(tmp_path, monkeypatch):
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync_folder", synced.append)
    files.private_folder(tmp_path / "data" / "objects")
    assert synced == [tmp_path, tmp_path / "data"]
    assert stat.S_IMODE((tmp_path / "data" / "objects").stat().st_mode) == 0o700


def test_a_folder_that_is_there_stays_as_it_is(tmp_path, monkeypatch):
    tmp_path.chmod(0o755)
    monkeypatch.setattr(files, "sync_folder", None)
    files.private_folder(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
