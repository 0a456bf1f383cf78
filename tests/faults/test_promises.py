"""The pages of promises and hazards name tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.peers import ROOT

HERE = Path(__file__).parent
NAMED = re.compile(r"`(test_\w+\.py)(?:::(\w+))?`")


@pytest.mark.parametrize("page", ["README.md", "HAZARDS.md"])
def test_every_test_that_a_page_names_exists(page):
    named = NAMED.findall((HERE / page).read_text())
    assert named
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not any(not test or f"def {test}(" in path.read_text() for path in (ROOT / "tests").rglob(file))
    ]
    assert missing == []
