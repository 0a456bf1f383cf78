"""What every object store must do, and what the one of local files does beneath it."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from db import objects
from db.objects import LocalStore, ObjectMissing, ObjectStore, StoreError, StoreFull, new_key, open_store

CONTENT = bytes(range(256)) * 5000
LATER = timedelta(hours=1)


@pytest.fixture(params=["local"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """Each kind of store in turn, empty."""
    return {"local": lambda: LocalStore(tmp_path / "objects")}[request.param]()


@pytest.fixture
def spooled(any_store: ObjectStore) -> Path:
    """A file that a door has written."""
    file = any_store.spool / "arrival"
    file.write_bytes(CONTENT)
    return file


class TestEveryStore:
    def test_an_object_is_read_as_it_was_put(self, any_store, spooled):
        stored = any_store.put(spooled, "sources", ".dcm")
        assert stored.sha256 == hashlib.sha256(CONTENT).hexdigest() == any_store.digest(stored.key)
        assert stored.size_bytes == len(CONTENT)
        with any_store.open(stored.key) as stream:
            assert stream.read() == CONTENT

    def test_a_range_of_an_object_can_be_read(self, any_store, spooled):
        stored = any_store.put(spooled, "sources")
        with any_store.open(stored.key) as stream:
            stream.seek(1000)
            assert stream.read(10) == CONTENT[1000:1010]

    def test_the_file_is_gone_when_the_object_is_there(self, any_store, spooled):
        any_store.put(spooled, "sources")
        assert not spooled.exists()

    def test_equal_objects_lie_under_keys_of_their_own(self, any_store):
        keys = set()
        for name in ("one", "two"):
            file = any_store.spool / name
            file.write_bytes(CONTENT)
            keys.add(any_store.put(file, "sources").key)
        assert len(keys) == 2

    def test_a_key_says_the_kind_and_nothing_of_the_file(self, any_store):
        file = any_store.spool / "DOE^JOHN.dcm"
        file.write_bytes(b"x")
        key = any_store.put(file, "previews", ".png").key
        assert key.startswith("previews/")
        assert key.endswith(".png")
        assert "DOE" not in key

    def test_an_empty_object_is_one_too(self, any_store):
        file = any_store.spool / "empty"
        file.touch()
        stored = any_store.put(file, "sources")
        assert stored.size_bytes == 0
        assert any_store.digest(stored.key) == hashlib.sha256().hexdigest()

    def test_a_deleted_object_is_missing_and_deleting_it_again_is_no_fault(self, any_store, spooled):
        key = any_store.put(spooled, "sources").key
        any_store.delete(key)
        any_store.delete(key)
        with pytest.raises(ObjectMissing), any_store.open(key):
            pass
        with pytest.raises(ObjectMissing):
            any_store.digest(key)

    @pytest.mark.parametrize(
        "key",
        ["", "/etc/passwd", "../../etc/passwd", "sources/../../x", new_key("sources") + "\n", "sources/00/"],
    )
    def test_what_is_no_key_is_never_reached(self, any_store, key):
        with pytest.raises(ObjectMissing), any_store.open(key):
            pass
        with pytest.raises(ObjectMissing):
            any_store.delete(key)

    @pytest.mark.parametrize(
        ("kind", "suffix"), [("", ".dcm"), ("../x", ""), ("sources", "/../x"), ("a", ".DOE^")]
    )
    def test_a_key_is_not_made_of_anything_else(self, any_store, spooled, kind, suffix):
        with pytest.raises(ValueError, match="expected a kind"):
            any_store.put(spooled, kind, suffix)
        assert spooled.exists()

    def test_the_keys_older_than_a_time_are_listed(self, any_store, spooled):
        key = any_store.put(spooled, "sources").key
        now = datetime.now(UTC)
        assert list(any_store.keys(now + LATER)) == [key]
        assert list(any_store.keys(now - LATER)) == []

    def test_an_object_is_as_old_as_its_storing_not_as_its_file(self, any_store, spooled):
        os.utime(spooled, (0, 0))
        any_store.put(spooled, "sources")
        assert list(any_store.keys(datetime.now(UTC) - LATER)) == []

    def test_spooled_files_are_no_objects(self, any_store, spooled):
        assert list(any_store.keys(datetime.now(UTC) + LATER)) == []

    def test_a_file_that_is_not_there_is_an_error_of_the_store(self, any_store):
        with pytest.raises(StoreError):
            any_store.put(any_store.spool / "nothing", "sources")

    def test_the_room_left_is_known_or_none(self, any_store):
        room = any_store.room()
        assert room.free_bytes is None or 0 <= room.free_bytes <= room.total_bytes


class TestLocalStore:
    def test_bytes_are_synced_before_the_name_appears_and_the_folder_after(self, store, monkeypatch):
        file = store.spool / "arrival"
        file.write_bytes(b"x")
        steps: list[tuple[str, Path]] = []
        sync, replace = os.fsync, Path.replace

        def fsync(descriptor: int) -> None:
            steps.append(("sync", Path(f"/proc/self/fd/{descriptor}").resolve()))
            sync(descriptor)

        def rename(self: Path, target: Path) -> Path:
            steps.append(("name", target))
            return replace(self, target)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "replace", rename)
        target = store.root / store.put(file, "sources", ".dcm").key
        assert steps == [
            ("sync", file),
            ("sync", store.root.parent.parent),  # the data folder
            ("sync", store.root.parent),  # the folder of the store
            ("sync", store.root),  # the new folder `sources`
            ("sync", store.root / "sources"),  # the new folder below it
            ("name", target),
            ("sync", target.parent),
        ]

    def test_a_folder_that_another_process_made_is_synced_once_more(self, store, monkeypatch):
        monkeypatch.setattr(objects, "new_key", lambda kind, suffix: f"{kind}/00/{uuid.uuid4().hex}")
        for each in (LocalStore(store.root), store):
            file = each.spool / "arrival"
            file.write_bytes(b"x")
            synced: list[Path] = []
            monkeypatch.setattr(objects, "sync_folder", synced.append)
            each.put(file, "sources")
            assert synced[-3:] == [store.root, store.root / "sources", store.root / "sources" / "00"]

    def test_the_folder_of_the_store_and_the_one_around_it_are_synced_too(self, tmp_path, monkeypatch):
        store = LocalStore(tmp_path / "data" / "objects")
        file = store.spool / "arrival"
        synced: list[Path] = []
        monkeypatch.setattr(objects, "sync_folder", synced.append)
        for _ in range(2):
            file.write_bytes(b"x")
            store.put(file, "sources")
        assert synced[:2] == [tmp_path, tmp_path / "data"]
        assert synced.count(tmp_path) == synced.count(tmp_path / "data") == 1

    def test_when_the_folder_cannot_be_synced_the_file_is_back_and_nothing_looks_stored(
        self, store, monkeypatch
    ):
        file = store.spool / "arrival"
        file.write_bytes(b"x")
        store.put(file, "sources")
        file.write_bytes(b"y")

        def broken(folder: Path) -> None:
            if folder.parent.name == "sources":
                raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(objects, "sync_folder", broken)
        with pytest.raises(StoreError, match="Input/output error"):
            store.put(file, "sources")
        assert file.read_bytes() == b"y"
        assert len(list(store.keys(datetime.now(UTC) + LATER))) == 1

    @pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
    def test_a_full_disk_is_told_from_other_faults(self, store, monkeypatch, number):
        file = store.spool / "arrival"
        file.write_bytes(b"x")

        def full(*_: object) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StoreFull):
            store.put(file, "sources")
        assert file.exists()

    def test_nothing_is_taken_when_the_reserve_would_be_touched(self, tmp_path):
        store = LocalStore(tmp_path, reserve_bytes=1 << 62)
        file = store.spool / "arrival"
        file.write_bytes(b"x")
        with pytest.raises(StoreFull, match="kept in reserve"):
            store.put(file, "sources")
        assert file.exists()

    def test_a_file_of_another_file_system_is_copied_in(self, store, tmp_path, monkeypatch):
        file = tmp_path / "elsewhere"
        file.write_bytes(CONTENT)
        replace = Path.replace

        def across(self: Path, target: Path) -> Path:
            if self == file:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", across)
        stored = store.put(file, "results")
        assert store.digest(stored.key) == stored.sha256
        assert not file.exists()
        assert list(store.spool.iterdir()) == []

    def test_objects_and_folders_are_for_their_owner_alone(self, tmp_path):
        store = LocalStore(tmp_path / "var" / "objects")
        file = store.spool / "arrival"
        file.write_bytes(b"x")
        path = store.root / store.put(file, "sources").key
        assert stat.S_IMODE(path.stat().st_mode) == 0o400
        for folder in (path.parent, path.parent.parent, store.root, store.spool, tmp_path / "var"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    def test_a_store_that_cannot_be_made_says_so(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(StoreError, match="cannot be made"):
            LocalStore(tmp_path / "file" / "objects")


def test_a_store_is_opened_by_its_url_with_spaces_and_percent_signs(tmp_path):
    store = open_store(f"file://{tmp_path}/a%20b%25", reserve_bytes=7)
    assert isinstance(store, LocalStore)
    assert store.root == tmp_path / "a b%"
    assert store.reserve_bytes == 7


def test_a_store_of_an_unknown_kind_is_refused():
    with pytest.raises(StoreError, match="'ftp'"):
        open_store("ftp://host/folder")
