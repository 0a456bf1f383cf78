"""Messages on their way: a file for its owner alone, and syslog as RFC 5424 and RFC 5425 have it."""

from __future__ import annotations

import re
import socket
import stat
from pathlib import Path

import pytest

from config import Settings
from config.settings import AuditSettings
from pacs_node.audit import sinks
from pacs_node.audit.sinks import FileSink, SinkError, SyslogSink, open_sink
from tests.pacs_node.audit.repository import repository, server_context
from tests.pacs_node.certificates import Authority

MESSAGES = [f'<?xml version="1.0" encoding="UTF-8"?><M>{n} \u5c71</M>'.encode() for n in range(3)]


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def to(port: int, **more) -> SyslogSink:
    settings = AuditSettings(messages="syslog", host="127.0.0.1", port=port, **more)
    return SyslogSink(settings, seconds=30)


class TestFile:
    def test_each_message_is_a_line_of_a_file_for_its_owner_alone(self, tmp_path):
        sink = FileSink(tmp_path / "log" / "audit.xml")
        sink.send(MESSAGES[:2])
        sink.send(MESSAGES[2:])
        assert sink.path.read_bytes() == b"\n".join(MESSAGES) + b"\n"
        assert stat.S_IMODE(sink.path.stat().st_mode) == 0o600
        assert stat.S_IMODE(sink.path.parent.stat().st_mode) == 0o700

    def test_a_file_that_others_could_read_is_closed_to_them(self, tmp_path):
        path = tmp_path / "audit.xml"
        path.touch(mode=0o644)
        FileSink(path).send(MESSAGES)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_a_line_that_a_crash_has_cut_short_stays_alone(self, tmp_path):
        path = tmp_path / "audit.xml"
        path.write_bytes(b"<?xml version")
        FileSink(path).send(MESSAGES[:1])
        assert path.read_bytes().splitlines() == [b"<?xml version", MESSAGES[0]]

    def test_the_name_of_a_new_file_is_put_on_stable_storage_too(self, tmp_path, monkeypatch):
        synced: list[Path] = []
        monkeypatch.setattr(sinks, "sync_folder", synced.append)
        sink = FileSink(tmp_path / "audit.xml")
        sink.send([b"one"])
        assert synced == [tmp_path]
        sink.send([b"two"])
        assert synced == [tmp_path]

    def test_a_file_that_was_moved_away_is_begun_anew(self, tmp_path):
        sink = FileSink(tmp_path / "audit.xml")
        sink.send(MESSAGES[:1])
        sink.path.rename(tmp_path / "audit.xml.1")
        sink.send(MESSAGES[1:2])
        assert sink.path.read_bytes() == MESSAGES[1] + b"\n"

    def test_a_file_that_cannot_be_written_is_an_error_for_people(self, tmp_path):
        with pytest.raises(SinkError, match="cannot be written"):
            FileSink(tmp_path).send(MESSAGES)


class TestSyslog:
    def test_messages_arrive_over_tls_in_octet_counting_with_their_head(self, authority):
        with repository(tls=server_context(authority.issue("repository"))) as there:
            to(there.port, ca=authority.ca).send(MESSAGES)
        assert there.messages == MESSAGES
        time = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
        head = rb"<85>1 " + time + rb" \S+ cxr-sr \d+ DICOM\+RFC3881 - \xef\xbb\xbf<\?xml "
        assert all(re.match(head, line) for line in there.lines)

    def test_a_repository_that_asks_for_it_is_shown_our_certificate(self, authority):
        ours = authority.issue("our-node")
        context = server_context(authority.issue("repository"), ca=str(authority.ca))
        with repository(tls=context) as there:
            to(there.port, ca=authority.ca, cert=ours.cert, key=ours.key).send(MESSAGES)
        assert there.messages == MESSAGES
        assert there.subjects == ["our-node"]

    def test_a_repository_that_refuses_our_certificate_has_nothing(self, authority, tmp_path):
        stranger = Authority(tmp_path / "stranger", "Stranger").issue("our-node")
        context = server_context(authority.issue("repository"), ca=str(authority.ca))
        with repository(tls=context) as there:
            for shown in ({}, {"cert": stranger.cert, "key": stranger.key}):
                with pytest.raises(SinkError):
                    to(there.port, ca=authority.ca, **shown).send(MESSAGES[:1])
        assert there.messages == []

    def test_without_tls_where_the_settings_say_so(self):
        with repository() as there:
            to(there.port, tls=False).send(MESSAGES)
        assert there.messages == MESSAGES

    def test_a_repository_that_nobody_vouches_for_gets_nothing(self, authority, tmp_path):
        stranger = Authority(tmp_path / "stranger", "Stranger")
        with repository(tls=server_context(stranger.issue("repository"))) as there:
            with pytest.raises(SinkError, match="certificate is not accepted"):
                to(there.port, ca=authority.ca).send(MESSAGES)
        assert there.lines == []

    def test_a_repository_of_another_name_gets_nothing(self, authority):
        pair = authority.issue("elsewhere", host="elsewhere.example")
        with repository(tls=server_context(pair)) as there:
            with pytest.raises(SinkError, match="certificate is not accepted"):
                to(there.port, ca=authority.ca).send(MESSAGES)
        assert there.lines == []

    def test_a_repository_that_does_not_speak_tls_gets_nothing(self, authority):
        with repository() as there:
            with pytest.raises(SinkError, match="cannot be reached"):
                SyslogSink(
                    AuditSettings(messages="syslog", host="127.0.0.1", port=there.port, ca=authority.ca),
                    seconds=2,
                ).send(MESSAGES)
        assert there.lines == []

    def test_a_repository_that_is_down_is_an_error_for_people(self, free_port):
        with pytest.raises(SinkError, match="cannot be reached: Connection refused"):
            to(free_port(), tls=False).send(MESSAGES)

    def test_a_connection_that_is_reset_before_all_was_read_counts_as_not_sent(self):
        with repository(reset_after=20) as there:
            with pytest.raises(SinkError, match="broke off"):
                to(there.port, tls=False).send(MESSAGES * 200)

    def test_a_repository_that_never_ends_a_connection_keeps_nobody_waiting_for_ever(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            settings = AuditSettings(
                messages="syslog", host="127.0.0.1", port=silent.getsockname()[1], tls=False
            )
            SyslogSink(settings, seconds=0.2).send(MESSAGES)  # the kernel has taken them


def test_the_settings_choose_the_sink(tmp_path):
    assert open_sink(Settings(data_dir=tmp_path)) is None
    file = open_sink(Settings(data_dir=tmp_path, audit=AuditSettings(messages="file")))
    assert isinstance(file, FileSink)
    assert file.path == tmp_path / "audit.xml"
    syslog = AuditSettings(messages="syslog", host="audit.example")
    assert isinstance(open_sink(Settings(data_dir=tmp_path, audit=syslog)), SyslogSink)
