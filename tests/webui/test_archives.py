"""ZIP archives made to do harm, and files that are two things at once."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from config import Settings
from db.objects import ObjectStore
from tests.webui.conftest import Person, archive, dicom, png


def _linked(target: str) -> bytes:
    """A ZIP whose member is a symbolic link."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        info = zipfile.ZipInfo("link.dcm")
        info.create_system = 3
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(info, target)
    return buffer.getvalue()


def _overlapping(kernel: bytes, members: int) -> bytes:
    """A ZIP whose members all are the same bytes, named many times by its directory."""
    name = b"a.dcm"
    whole = io.BytesIO(archive({name.decode(): kernel}))
    with zipfile.ZipFile(whole) as made:
        info = made.infolist()[0]
        local = whole.getvalue()[: made.start_dir]
    entry = struct.pack(
        "<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 8, 0, 33, info.CRC, info.compress_size, info.file_size,
        len(name), 0, 0, 0, 0, 0, 0,
    ) + name  # fmt: skip
    directory = entry * members
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, members, members, len(directory), len(local), 0)
    return local + directory + end


ODD = {
    "nul": "a\0b.dcm", "dots": "....//....//x.dcm", "drive": "C:..\\..\\x.dcm",
    "share": "\\\\host\\share\\x.dcm",
    "device": "/dev/stdin", "home": "~root/x.dcm", "newline": "a\nb.dcm", "bidi": "\u202egpj.dcm",
    "long": "x" * 4000, "empty": " ", "star": "*?<>|.dcm", "option": "-rf", "variable": "$(id).dcm",
}  # fmt: skip


def _lies_nothing_about(settings: Settings, store: ObjectStore, before: set[Path]) -> bool:
    """Whether new files are where objects are kept, under names of ours, and the spool is empty."""
    new = {path for path in settings.data_dir.parent.rglob("*") if not path.is_dir()} - before
    assert not any(path.is_symlink() for path in new)
    names = "".join(path.name for path in new)
    assert all(settings.data_dir in path.parents for path in new)
    assert all(letter.isalnum() or letter in ".-_" for letter in names), names
    return list(Path(store.spool).iterdir()) == []


@pytest.fixture
def tidy(settings: Settings, store: ObjectStore) -> Callable[[], bool]:
    before = {path for path in settings.data_dir.parent.rglob("*") if not path.is_dir()}
    return lambda: _lies_nothing_about(settings, store, before)


def test_names_within_an_archive_lead_nowhere(anna: Person, tidy: Callable[[], bool]) -> None:
    members = {name: dicom(f"1.2.{number}") for number, name in enumerate(ODD.values(), 1)}
    answer = anna.upload(("study.zip", archive(members)))
    assert answer.status_code in {202, 415, 422}, answer.text
    for job in answer.get_json().get("jobs", []):
        shown = job["file"].removeprefix("study.zip/")
        assert shown.isprintable()
        assert "/" not in shown
        assert len(shown) <= 200
    assert tidy()


@pytest.mark.parametrize("target", ["/etc/passwd", "../../cxr-sr.db", "/proc/self/environ"])
def test_a_link_within_an_archive_is_no_way_to_other_files(
    anna: Person, tidy: Callable[[], bool], target: str
) -> None:
    answer = anna.upload(("study.zip", _linked(target)))
    assert answer.status_code == 415
    assert "root:" not in answer.text
    assert tidy()


def test_members_that_share_their_bytes_cannot_multiply_them(
    anna: Person, tidy: Callable[[], bool], settings: Settings
) -> None:
    kernel = dicom() + bytes(settings.web.max_upload_bytes // 4)
    bomb = _overlapping(kernel, 500)
    assert len(bomb) < 100_000
    answer = anna.upload(("bomb.zip", bomb))
    assert answer.status_code in {413, 422}
    assert tidy()
    assert anna.upload(("good.dcm", dicom("1.2.9"))).status_code == 202


def test_an_archive_within_an_archive_stays_closed(anna: Person, tidy: Callable[[], bool]) -> None:
    inner = archive({"a.dcm": dicom()})
    for _ in range(3):
        inner = archive({"inner.zip": inner, "hidden.dcm": inner})
    answer = anna.upload(("outer.zip", inner))
    assert answer.status_code == 415
    assert tidy()


def test_damaged_archives_of_every_length_are_answered(anna: Person, tidy: Callable[[], bool]) -> None:
    whole = archive({"a.dcm": dicom(), "b.png": png()})
    for cut in range(4, len(whole), 23):
        assert anna.upload(("cut.zip", whole[:cut])).status_code in {413, 415, 422}, cut
    for at in range(0, len(whole), 17):
        broken = bytearray(whole)
        broken[at] ^= 0xFF
        assert anna.upload(("odd.zip", bytes(broken))).status_code in {202, 413, 415, 422}, at
    assert tidy()


@pytest.mark.parametrize(
    ("name", "content", "kept"),
    [
        ("x-ray.dcm", png(), "image/png"),
        ("x-ray.png", dicom(), "application/dicom"),
        ("page.html", png() + b"<script>alert(1)</script>", "image/png"),
        ("image.gif", b"\xff\xd8\xff\xe0" + b"<html><script>alert(1)</script>", "image/jpeg"),
        ("both.zip", dicom() + archive({"a.dcm": dicom("1.2.9")}), "application/dicom"),
        ("tiff.dcm", b"II*\0" + bytes(124) + dicom()[128:], "application/dicom"),
    ],
)  # fmt: skip
def test_a_file_is_what_its_bytes_say_and_one_thing_alone(
    anna: Person, root: Person, name: str, content: bytes, kept: str
) -> None:
    answer = anna.upload((name, content))
    assert answer.status_code == 202
    (job,) = answer.get_json()["jobs"]
    said = anna.get(f"/api/v1/jobs/{job['id']}").get_json()
    assert kept in str(said)


@pytest.mark.parametrize(
    "content",
    [b"<html><script>alert(1)</script>", b"<svg onload=alert(1)>", b"%PDF-1.7", b"MZ\x90\0", b"\x7fELF",
     b"#!/bin/sh\n", b"GIF89a" + b"\0" * 50, b"\x1f\x8b\x08" + b"\0" * 50, b"Rar!\x1a\x07",
     b"7z\xbc\xaf\x27\x1c",
     b" \x89PNG\r\n\x1a\n", b"\0" * 128 + b"dicm" + b"\0" * 50],
)  # fmt: skip
def test_what_is_no_image_is_refused_whatever_it_is_called(anna: Person, content: bytes) -> None:
    for name in ("image.png", "image.dcm"):
        assert anna.upload((name, content)).status_code == 415
