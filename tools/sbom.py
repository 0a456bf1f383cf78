"""Write what a release is made of as a CycloneDX document, or check that a document names all of it.

The Python packages come from the runtime's lock by cyclonedx-bom, those of the front end from its lock by
npm, the models from the files themselves. ``cyclonedx-py`` is expected in the environment that ``--tools``
names.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FRONT_END = ROOT / "webui" / "frontend"
WEIGHTS = ROOT / "enhancer" / "weights"
LOCKS = ("runtime.txt", "torch.txt")

Document = dict[str, Any]


def locked() -> set[tuple[str, str]]:
    """Name and version of every package that a running node has: Python's, and the front end's."""
    found = set()
    for lock in LOCKS:
        text = (ROOT / "requirements" / lock).read_text()
        found |= set(re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.M))
    packages = json.loads((FRONT_END / "package-lock.json").read_text())["packages"]
    for path, about in packages.items():
        if path and not about.get("optional"):  # an optional one is of another machine's kind
            found.add((path.rpartition("node_modules/")[2], about["version"]))
    return found


def models() -> list[Document]:
    """The shipped models, each with the digest of its file."""
    return [
        {
            "type": "machine-learning-model",
            "bom-ref": f"model:{path.stem}",
            "name": path.stem,
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}],
        }
        for path in sorted(WEIGHTS.glob("*.safetensors"))
    ]


def merged(python: Document, front_end: Document, weights: list[Document]) -> Document:
    """One document of all; the root is that of the Python part."""
    whole = dict(python)
    root = python["metadata"]["component"]["bom-ref"]
    own = front_end["metadata"]["component"]
    parts = [*python.get("components", []), own, *front_end.get("components", []), *weights]
    whole["components"] = sorted(parts, key=lambda part: (part["type"], part["name"], part["bom-ref"]))
    needs = {
        node["ref"]: node for node in (*python.get("dependencies", []), *front_end.get("dependencies", []))
    }
    of_root = set(needs.get(root, {}).get("dependsOn", []))
    of_root |= {own["bom-ref"], *(model["bom-ref"] for model in weights)}
    needs[root] = {"ref": root, "dependsOn": sorted(of_root)}
    whole["dependencies"] = [needs[ref] for ref in sorted(needs)]
    return whole


def missing(document: Document) -> list[str]:
    """What the locks and the models hold and the document does not name."""
    named = {(_plain(part), str(part.get("version", ""))) for part in document.get("components", [])}
    lacking = [
        f"{name} {version}" for name, version in sorted(locked()) if (_spelt(name), version) not in named
    ]
    digests = {one["content"] for part in document.get("components", []) for one in part.get("hashes", [])}
    return lacking + [model["name"] for model in models() if model["hashes"][0]["content"] not in digests]


def _plain(part: Document) -> str:
    """A component's name as its lock spells it: npm's have a group."""
    return _spelt(f"{part['group']}/{part['name']}" if part.get("group") else part["name"])


def _spelt(name: str) -> str:
    return name.lower() if "/" in name else re.sub(r"[-_.]+", "-", name).lower()


def version() -> str:
    """The version of the release."""
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def made(tools: Path) -> Document:
    """The document of this tree. Raises CalledProcessError when one of the tools fails."""
    with tempfile.TemporaryDirectory() as folder:
        lock, output = Path(folder) / "lock.txt", Path(folder) / "python.json"
        lock.write_text("".join((ROOT / "requirements" / name).read_text() for name in LOCKS))
        command = [str(tools / "bin" / "cyclonedx-py"), "requirements", str(lock), "--output-reproducible"]
        command += ["--pyproject", str(ROOT / "pyproject.toml"), "--of", "JSON", "-o", str(output)]
        subprocess.run(command, check=True)
        python = json.loads(output.read_text())
    npm = ["npm", "sbom", "--sbom-format", "cyclonedx", "--package-lock-only"]
    front_end = subprocess.run(npm, cwd=FRONT_END, check=True, stdout=subprocess.PIPE, text=True).stdout
    return merged(python, json.loads(front_end), models())


def main() -> int:
    """Write or check; exit status 1 names what the document lacks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", type=Path, help="environment with cyclonedx-bom; writes the document")
    parser.add_argument("--check", type=Path, help="look at this document instead")
    chosen = parser.parse_args()
    if chosen.check is not None:
        document, target = json.loads(chosen.check.read_text()), chosen.check
    elif chosen.tools is not None:
        document = made(chosen.tools)
        target = ROOT / "dist" / f"cxr-sr-{version()}.cdx.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(document, indent=1) + "\n")
    else:
        parser.error("say --tools or --check")
    lacking = missing(document)
    for one in lacking:
        print(f"{target.name} does not name {one}", file=sys.stderr)
    print(f"{target}: {len(document['components'])} components", file=sys.stderr)
    return 1 if lacking else 0


if __name__ == "__main__":
    sys.exit(main())
