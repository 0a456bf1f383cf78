from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from webui.multipart import MAX_HEAD_BYTES, MAX_PARTS, Malformed, parts


class Slow(io.BytesIO):
    """Hands out a few bytes at a time, as networks do."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 7, 7))


def _read(body: bytes, boundary: str = "bound") -> list[tuple[str, bytes]]:
    return [(part.media_type, part.file.getvalue()) for part in parts(Slow(body), boundary, io.BytesIO)]


def _body(*contents: bytes, boundary: str = "bound") -> bytes:
    made = b"".join(
        f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + content + b"\r\n"
        for content in contents
    )
    return made + f"--{boundary}--\r\n".encode()


def test_each_part_comes_with_its_type() -> None:
    assert _read(_body(b"one", b"")) == [("application/dicom", b"one"), ("application/dicom", b"")]


def test_preamble_epilogue_padding_and_missing_headers_are_borne() -> None:
    body = b"a preamble\r\n--bound \t\r\n\r\nbody\r\n--bound--\r\nan epilogue"
    assert _read(body) == [("", b"body")]


def test_parameters_of_the_type_are_left_out() -> None:
    body = (
        b'--bound\r\ncontent-type: Application/DICOM; transfer-syntax="1.2"\r\nX: y\r\n\r\nbody\r\n--bound--'
    )
    assert _read(body) == [("application/dicom", b"body")]


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_any_bytes_come_through_unchanged(contents: list[bytes]) -> None:
    boundary = "unlikely-to-occur-0123456789"
    assert [content for _kind, content in _read(_body(*contents, boundary=boundary), boundary)] == contents


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no boundary at all",
        b"--bound\r\nContent-Type: application/dicom\r\n\r\ncut",
        b"--bound\r\nContent-Ty",
        b"--bound nonsense\r\n\r\nbody\r\n--bound--",
        b"--bound\r\nX: " + b"x" * (MAX_HEAD_BYTES + 100) + b"\r\n\r\nbody\r\n--bound--",
    ],
)
def test_a_damaged_body_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        _read(body)


@pytest.mark.parametrize("boundary", ["", "x" * 71])
def test_a_boundary_of_impossible_length_is_refused(boundary: str) -> None:
    with pytest.raises(Malformed):
        _read(_body(b"one"), boundary)


def test_too_many_parts_are_refused() -> None:
    body = _body(*([b""] * (MAX_PARTS + 1)))
    with pytest.raises(Malformed):
        list(parts(io.BytesIO(body), "bound", io.BytesIO))
