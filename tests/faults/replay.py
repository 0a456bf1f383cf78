"""Plays a recording to the strict disk up to a power cut, and knows what had been promised by then.

A promise is read from the recording itself: the bytes of a C-STORE response of success or an HTTP response of
202 as the node hands them to the kernel. Nobody can have heard of it earlier.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydicom.filereader import read_dataset

from tests.faults.disk import File, Folder, taken_over
from tests.faults.tracing import Call

_ANSWER = re.compile(rb"HTTP/1\.1 20[02] .*?\r\n\r\n(\{.*)", re.DOTALL)
_BACKED_UP = re.compile(r"cxr-sr-[0-9TZ]+\.db")


@dataclass(frozen=True)
class Promise:
    """Something said to the world outside, and the position in the recording at which it began to be said.

    `image`: that SOP Instance UID was answered with 0x0000, or named as stored in an answer to STOW-RS.
    `job`: an HTTP response of 202 named that job.
    `sent`: the sending of a result with that UID had begun. `backup`: the log told of that file. `audit`: so
    many bytes of the audit file were reported safe, after which the database remembers that they were told.
    """

    at: int
    kind: str
    what: str


def promises(
    calls: Sequence[Call], *, dicom_port: int, web_port: int, archive_port: int, told: int = 0
) -> list[Promise]:
    """All that the node said in a recording: to modalities, to programs, to the archive. `told` is the size
    of the audit file before.
    """
    found: list[Promise] = []
    said: dict[tuple[str, str], tuple[int, bytes]] = {}
    for call in calls:
        if call.peer is None:
            name = PurePosixPath(call.paths[0]).name if call.paths else ""
            if name == "node.log" and b"database-backed-up" in call.data:
                files = _BACKED_UP.findall(call.data.decode())
                found += [Promise(call.began, "backup", file) for file in files]
            elif name == "audit.xml" and call.name == "write":
                told += len(call.data)
            elif name == "audit.xml" and call.name == "fsync":
                found.append(Promise(call.ended, "audit", str(told)))
            continue
        here, there, port = call.peer
        if port == archive_port:
            found += [Promise(call.began, "sent", uid) for uid in _commands(call.data, 0x0001)]
        elif here.endswith(f":{dicom_port}"):
            found += [Promise(call.began, "image", uid) for uid in _commands(call.data, 0x8001)]
        elif here.endswith(f":{web_port}"):
            if call.data.startswith(b"HTTP/1.1 "):
                said[here, there] = call.began, b""
            at, before = said.get((here, there), (call.began, b""))
            said[here, there] = at, before + call.data
            found += [Promise(at, *named) for named in _accepted(before + call.data)]
    return sorted(set(found), key=lambda promise: promise.at)


def _commands(data: bytes, field: int) -> Iterator[str]:
    """SOP Instance UIDs of the C-STORE requests (0x0001) or responses of success (0x8001) in a P-DATA-TF."""
    while len(data) > 12 and data[0] == 4:
        size = int.from_bytes(data[2:6], "big")
        items, data = data[6 : 6 + size], data[6 + size :]
        while len(items) > 6:
            length, control = int.from_bytes(items[:4], "big"), items[5]
            if control == 3:  # a whole command
                ds = read_dataset(io.BytesIO(items[6 : 4 + length]), True, True)
                if ds.CommandField == field and ds.get("Status", 0) == 0:
                    yield str(ds.AffectedSOPInstanceUID)
            items = items[4 + length :]


def _accepted(response: bytes) -> list[tuple[str, str]]:
    """Kind and name of each promise in an HTTP response, which may still be incomplete."""
    found = _ANSWER.search(response)
    if found is None:
        return []
    try:
        said = json.loads(found[1])
    except ValueError:
        return []
    if b" 202 " in response[:20]:
        return [("job", str(job["id"])) for job in said["jobs"]]
    stored = said.get("00081199", {}).get("Value", [])
    return [("image", item["00081155"]["Value"][0]) for item in stored]


class Replay:
    """The disk as a recording of calls below `root` made it, call by call. `root` was there before, empty or
    with what `before` has now. Syncs of a group that `ignored` says yes to have no effect.
    """

    def __init__(
        self,
        calls: Sequence[Call],
        root: Path,
        *,
        before: Path | None = None,
        ignored: Callable[[str], bool] = lambda _group: False,
    ) -> None:
        self.root, self.disk = root, Folder() if before is None else taken_over(before)
        self.synced: dict[str, int] = {}
        """How often each group was synced."""
        self.operations = 0
        self._ignored = ignored
        self._calls = iter(calls)
        self._next = next(self._calls, None)
        self._places: dict[tuple[int, int], tuple[int, bool]] = {}
        """Of a file and a descriptor: where it writes next, and whether it appends."""

    def until(self, position: int) -> Folder:
        """Play every call that had ended before the position; returns the disk."""
        while self._next is not None and self._next.ended < position:
            if self._next.peer is None:
                self._play(self._next)
            self._next = next(self._calls, None)
        return self.disk

    def _play(self, call: Call) -> None:
        names = [self._below(path) for path in call.paths]
        if not names or all(name is None for name in names):
            return
        if len(names) > 1 and None in names:
            raise ValueError(f"{call.name} from or to another folder: {call.paths}")
        self.operations += 1
        paths = [PurePosixPath(name) for name in names if name is not None]
        play = _PLAYERS.get(call.name)
        if play is None:
            raise ValueError(f"a recording with {call.name} cannot be replayed")
        play(self, call, *paths)

    def _below(self, path: str) -> str | None:
        """The path from `root` on, of `root` itself and the data folder; None for all else."""
        if path == str(self.root):
            return ""
        name = path[len(str(self.root)) + 1 :] if path.startswith(f"{self.root}/") else ""
        return name if name == "var" or name.startswith("var/") else None

    def _node(self, path: PurePosixPath) -> File | Folder | None:
        node: File | Folder | None = self.disk
        for part in path.parts:
            if not isinstance(node, Folder):
                return None
            node = node.seen.get(part)
        return node

    def _folder(self, path: PurePosixPath) -> Folder:
        node = self._node(path)
        assert isinstance(node, Folder), f"no folder {path}"
        return node

    def _opened(self, call: Call, path: PurePosixPath) -> None:
        if call.name == "creat" or "O_WRONLY" in call.words or "O_RDWR" in call.words:
            node = self._node(path)
            if node is None and ("O_CREAT" in call.words or call.name == "creat"):
                node = File()
                self._folder(path.parent).enter(call.ended, path.name, node)
            if isinstance(node, File):
                self._places[id(node), call.descriptor] = 0, "O_APPEND" in call.words
                if "O_TRUNC" in call.words or call.name == "creat":
                    node.resize(call.ended, 0)

    def _written(self, call: Call, path: PurePosixPath) -> None:
        node = self._node(path)
        if not isinstance(node, File):  # a name that is just going or coming
            raise ValueError(f"bytes written to {path}, which is not there")
        if call.name.startswith("pwrite"):
            node.write(call.ended, int(call.words.split(",")[2]), call.data)
            return
        place, appends = self._places.get((id(node), call.descriptor), (0, False))
        place = node.size if appends else place
        node.write(call.ended, place, call.data)
        self._places[id(node), call.descriptor] = place + len(call.data), appends

    def _resized(self, call: Call, path: PurePosixPath) -> None:
        node = self._node(path)
        if isinstance(node, File):
            node.resize(call.ended, int(call.words.rsplit(",", 1)[1]))

    def _synced(self, call: Call, path: PurePosixPath) -> None:
        node = self._node(path)
        if node is None:
            return
        kind = group(path)
        self.synced[kind] = self.synced.get(kind, 0) + 1
        if not self._ignored(kind):
            node.sync(call.began)

    def _moved(self, call: Call, old: PurePosixPath, new: PurePosixPath) -> None:
        node = self._node(old)
        assert node is not None, f"{old} is moved and was never made"
        self._folder(new.parent).enter(call.ended, new.name, node)
        self._folder(old.parent).enter(call.ended, old.name, None)

    def _linked(self, call: Call, old: PurePosixPath, new: PurePosixPath) -> None:
        self._folder(new.parent).enter(call.ended, new.name, self._node(old))

    def _removed(self, call: Call, path: PurePosixPath) -> None:
        self._folder(path.parent).enter(call.ended, path.name, None)

    def _made(self, call: Call, path: PurePosixPath) -> None:
        self._folder(path.parent).enter(call.ended, path.name, Folder())


_Player = Callable[..., None]
_PLAYERS: dict[str, _Player] = {
    **dict.fromkeys(("open", "openat", "creat"), Replay._opened),
    **dict.fromkeys(("write", "pwrite64"), Replay._written),
    **dict.fromkeys(("truncate", "ftruncate"), Replay._resized),
    **dict.fromkeys(("fsync", "fdatasync"), Replay._synced),
    **dict.fromkeys(("rename", "renameat", "renameat2"), Replay._moved),
    **dict.fromkeys(("link", "linkat"), Replay._linked),
    **dict.fromkeys(("unlink", "unlinkat", "rmdir"), Replay._removed),
    **dict.fromkeys(("mkdir", "mkdirat"), Replay._made),
}


def group(path: PurePosixPath) -> str:
    """What a sync is for, from the path below the folder that holds `var`."""
    match path.parts:
        case ():
            return "name of the data folder"
        case ("var",):
            return "names in the data folder"
        case ("var", "objects"):
            return "folder of a kind of objects"
        case ("var", "objects", "spool", *_):
            return "bytes of an object"
        case ("var", "objects", _):
            return "folder below a kind"
        case ("var", "objects", _, _):
            return "name of an object"
        case ("var", "backups"):
            return "name of a backup"
        case ("var", "backups", name):
            return "journal of a backup" if name.endswith("-journal") else "bytes of a backup"
        case ("var", name):
            return name
        case _:
            return str(path)
