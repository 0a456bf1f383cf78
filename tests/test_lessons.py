"""The page of lessons names tests that exist, and leaves no line without one."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.peers import ROOT

PAGE = (ROOT / "docs" / "lessons.md").read_text()
LINES = [line for line in PAGE.splitlines() if line.startswith("| ") and "--- |" not in line][1:]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text())
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_"
    )


@pytest.mark.parametrize(("file", "name"), NAMED, ids=[name for _, name in NAMED])
def test_a_test_that_the_page_names_exists(file: str, name: str) -> None:
    assert (ROOT / file).is_file()
    assert name in names_in(file)


def test_every_thread_has_a_test() -> None:
    assert len(LINES) == 34
    assert [line.split("|")[1].strip() for line in LINES if "::test_" not in line] == []


def test_every_test_that_is_named_for_a_thread_stands_on_the_page() -> None:
    threads = "|".join(
        ("adit", "cornerstone", "dcm4chee", "dicomhawk", "fo_dicom", "karnak", "mercure", "pynetdicom")
    )
    named = {name for _, name in NAMED}
    for file in (ROOT / "tests").rglob("test_*.py"):
        for name in names_in(str(file.relative_to(ROOT))):
            if re.match(rf"test_({threads})_\d+_", name):
                assert name in named, name
