"""What every room's tests share: peers, the development radiographs, our own samples, free ports."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import peers


@pytest.fixture(autouse=True)
def _peer_marker(request: pytest.FixtureRequest) -> None:
    """Give ``@pytest.mark.peer("storescu", "orthanc")`` its meaning."""
    for marker in request.node.iter_markers("peer"):
        for name in marker.args:
            peers.require(name)


@pytest.fixture(scope="session")
def require_peer() -> Callable[[str], Path]:
    """Return the function that finds a peer, or skips the test (fails it in CI)."""
    return peers.require


@pytest.fixture(scope="session")
def shared_data() -> Callable[..., Path]:
    """Return the function that finds a file of the development radiographs, or skips the test."""
    return peers.shared_data


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """Return the folder of the sample radiographs that ship with the project."""
    return peers.ROOT / "cxr_sr" / "samples"


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Return a function that gives a loopback port nobody listens on, for servers that cannot bind port 0."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find
