"""The reserve: what is kept free, for whom, and how it is found out that nothing can be written."""

from __future__ import annotations

import errno
import os

import pytest

from config import Settings
from db.objects import LocalStore, Room, StoreFull, store_of


@pytest.fixture
def disk(monkeypatch):
    """A file system of 10,000 bytes; returns a function that says how many are free."""
    free = [10_000]

    class Usage:
        total = 10_000

        @property
        def free(self) -> int:
            return free[0]

    monkeypatch.setattr("db.objects.shutil.disk_usage", lambda _path: Usage())

    def set_free(number: int) -> None:
        free[0] = number

    return set_free


@pytest.fixture
def arrived(tmp_path):
    """A store with 1,000 bytes in reserve, and a function that puts a file of a kind into it."""
    store = LocalStore(tmp_path / "objects", reserve_bytes=1000)

    def put(kind: str) -> str:
        file = store.spool / "arrival"
        file.write_bytes(b"x")
        return store.put(file, kind).key

    return store, put


@pytest.mark.parametrize(("given", "percent", "kept"), [(100, 5.0, 500), (700, 5.0, 700), (0, 0.0, 0)])
def test_the_larger_count_of_the_reserve_holds(tmp_path, disk, given, percent, kept):
    store = LocalStore(tmp_path, reserve_bytes=given, reserve_percent=percent)
    assert store.room() == Room(10_000, 10_000, kept)
    disk(kept)
    assert store.room().accepts
    if kept:
        disk(kept - 1)
        assert not store.room().accepts


def test_a_node_keeps_both_counts_of_its_settings(tmp_path):
    settings = Settings(data_dir=tmp_path, storage={"reserve_bytes": 7, "reserve_percent": 2.5})
    store = store_of(settings)
    assert isinstance(store, LocalStore)
    assert (store.reserve_bytes, store.reserve_percent) == (7, 2.5)
    assert Settings(data_dir=tmp_path).storage.reserve_percent == 1.0


def test_what_was_accepted_is_finished_out_of_the_reserve_while_nothing_new_comes_in(arrived, disk):
    _store, put = arrived
    disk(999)
    with pytest.raises(StoreFull, match="1000 are kept in reserve"):
        put("sources")
    assert put("results").startswith("results/")
    disk(499)
    with pytest.raises(StoreFull, match="500 are kept in reserve"):
        put("results")


def test_a_store_says_why_it_takes_nothing(arrived, disk, monkeypatch):
    store, _put = arrived
    assert store.refuses() is None
    disk(600)
    assert "kept in reserve" in store.refuses()
    assert store.refuses(kind="results") is None

    def over_quota(*_args: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "posix_fallocate", over_quota)
    assert store.refuses(kind="results") == os.strerror(errno.EDQUOT)
    assert list(store.spool.iterdir()) == []
