"""A missing peer is seen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import peers


def test_a_missing_peer_skips_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers.PEERS, "nobody", (lambda: None, "nowhere to be had"))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="nowhere to be had"):
        peers.require("nobody")


def test_a_missing_peer_fails_the_test_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers.PEERS, "nobody", (lambda: None, "nowhere to be had"))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="nowhere to be had"):
        peers.require("nobody")


def test_dcmtk_is_not_mistaken_for_the_scripts_of_the_same_name_in_this_environment() -> None:
    found = peers.require("storescu")
    assert found.parent != Path(sys.prefix) / "bin"


@pytest.mark.parametrize("peer", sorted(peers.PEERS))
def test_every_peer_is_there(peer: str) -> None:
    assert peers.require(peer).exists()
