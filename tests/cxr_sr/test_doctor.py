from __future__ import annotations

import json
import socket

import pytest

from config import Destination, Settings
from cxr_sr import cli, doctor
from db.presence import Presence
from pacs_node.archive import Archive


def test_a_healthy_store_is_written_read_back_and_left_clean(settings, store):
    assert "MiB free" in doctor.check_storage(settings)
    assert [path for path in store.root.rglob("*") if path.is_file()] == []


def test_too_little_room_is_unfit(data_dir):
    settings = Settings(data_dir=data_dir, storage={"reserve_bytes": 1 << 60})
    with pytest.raises(Exception, match=r"reserve|room|free"):
        doctor.check_storage(settings)


def test_a_database_that_is_not_there_yet_is_said_and_not_made(settings, data_dir):
    with pytest.raises(doctor.Unfit, match="cxr-sr db upgrade"):
        doctor.check_database(settings)
    assert not data_dir.exists()


def test_a_sound_database_is_named_with_what_waits(settings, database):
    assert doctor.check_database(settings) == "sqlite, schema up to date, 0 jobs waiting"


def test_a_damaged_database_is_unfit(settings, database, data_dir):
    database.close()
    with open(data_dir / "cxr-sr.db", "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    with pytest.raises(Exception, match=r"malformed|damaged|not a database"):
        doctor.check_database(settings)


def test_ports_are_free_ours_or_taken(settings, database):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(doctor.Unfit, match="in use"):
            doctor.check_port(settings, "web", "127.0.0.1", port)
        with Presence(database, "web"):
            assert "our running web" in doctor.check_port(settings, "web", "127.0.0.1", port)
    assert "is free" in doctor.check_port(settings, "web", "127.0.0.1", port)


def test_destinations_are_echoed(settings, tmp_path, free_port):
    with Archive(tmp_path / "archive") as archive:
        here = Destination(name="here", ae_title="DEMO_PACS", host="127.0.0.1", port=archive.port)
        assert "answers C-ECHO" in doctor.check_echo(settings, destination=here)
    gone = Destination(name="gone", ae_title="DEMO_PACS", host="127.0.0.1", port=free_port())
    with pytest.raises(doctor.Unfit, match="check its address and AE title"):
        doctor.check_echo(settings, destination=gone)


def test_an_unreadable_configuration_is_one_failed_check(tmp_path, capsys):
    file = tmp_path / "cxr-sr.toml"
    file.write_text("[web]\nport = 'eighty'\n")
    assert cli.run(["doctor", "--config", str(file), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"]
    (check,) = report["checks"]
    assert check["name"] == "configuration"
    assert "web.port" in check["message"]


def test_a_model_that_is_not_there_is_named(data_dir):
    settings = Settings(data_dir=data_dir, enhancer={"model": "nowhere"})
    with pytest.raises(Exception, match="nowhere"):
        doctor.check_model(settings)
