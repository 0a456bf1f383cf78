"""Audit messages reach rsyslog, as many audit repositories run it: over TLS, with certificates of both."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import AuditSettings
from db import audit
from pacs_node.audit.exporter import Exporter
from pacs_node.audit.sinks import SinkError, SyslogSink
from tests.pacs_node.audit.rules import faults
from tests.pacs_node.certificates import Authority
from tests.pacs_node.nodes import eventually, make_database, make_settings

CONFIGURATION = """\
global(workDirectory="{folder}" maxMessageSize="64k" defaultNetstreamDriver="ossl"
       defaultNetstreamDriverCAFile="{ca}" defaultNetstreamDriverCertFile="{cert}"
       defaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="x509/certvalid")
input(type="imtcp" port="{port}" address="127.0.0.1")
template(name="raw" type="string" string="%pri% %app-name% %msgid%%msg%\\n")
action(type="omfile" file="{folder}/audit.log" template="raw")
"""


@pytest.fixture
def authority(tmp_path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def repository(tmp_path, authority, free_port, require_peer) -> Iterator[tuple[int, Path]]:
    """rsyslog at work: its port and the file that it writes."""
    program = require_peer("rsyslogd")
    folder, port, pair = tmp_path / "rsyslog", free_port(), authority.issue("repository")
    folder.mkdir()
    settings = folder / "rsyslog.conf"
    settings.write_text(
        CONFIGURATION.format(folder=folder, ca=authority.ca, cert=pair.cert, key=pair.key, port=port)
    )
    with (folder / "out").open("wb") as out:
        command = [program, "-n", "-f", settings, "-i", folder / "pid"]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            started = eventually((folder / "pid").exists, 60)
            assert started, (folder / "out").read_text()
            yield port, folder / "audit.log"
        finally:
            process.terminate()
            process.wait(60)


def sink(port: int, authority: Authority, *, ours: bool = True) -> SyslogSink:
    pair = authority.issue("node") if ours else None
    shown = {"cert": pair.cert, "key": pair.key} if pair else {}
    return SyslogSink(
        AuditSettings(messages="syslog", host="127.0.0.1", port=port, ca=authority.ca, **shown), seconds=30
    )


def test_rsyslog_takes_every_message_whole(tmp_path, repository, authority):
    port, written = repository
    settings = make_settings(tmp_path / "node")
    database = make_database(settings)
    exporter = Exporter(settings, database, sink(port, authority))

    def told() -> bool:
        try:
            exporter.run()
        except SinkError:  # it does not listen yet
            return False
        return True

    assert eventually(told, 60)
    with database.write() as session:
        for number in range(30):
            detail = {"calling": "STRANGER", "why": f"number {number}, \u5c71\u7530"}
            audit.record(session, "receiver", "association.refused", address="192.0.2.9", detail=detail)
        audit.record(session, "anna", "login", address="192.0.2.1")
    assert eventually(told, 60)
    database.close()
    assert eventually(lambda: written.exists() and len(set(written.read_bytes().splitlines())) == 31, 60)
    for line in written.read_bytes().splitlines():
        head, _, message = line.partition(b"<?xml")
        assert head.replace(b"\xef\xbb\xbf", b"").split() == [b"85", b"cxr-sr", b"DICOM+RFC3881"]
        assert faults(b"<?xml" + message) == []


def test_rsyslog_takes_nothing_of_a_node_without_a_certificate(repository, authority):
    port, written = repository
    assert eventually(lambda: _has_told(port, authority, written, b"somebody"), 60)
    with pytest.raises(SinkError):
        sink(port, authority, ours=False).send([b"<?xml <nobody/>"])
    assert eventually(lambda: _has_told(port, authority, written, b"another"), 60)
    assert b"nobody" not in written.read_bytes()


def _has_told(port: int, authority: Authority, written: Path, word: bytes) -> bool:
    """Send a message with a word in it; whether one has been written so far.

    A message may be told twice: a repository that starts sometimes cuts a connection that it has read from.
    """
    with contextlib.suppress(SinkError):
        sink(port, authority).send([b"<?xml <" + word + b"/>"])
    return written.exists() and word in written.read_bytes()
