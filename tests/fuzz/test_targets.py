"""Whatever parses something from outside ends as it promises, on seeds in which something is wrong."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from tests.faults.sizes import size
from tests.fuzz.targets import TARGETS
from webui import archive

INPUTS = size(60, 4000)
NUMBERS = (
    b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff", b"\x00\x00\x00\x80", b"\xfe\xff\x00\xe0", b"SQ", b"UN",
    b"\\",
)  # fmt: skip


@st.composite
def damaged(draw: Callable[[Any], Any], seeds: list[bytes]) -> bytes:
    """A seed with some bytes changed, cut out, doubled or put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(["byte", "number", "cut", "double", "insert", "end"]))
        if how == "byte":
            data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
        elif how == "number":
            number = draw(st.sampled_from(NUMBERS))
            data[at : at + len(number)] = number
        elif how == "cut":
            del data[at : at + draw(st.integers(1, 64))]
        elif how == "double":
            data[at:at] = data[at : at + draw(st.integers(1, 256))]
        elif how == "insert":
            data[at:at] = draw(st.binary(max_size=24))
        else:
            del data[at:]
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.filterwarnings("ignore")  # libraries tell of every odd value
def test_what_comes_from_outside_is_read_or_refused_as_promised(name):
    target = TARGETS[name]
    seeds = target.seeds()

    @settings(
        max_examples=INPUTS,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(seeds))
    @example(b"")
    def try_it(data: bytes) -> None:
        target.run(data)

    for seed in seeds:
        target.run(seed)
    try_it()


def test_a_zip_member_without_a_name_is_passed_over():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("x", b"no name")
        file.writestr("y", b"a name")
    content = buffer.getvalue()
    nameless = bytearray(content)
    at = content.index(b"PK\x01\x02")  # the directory names each once more, 46 bytes behind its head
    del nameless[at + 46]
    nameless[at + 28] = 0
    end = nameless.rindex(b"PK\x05\x06")
    (size,) = struct.unpack_from("<I", nameless, end + 12)
    struct.pack_into("<I", nameless, end + 12, size - 1)
    found = [member.name for member in archive.members(io.BytesIO(nameless), io.BytesIO, max_bytes=99)]
    assert found == ["y"]
