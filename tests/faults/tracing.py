"""What processes did to files and said to peers, as strace saw it, in the order in which it happened.

strace prints a call before the process that made it goes on: whatever one process did because of what
another had done stands after it. A call that another interrupts has two lines, where it began and where it
ended; a sync speaks for what had ended when it began.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FILES = "openat,open,creat,write,writev,pwrite64,pwritev,pwritev2,ftruncate,truncate,fallocate"
_SYNCS = "fsync,fdatasync,sync,syncfs,sync_file_range,msync"
_NAMES = "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir"
_COPIES = "sendfile,copy_file_range,splice,io_uring_setup"
_SAYS = "sendto,sendmsg"

_LINE = re.compile(r"(\d+) +(<\.\.\. )?(\w+)(?:\(| resumed>)(.*)", re.DOTALL)
_RESULT = re.compile(r"\) += (-?\d+)(?:<((?:\\x[0-9a-f]{2})*)>)?[^\"]*$")
_FD = re.compile(r"(AT_FDCWD|-?\d+)<((?:\\x[0-9a-f]{2})*)>(\(deleted\))?")
_PEER = re.compile(r"(\d+)<TCP(?:v6)?:\[(.*?:\d+)->(.*?:(\d+))\]>")


def command(strace: Path, output: Path) -> list[str]:
    """What stands before a command line to have it recorded; the process keeps its id and its parent."""
    calls = ",".join((_FILES, _SYNCS, _NAMES, _COPIES, _SAYS))
    how = ["-D", "-f", "-yy", "-xx", "-s", "16777216", "--seccomp-bpf", "-e", "signal=none"]
    return [str(strace), *how, "-e", f"trace={calls}", "-o", str(output)]


@dataclass(frozen=True)
class Call:
    """A system call that went well: where it `began` and `ended` in the recording, what it was given.

    `paths` are absolute, of descriptors or as given; of a descriptor whose name is gone there is none.
    `peer` is set for what went into a TCP connection: (this side, the other side, its port).
    """

    name: str
    began: int
    ended: int
    words: str
    result: int
    paths: tuple[str, ...]
    descriptor: int
    data: bytes
    peer: tuple[str, str, int] | None = None


def read(output: Path, below: Path) -> Iterator[Call]:
    """Calls that touched files below a folder, or spoke to a peer, in the order in which they ended."""
    begun: dict[str, tuple[int, str]] = {}
    mark = "".join(f"\\x{byte:02x}" for byte in bytes(below))
    with output.open(encoding="ascii", newline="\n") as lines:
        for number, line in enumerate(lines):
            if "openat(" in line and mark not in line:  # most of it: modules being imported
                continue
            found = _LINE.match(line)
            if found is None:  # a process ended
                continue
            pid, goes_on, name, rest = found.groups()
            began = number
            if goes_on:
                began, first = begun.pop(pid, (number, ""))
                rest = first + rest
            elif rest.endswith("<unfinished ...>\n"):
                begun[pid] = number, rest.removesuffix("<unfinished ...>\n")
                continue
            if mark in rest or name in {"sendto", "sendmsg", "write", "writev", "io_uring_setup"}:
                call = _call(name, began, number, rest)
                if call is not None:
                    yield call


def _call(name: str, began: int, ended: int, words: str) -> Call | None:
    result = _RESULT.search(words)
    if result is None or result[1].startswith("-"):
        return None
    given = words[: result.start()]
    parts = given.split('"')  # what is between two is a string: bytes in hex, without quotes
    strings, words = parts[1::2], "".join(parts[::2])
    if name in {"open", "openat", "creat"}:
        return Call(name, began, ended, words, int(result[1]), (_text(result[2] or ""),), int(result[1]), b"")
    if peer := _PEER.match(given):
        data = b"".join(map(_bytes, strings))[: int(result[1])]
        side = peer[2], peer[3], int(peer[4])
        return Call(name, began, ended, "", int(result[1]), (), int(peer[1]), data, side)
    if name in {"sendto", "sendmsg"}:
        return None
    paths: list[str] = []
    descriptor = -1
    for number, path, deleted in _FD.findall(words):
        descriptor = -1 if number == "AT_FDCWD" else int(number)
        if not deleted:
            paths.append(_text(path))
    if "..." in words:
        raise ValueError(f"strace has cut the data of a {name}")
    if "write" in name:
        data = b"".join(map(_bytes, strings))[: int(result[1])]
        return Call(name, began, ended, parts[-1], int(result[1]), tuple(paths), descriptor, data)
    paths = _resolved(name, paths, [_text(text) for text in strings])
    return Call(name, began, ended, words, int(result[1]), tuple(paths), descriptor, b"")


def _resolved(name: str, folders: list[str], given: list[str]) -> list[str]:
    """The names a call was given, those relative to a folder's descriptor made whole."""
    if not given:
        return folders
    base = folders[0] if folders and name.endswith(("at", "at2")) else "/"
    return [str(Path(base) / text) for text in given]


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _text(text: str) -> str:
    return _bytes(text).decode(errors="surrogateescape")
