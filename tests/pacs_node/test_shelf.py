"""The worker reads and writes whole objects, whatever kind of store holds them."""

from __future__ import annotations

import io
from contextlib import contextmanager

import pytest

from db.objects import LocalStore, StoreFull
from pacs_node.errors import GiveUp, TryLater
from pacs_node.shelf import Shelf


class Remote(LocalStore):
    """A store whose objects are no local files."""

    @contextmanager
    def open(self, key):
        with super().open(key) as stream:
            yield io.BytesIO(stream.read())


class Full(LocalStore):
    def put(self, file, kind, suffix=""):
        raise StoreFull("no room")


@pytest.mark.parametrize("kind", [LocalStore, Remote])
def test_an_object_is_at_hand_as_a_file(tmp_path, kind):
    shelf = Shelf(kind(tmp_path))
    stored = shelf.put(lambda path: path.write_bytes(b"image"), "sources", ".dcm")

    with shelf.local(stored.key, stored.sha256) as path:
        assert path.read_bytes() == b"image"

    assert list(shelf.store.spool.iterdir()) == []
    assert stored.size_bytes == 5


def test_a_missing_object_ends_the_job(tmp_path):
    shelf = Shelf(LocalStore(tmp_path))
    stored = shelf.put(lambda path: path.write_bytes(b"image"), "sources", ".dcm")
    shelf.drop(stored)

    with pytest.raises(GiveUp) as why, shelf.local(stored.key, stored.sha256):
        pass
    assert (why.type, why.value.code) == (GiveUp, "source-gone")


def test_a_damaged_object_ends_the_job_before_anybody_reads_it(tmp_path):
    shelf = Shelf(LocalStore(tmp_path))
    stored = shelf.put(lambda path: path.write_bytes(b"image"), "sources", ".dcm")
    file = tmp_path / stored.key
    file.chmod(0o600)
    file.write_bytes(b"imagf")

    with pytest.raises(GiveUp) as why, shelf.local(stored.key, stored.sha256):
        pass
    assert (why.type, why.value.code) == (GiveUp, "source-damaged")


def test_a_full_store_is_tried_again_and_leaves_nothing_in_the_spool(tmp_path):
    shelf = Shelf(Full(tmp_path))

    with pytest.raises(TryLater):
        shelf.put(lambda path: path.write_bytes(b"image"), "results", ".dcm")

    assert list(shelf.store.spool.iterdir()) == []


def test_an_error_of_whoever_writes_is_its_own(tmp_path):
    shelf = Shelf(LocalStore(tmp_path))

    def broken(path):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        shelf.put(broken, "results", ".dcm")
    assert list(shelf.store.spool.iterdir()) == []
