"""Write requirements/runtime.txt and requirements/dev.txt from pyproject.toml, and requirements/release.txt.

torch stays out of the locks: it is installed first, by the version in requirements/torch.txt, so that a
machine can take the build that fits it (CPU, CUDA). What every build of torch needs besides is listed below
and locked with the rest. Pins that still satisfy pyproject.toml are kept; ``--upgrade`` looks for newer ones.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"

#: What looks at a release: never in the environment of the project, so never in its locks.
RELEASE = ["cyclonedx-bom>=7", "pip-audit>=2.9"]

#: What every build of torch requires and pyproject.toml does not name.
TORCH_NEEDS = ("filelock", "fsspec", "jinja2", "networkx", "setuptools", "sympy", "typing-extensions")

#: Beginnings of the names of torch and of what its builds bring along; a package that needs torch
#: (torchmetrics) must not lock them.
WITH_TORCH = ("torch==", "triton==", "nvidia-", "cuda-")

HEADER = "# Written by `make lock`. Install with: pip install --no-deps --require-hashes -r {name}\n"


def requirements(*extras: str) -> list[str]:
    """Return the requirements of pyproject.toml with the named extras: what torch needs instead of torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    names = [re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0].lower() for line in wanted]
    without_torch = [line for line, name in zip(wanted, names, strict=True) if name != "torch"]
    return sorted([*without_torch, *TORCH_NEEDS])


def compile_lock(name: str, wanted: list[str], *, constraint: Path | None, upgrade: bool) -> None:
    """Resolve ``wanted`` into requirements/``name`` with the hashes of every platform's files."""
    target = LOCKS / name
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "wanted.in"
        source.write_text("\n".join(wanted) + "\n")
        command = [sys.executable, "-m", "piptools", "compile", "--quiet", "--generate-hashes"]
        command += ["--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
        command += ["--no-emit-trusted-host", "--no-emit-options", "--allow-unsafe", "--strip-extras"]
        command += ["--output-file", str(target), str(source)]
        if constraint is not None:
            command += ["--constraint", str(constraint)]
        if upgrade:
            command += ["--upgrade"]
        subprocess.run(command, check=True, cwd=ROOT)
    pins = re.split(r"^(?=[\w.-]+==)", target.read_text(), flags=re.M)
    body = "".join(pin for pin in pins if not pin.startswith(WITH_TORCH))
    if "://" in body or "\ntorch==" in body:
        raise SystemExit(f"{name} names a registry or pins torch: not written as it should be")
    target.write_text(HEADER.format(name=f"requirements/{name}") + body.lstrip("\n"))


def main() -> None:
    """Write both locks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--upgrade", action="store_true", help="look for newer versions of everything")
    upgrade = parser.parse_args().upgrade
    compile_lock("runtime.txt", requirements(), constraint=None, upgrade=upgrade)
    compile_lock("dev.txt", requirements("dev"), constraint=LOCKS / "runtime.txt", upgrade=upgrade)
    compile_lock("release.txt", RELEASE, constraint=None, upgrade=upgrade)


if __name__ == "__main__":
    main()
