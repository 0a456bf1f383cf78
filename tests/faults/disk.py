"""A strict disk: what a power cut leaves of files whose writes, syncs and names were recorded.

Nothing is promised but what POSIX promises. A file's bytes are safe up to its last sync; a name (made, moved,
removed) is safe once the folder that holds it was synced, each half of a move by its own folder; a sync of a
file does nothing for its name, one of a folder nothing for the folder's own name above. Whatever was not
synced may have happened or not, each write by itself, the last one perhaps by half.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

_Kind = TypeVar("_Kind", bound="Change")
_Write = TypeVar("_Write", bound="Write")


@dataclass(frozen=True)
class Change:
    """One thing done to a node at position `at` of the recording."""

    at: int

    def torn(self: _Kind) -> _Kind:
        """What a cut leaves of it in the worst case; names and lengths change wholly or not."""
        return self


@dataclass(frozen=True)
class Write(Change):
    """Bytes at an offset of a file."""

    offset: int
    data: bytes

    def torn(self: _Write) -> _Write:
        return replace(self, data=self.data[: len(self.data) // 2])


@dataclass(frozen=True)
class Resize(Change):
    """The length of a file set to `size` bytes."""

    size: int


@dataclass(frozen=True)
class Entry(Change):
    """A name in a folder that stands for `node` from now on, or for nothing."""

    name: str
    node: File | Folder | None


@dataclass
class File:
    """`safe` is what a cut cannot take any more, `pending` what was done since, in order."""

    safe: bytearray = field(default_factory=bytearray)
    pending: list[Write | Resize] = field(default_factory=list)
    size: int = 0
    """Bytes as processes see them, for writes that append."""

    def write(self, at: int, offset: int, data: bytes) -> None:
        self.pending.append(Write(at, offset, data))
        self.size = max(self.size, offset + len(data))

    def resize(self, at: int, size: int) -> None:
        if size != self.size or self.pending or len(self.safe) != size:
            self.pending.append(Resize(at, size))
        self.size = size

    def sync(self, before: int) -> None:
        """What was done before that position is safe now."""
        done = [change for change in self.pending if change.at < before]
        del self.pending[: len(done)]
        for change in done:
            _apply(self.safe, change)

    def after_cut(self, luck: Luck) -> bytes:
        content = bytearray(self.safe)
        for change in luck(self.pending):
            _apply(content, change)
        return bytes(content)


@dataclass
class Folder:
    """As with a file; `seen` are its names as processes see them."""

    safe: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[Entry] = field(default_factory=list)
    seen: dict[str, File | Folder] = field(default_factory=dict)

    def enter(self, at: int, name: str, node: File | Folder | None) -> None:
        self.pending.append(Entry(at, name, node))
        _name(self.seen, name, node)

    def sync(self, before: int) -> None:
        done = [entry for entry in self.pending if entry.at < before]
        del self.pending[: len(done)]
        for entry in done:
            _name(self.safe, entry.name, entry.node)

    def after_cut(self, luck: Luck) -> dict[str, File | Folder]:
        names = dict(self.safe)
        for entry in luck(self.pending):
            _name(names, entry.name, entry.node)
        return names


class Luck:
    """Chooses what of the things not synced happens to be on the disk after all.

    `nothing`; `everything` (as after a mere crash of processes); `the first` some of each node, in order;
    `some` of them, whichever. Of the last two the last write is torn in half every other time.
    """

    def __init__(self, kind: str, seed: int = 0) -> None:
        self.kind = kind
        self._rng = random.Random(f"{kind} {seed}")

    def __call__(self, pending: Sequence[_Kind]) -> list[_Kind]:
        if self.kind == "nothing" or not pending:
            return []
        if self.kind == "everything":
            return list(pending)
        if self.kind == "the first":
            kept = list(pending[: self._rng.randint(0, len(pending))])
        else:
            kept = [change for change in pending if self._rng.random() < 0.5]
        if kept and self._rng.random() < 0.5:
            kept[-1] = kept[-1].torn()
        return kept


KINDS = ("nothing", "the first", "some", "everything")


def taken_over(folder: Path) -> Folder:
    """A disk with what is in `folder`, all of it safe."""
    nodes: dict[str, File | Folder] = {}
    for path in folder.iterdir():
        if path.is_dir():
            nodes[path.name] = taken_over(path)
        else:
            content = bytearray(path.read_bytes())
            nodes[path.name] = File(content, size=len(content))
    return Folder(nodes, seen=dict(nodes))


def lay_out(folder: Folder, target: Path, luck: Luck) -> None:
    """Write what a cut leaves of `folder` into `target`, which exists.

    What SQLite keeps in shared memory (`-shm`) means nothing after a restart and is left out.
    """
    for name, node in folder.after_cut(luck).items():
        path = target / name
        if isinstance(node, Folder):
            path.mkdir(mode=0o700)
            lay_out(node, path, luck)
        elif not name.endswith("-shm"):
            path.write_bytes(node.after_cut(luck))


def _name(names: dict[str, File | Folder], name: str, node: File | Folder | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _apply(content: bytearray, change: Write | Resize) -> None:
    if isinstance(change, Resize):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    content.extend(bytes(max(0, change.offset - len(content))))
    content[change.offset : change.offset + len(change.data)] = change.data
