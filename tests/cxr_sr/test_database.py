from __future__ import annotations

import pytest

from cxr_sr import cli
from cxr_sr.supervisor import node_lock
from db import Database, schema


@pytest.fixture
def run(data_dir, monkeypatch, capsys):
    monkeypatch.setenv("CXR_SR_DATA_DIR", str(data_dir))

    def call(*arguments: object) -> tuple[int, str, str]:
        status = cli.run(["db", *map(str, arguments)])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call


def test_the_schema_is_made_where_there_is_none(run, data_dir):
    assert run("upgrade")[0] == 0
    assert run("upgrade")[0] == 0
    opened = Database(f"sqlite:///{data_dir}/cxr-sr.db")
    schema.check(opened)
    opened.close()


def test_a_backup_can_be_put_back_and_is_the_same_installation(run, data_dir, tmp_path):
    run("upgrade")
    url = f"sqlite:///{data_dir}/cxr-sr.db"
    opened = Database(url)
    before = schema.installation_uuid(opened)
    opened.close()
    copy = tmp_path / "copy.db"
    assert run("backup", copy) == (0, f"{copy}\n", "")
    for path in data_dir.glob("cxr-sr.db*"):
        path.unlink()
    assert run("restore", copy)[0] == 0
    opened = Database(url)
    assert schema.installation_uuid(opened) == before
    opened.close()


def test_a_backup_overwrites_nothing(run, tmp_path):
    run("upgrade")
    taken = tmp_path / "taken.db"
    taken.write_text("mine")
    status, _, err = run("backup", taken)
    assert status == 1
    assert "exists" in err
    assert taken.read_text() == "mine"


def test_nothing_is_restored_or_upgraded_under_a_running_node(run, data_dir, tmp_path):
    run("upgrade")
    copy = tmp_path / "copy.db"
    run("backup", copy)
    with node_lock(data_dir):
        for command in (["restore", copy], ["upgrade"]):
            status, _, err = run(*command)
            assert status == 1
            assert "another node" in err


def test_a_database_without_tables_is_an_error_that_says_what_to_do(run, data_dir, tmp_path):
    data_dir.mkdir()
    status, _, err = run("backup", tmp_path / "copy.db")
    assert status == 1
    assert err.count("\n") == 1
