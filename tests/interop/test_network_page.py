"""What docs/network.md tells administrators to type, and the figures that it quotes."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from config.network import DicomTls
from config.settings import DicomSettings
from pacs_node import tls
from pacs_node.unreachable import _ALERTS, _VERIFICATION
from tests import peers
from tests.pacs_node.nodes import PATIENT, make_settings, receiving, sources

PAGE = (peers.ROOT / "docs" / "network.md").read_text()


def shell(heading: str, number: int) -> str:
    """The commands of a section's code block."""
    return re.findall(r"```sh\n(.*?)```", PAGE.split(heading)[1], re.DOTALL)[number]


@pytest.mark.peer("openssl", "echoscu", "storescu")
def test_its_commands_make_certificates_that_dcmtk_and_the_node_use(tmp_path, samples_dir):
    making, using = (shell("### Certificates for a test", number) for number in (0, 1))
    subprocess.run(["bash", "-e", "-c", making], cwd=tmp_path, check=True, capture_output=True, timeout=300)
    door = DicomTls(
        port=0,
        cert=tmp_path / "node.pem",
        key=tmp_path / "node.key",
        ca=tmp_path / "ca.pem",
        only=True,
    )
    with receiving(make_settings(tmp_path / "node", dicom=PATIENT | {"tls": door})) as node:
        sample = str(min(samples_dir.glob("*.dcm"), key=lambda path: path.stat().st_size))
        for line in using.splitlines():
            program, *arguments = shlex.split(line)
            swap = {"2762": str(node.tls_port), "image.dcm": sample}
            given = [swap.get(word, word) for word in arguments] + ["-R"] * (program == "storescu")
            done = subprocess.run(
                [peers.require(program), *given], cwd=tmp_path, capture_output=True, timeout=120
            )
            assert done.returncode == 0, done
        assert len(sources(node)) == 1


@pytest.mark.parametrize("key", re.findall(r"`dicom\.(\w+)` \| (?:\d+ s|\d+) \|", PAGE))
def test_its_defaults_are_those_of_the_settings(key):
    quoted = re.search(rf"`dicom\.{key}` \| (\d+)", PAGE)
    assert quoted is not None
    assert float(quoted[1]) == DicomSettings.model_fields[key].default


def test_its_profiles_are_those_of_the_table():
    for name, profile in tls.PROFILES.items():
        assert f"| `{name}` | {profile.section}" in PAGE


def test_its_sentences_are_those_that_are_said():
    said = " ".join([*_ALERTS.values(), *_VERIFICATION.values()])
    for quoted in re.findall(
        r"^\| (?:is not trusted|made no TLS connection): ([^|]+) \|", PAGE, re.MULTILINE
    ):
        assert quoted in said, quoted
