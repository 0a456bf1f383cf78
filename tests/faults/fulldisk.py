"""Disks that fill up: a real small file system, and a quota that is used up on a large one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import pytest

from tests.faults.node import Node
from tests.peers import find, require

_PART = 1 << 20


class Disk(Protocol):
    """A disk under a node."""

    environment: dict[str, str]
    """What the node must be started with."""

    def fill(self) -> None:
        """Leave not one byte."""

    def clear(self) -> None:
        """Give the room back."""


class SmallDisk:
    """A file system of its own, mounted where a node's data will lie."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment: dict[str, str] = {}
        self._filler = folder / "filler"

    def fill(self, leave: int = 0) -> None:
        with self._filler.open("ab", buffering=0) as filler:
            part = _PART
            while part:
                with suppress(OSError):
                    while self.free() - part >= leave and filler.write(bytes(part)) == part:
                        continue
                part //= 2

    def free(self) -> int:
        usage = os.statvfs(self.folder)
        return usage.f_bavail * usage.f_frsize

    def clear(self) -> None:
        self._filler.unlink()

    def read_only(self) -> None:
        """Let nothing be written any more; nobody may have a file open for writing."""
        mount = require("mount")
        subprocess.run([mount, "-o", "remount,ro", self.folder], check=True)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """A tmpfs of that size at `folder`. Skips the test where nothing may be mounted."""
    mount, unmount = find("mount"), find("umount")
    if mount is None or unmount is None:
        pytest.skip("no file system can be mounted here")
    folder.mkdir(parents=True)
    subprocess.run([mount, "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", folder], check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run([unmount, "--lazy", folder], check=True)


class Quota:
    """A quota that is used up while a file says so; needs a C compiler, and no rights."""

    def __init__(self, folder: Path, root: Path) -> None:
        self._flag = folder / "quota-used-up"
        shim = folder / "quota.so"
        source = Path(__file__).with_name("quota.c")
        subprocess.run([require("gcc"), "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(shim), "QUOTA_FLAG": str(self._flag), "QUOTA_ROOT": str(root)}

    def fill(self) -> None:
        self._flag.touch()

    def clear(self) -> None:
        self._flag.unlink()


class TightNode(Node):
    """A node with more in its environment: settings, or something that is preloaded."""

    more: dict[str, str]

    def environment(self) -> dict[str, str]:
        return super().environment() | self.more
