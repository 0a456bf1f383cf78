"""What settings were read from: which file, at which line, and which variables."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Key = tuple[str, ...]
"""Names and numbers of list items, from the top: `("rules", "0", "match")`."""


@dataclass(frozen=True)
class Origin:
    """kind: where a value came from. name: the file or the variable; line: of the file, where known.

    `program`: neither file nor environment nor default, but whoever made the settings.
    """

    kind: Literal["default", "file", "environment", "program"]
    name: str = ""
    line: int | None = None


@dataclass(frozen=True, eq=False)
class Sources:
    """What settings were read from. read: whether they were read at all, rather than given by a program.
    asked: the file that was named by whoever started the node."""

    read: bool = False
    asked: Path | None = None
    file: Path | None = None
    lines: Mapping[Key, int] = field(default_factory=dict)
    variables: Mapping[Key, str] = field(default_factory=dict)

    def __eq__(self, other: object) -> bool:
        """Where settings came from is no part of what they are."""
        return isinstance(other, Sources)

    def __hash__(self) -> int:
        return hash(Sources)

    def origin(self, key: Key, is_default: bool) -> Origin:
        """Where the value of a key came from."""
        for length in range(len(key), 0, -1):
            if (variable := self.variables.get(key[:length])) is not None:
                return Origin("environment", variable)
        for length in range(len(key), 0, -1):
            if (line := self.lines.get(key[:length])) is not None:
                if length < len(key) and is_default:  # its table stands there, the key itself does not
                    return Origin("default")
                return Origin("file", str(self.file), line)
        return Origin("default" if is_default else "program")


def lines_of(text: str) -> dict[Key, int]:
    """The line, from 1, at which each key of a TOML text stands; tables stand at their headers.

    The text is valid TOML: statements are told apart by tomllib itself, line after line.
    """
    found: dict[Key, int] = {}
    counts: dict[Key, int] = {}
    table: Key = ()
    pending, start = "", 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if not pending:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            start = number
        pending += line
        try:
            said = tomllib.loads(pending)
        except tomllib.TOMLDecodeError:
            continue  # it goes on in the next line
        if pending.lstrip().startswith("["):
            table = _header(said, counts)
            found.setdefault(table, start)
        else:
            for key in paths(said):
                found.setdefault(table + key, start)
        pending = ""
    return found


def _header(said: dict[str, Any], counts: dict[Key, int]) -> Key:
    """The key of a `[table]` or `[[item]]`, with the numbers of the items that it lies in."""
    path: Key = ()
    at: Any = said
    while isinstance(at, dict) and at:
        name, at = next(iter(at.items()))
        path += (name,)
        if isinstance(at, list):
            counts[path] = counts.get(path, -1) + 1
            return (*path, str(counts[path]))
        if at and path in counts:
            path += (str(counts[path]),)
    return path


def paths(value: Any) -> Iterator[Key]:
    """The keys of everything below a table or a list of tables."""
    pairs: Iterator[tuple[str, Any]]
    if isinstance(value, dict):
        pairs = iter(value.items())
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        pairs = ((str(number), item) for number, item in enumerate(value))
    else:
        return
    for name, below in pairs:
        yield (name,)
        for rest in paths(below):
            yield (name, *rest)
