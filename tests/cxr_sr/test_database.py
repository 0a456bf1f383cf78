from __future__ import annotations

from cxr_sr.supervisor import node_lock
from db import Database, schema


def test_the_schema_is_made_where_there_is_none(run_db, data_dir):
    assert run_db("upgrade")[0] == 0
    assert run_db("upgrade")[0] == 0
    opened = Database(f"sqlite:///{data_dir}/cxr-sr.db")
    schema.check(opened)
    opened.close()


def test_a_backup_can_be_put_back_and_is_the_same_installation(run_db, data_dir, tmp_path):
    run_db("upgrade")
    url = f"sqlite:///{data_dir}/cxr-sr.db"
    opened = Database(url)
    before = schema.installation_uuid(opened)
    opened.close()
    copy = tmp_path / "copy.db"
    assert run_db("backup", copy) == (0, f"{copy}\n", "")
    for path in data_dir.glob("cxr-sr.db*"):
        path.unlink()
    assert run_db("restore", copy)[0] == 0
    opened = Database(url)
    assert schema.installation_uuid(opened) == before
    opened.close()


def test_a_backup_overwrites_nothing(run_db, tmp_path):
    run_db("upgrade")
    taken = tmp_path / "taken.db"
    taken.write_text("mine")
    status, _, err = run_db("backup", taken)
    assert status == 1
    assert "exists" in err
    assert taken.read_text() == "mine"


def test_nothing_is_restored_or_upgraded_under_a_running_node(run_db, data_dir, tmp_path):
    run_db("upgrade")
    copy = tmp_path / "copy.db"
    run_db("backup", copy)
    with node_lock(data_dir):
        for command in (["restore", copy], ["upgrade"]):
            status, _, err = run_db(*command)
            assert status == 1
            assert "another node" in err


def test_a_database_without_tables_is_an_error_that_says_what_to_do(run_db, data_dir, tmp_path):
    data_dir.mkdir()
    status, _, err = run_db("backup", tmp_path / "copy.db")
    assert status == 1
    assert err.count("\n") == 1
