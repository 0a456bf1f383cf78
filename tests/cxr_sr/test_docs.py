from __future__ import annotations

import re

from config.reference import markdown
from cxr_sr.cli import COMMANDS
from tests.peers import ROOT

README = (ROOT / "README.md").read_text()


def test_the_page_of_settings_is_what_the_code_reads():
    """Write it again with: python -c 'from config.reference import markdown; print(markdown(), end="")'"""
    assert markdown() in (ROOT / "docs" / "settings.md").read_text()


def test_the_readme_names_every_command():
    for name in COMMANDS:
        assert f"cxr-sr {name}" in README, name


def test_every_file_that_the_readme_shows_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_the_readme_warns_before_it_explains():
    assert README.index("cleared for diagnosis") < README.index("make demo")
