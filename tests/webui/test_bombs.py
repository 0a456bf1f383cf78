"""What promises or hides far more than it is costs the pages little: its header is read within bounds."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from db.objects import ObjectStore
from tests.pacs_node.bombs import BOMBS, spliced
from webui.dicomweb import header, jsonmodel

NAMES = [
    "millions of items", "millions of items in a stated length", "100,000 deep",
    "an item without end", "a sequence without end", "two million numbers",
    "fragments without number", "pixels of 4 GiB announced", "sequences that fill the header",
]  # fmt: skip
MIB = 64


def peak() -> int:
    """The most resident memory of this process since it was last set back, in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


@pytest.mark.parametrize("name", NAMES)
def test_a_bomb_is_told_within_bounds_or_as_unreadable(tmp_path, name):
    path = BOMBS[name].write(tmp_path / "bomb")

    class One:
        """A store of this one object."""

        spool = tmp_path

        def open(self, _key: str) -> BinaryIO:
            return cast(BinaryIO, path.open("rb"))

    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    with contextlib.suppress(header.Unreadable):
        with header.opened(cast(ObjectStore, One()), "a") as found:
            model = jsonmodel.of_header(found, lambda where: where)
            assert "00080016" in model
    with contextlib.suppress(header.Unreadable), path.open("rb") as stream:
        header.study_of(stream)
    assert peak() - before < MIB * 1024


def test_an_item_without_end_is_unreadable(tmp_path):
    path = BOMBS["an item without end"].write(tmp_path / "a")
    with path.open("rb") as stream, pytest.raises(header.Unreadable):
        header.study_of(stream)


def test_an_element_of_no_vr_at_all_is_left_out_of_what_is_shown():
    ds = Dataset()
    tag = BaseTag(0x00540220)
    ds[tag] = RawDataElement(tag, "0x53 0xbf", 9, None, 0, False, True)
    assert jsonmodel.attribute(ds, tag) is None


def test_a_study_uid_of_no_vr_at_all_is_unreadable(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(spliced(b"").replace(b"\x20\x00\x0d\x00UI", b"\x20\x00\x0d\x00U@"))
    with path.open("rb") as stream, pytest.raises(header.Unreadable):
        header.study_of(stream)
