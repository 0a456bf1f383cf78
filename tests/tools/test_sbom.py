"""The list of what a release is made of names all of it, and a list that does not is found out."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tools import sbom


def _document(names: set[tuple[str, str]], root: str) -> dict[str, Any]:
    return {
        "metadata": {"component": {"bom-ref": root, "name": root, "type": "application"}},
        "components": [
            {"type": "library", "name": name, "version": version, "bom-ref": f"{name}@{version}"}
            for name, version in sorted(names)
        ],
        "dependencies": [{"ref": root, "dependsOn": []}],
    }


@pytest.fixture
def whole() -> dict[str, Any]:
    """A document as the tools make it, of everything that is locked."""
    return sbom.merged(_document(sbom.locked(), "cxr-sr"), _document(set(), "cxr-sr-web"), sbom.models())


def test_a_whole_document_lacks_nothing(whole: dict[str, Any]) -> None:
    assert sbom.missing(whole) == []
    assert {"cxr-sr-web", "srgan", "srresnet", "flask", "torch"} <= {
        part["name"] for part in whole["components"]
    }
    root = next(node for node in whole["dependencies"] if node["ref"] == "cxr-sr")
    assert {"cxr-sr-web", "model:srgan"} <= set(root["dependsOn"])


@pytest.mark.parametrize("name", ["flask", "torch", "vite", "@cornerstonejs/core", "srgan"])
def test_what_is_left_out_or_of_another_version_is_named(whole: dict[str, Any], name: str) -> None:
    without = copy.deepcopy(whole)
    without["components"] = [part for part in whole["components"] if part["name"] != name]
    assert [one.split()[0] for one in sbom.missing(without)] == [name]
    other = copy.deepcopy(whole)
    for part in other["components"]:
        if part["name"] == name:
            part |= {"version": "0", "hashes": []}
    assert [one.split()[0] for one in sbom.missing(other)] == [name]


def test_names_are_compared_as_their_registries_do() -> None:
    document = {"components": [
        {"name": "Flask_Babel", "version": "4.0.0"}, {"group": "@types", "name": "Node", "version": "1"},
    ]}  # fmt: skip
    assert sbom._plain(document["components"][0]) == "flask-babel"
    assert sbom._plain(document["components"][1]) == "@types/node"


def test_the_check_of_a_file_says_what_it_lacks(
    tmp_path: Path, whole: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "made.cdx.json"
    file.write_text(json.dumps(whole))
    monkeypatch.setattr("sys.argv", ["sbom.py", "--check", str(file)])
    assert sbom.main() == 0
    whole["components"] = [part for part in whole["components"] if part["name"] != "flask"]
    file.write_text(json.dumps(whole))
    assert sbom.main() == 1
    assert "does not name flask" in capsys.readouterr().err


def test_the_document_of_this_tree_if_there_is_one_names_all_of_it() -> None:
    made = sbom.ROOT / "dist" / f"cxr-sr-{sbom.version()}.cdx.json"
    if not made.is_file():
        pytest.skip("make sbom has not been run")
    assert sbom.missing(json.loads(made.read_text())) == [], "older than the locks: make sbom"
