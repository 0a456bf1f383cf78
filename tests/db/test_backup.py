"""Copies of the state, made while it is used, and put back."""

from __future__ import annotations

import re
import shutil
import sqlite3
import stat
import threading

import pytest
from alembic import command
from sqlalchemy import delete, func, select, text

from db import Database, audit, people, queue, revisions, schema
from db.models import AuditEvent, Base, Delivery, Job, JobEvent, Source, User
from db.schema import BackupError, SchemaError
from tests.db import builders


@pytest.fixture
def filled(database):
    with database.write() as session:
        people.add_user(session, "anna", "radiologist", "correct horse battery")
        audit.record(session, "anna", "login", detail={"kept": True})
        for _ in range(3):
            builders.finished(session, builders.PACS)
        first = session.scalars(select(Source).order_by(Source.id)).first()
        builders.source(session, related_source_id=first.id, demographics={"PatientName": "Ä^Ö"})
    return database


def rows(database):
    found = {}
    with database.read() as session:
        for table in Base.metadata.sorted_tables:
            query = select(table).order_by(*table.primary_key.columns)
            found[table.name] = [tuple(row) for row in session.execute(query)]
    return found


def counted(database, table):
    with database.read() as session:
        return session.scalar(select(func.count()).select_from(table))


def test_a_copy_put_back_on_either_engine_is_the_same_state(filled, empty_postgres, tmp_path):
    copy = tmp_path / "copies" / "backup.db"
    schema.backup(filled, copy)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    expected = rows(filled)
    for url in (f"sqlite:///{tmp_path / 'restored' / 'cxr-sr.db'}", empty_postgres):
        schema.restore(url, copy)
        restored = Database(url)
        schema.check(restored)
        found = rows(restored)
        assert [name for name, *_ in found["document"]] == ["restored"], "it says that it is a copy"
        assert {**found, "document": []} == expected
        assert schema.installation_uuid(restored) == schema.installation_uuid(filled)
        with restored.write() as session:  # it lives: new ids go on, the old password opens
            assert people.verify(session, "anna", "correct horse battery") is not None
            newest = session.scalar(select(func.max(Job.id)))
            assert builders.job(session).id == newest + 1
            assert queue.claim(session, "worker", 60) is not None
        restored.close()


def test_a_copy_made_while_others_write_is_whole(database, tmp_path):
    stop = threading.Event()
    failed: list[Exception] = []

    def write():
        try:
            while not stop.is_set():
                with database.write() as session:
                    builders.finished(session, builders.PACS)
        except Exception as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    sizes = []
    try:
        for number in range(3):
            copy = tmp_path / f"{number}.db"
            schema.backup(database, copy)
            url = f"sqlite:///{tmp_path / f'restored-{number}.db'}"
            schema.restore(url, copy)
            restored = Database(url)
            made = counted(restored, Job)
            assert counted(restored, Delivery) == made
            assert counted(restored, JobEvent) == 4 * made, "half a transaction is in the copy"
            sizes.append(made)
            restored.close()
    finally:
        stop.set()
        writer.join(60)
    assert failed == []
    assert sizes == sorted(sizes)


def test_a_copy_replaces_an_older_one_only_when_it_is_whole(filled, tmp_path, monkeypatch):
    copy = tmp_path / "backup.db"
    schema.backup(filled, copy)
    before = copy.read_bytes()

    def damaged(file):
        raise BackupError("the copy is damaged")

    monkeypatch.setattr("db.backup._sound", damaged)
    with pytest.raises(BackupError):
        schema.backup(filled, copy)
    assert copy.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if "backup" in file.name] == ["backup.db"]


def test_a_state_that_has_something_in_it_is_never_overwritten(filled, engine_name, tmp_path):
    copy = tmp_path / "backup.db"
    schema.backup(filled, copy)
    before = rows(filled)
    with pytest.raises(BackupError, match=r"move .* away|into an empty one"):
        schema.restore(filled.url, copy)
    assert rows(filled) == before


def test_the_log_of_a_lost_database_is_not_played_into_a_restored_one(tmp_path):
    """SQLite takes a `-wal` beside a file for its own: what came later would be in the copy, or damage it."""
    lost = Database(f"sqlite:///{tmp_path / 'state.db'}")
    folder, copy = tmp_path / "again", tmp_path / "copy.db"
    schema.upgrade(lost)
    schema.backup(lost, copy)
    with lost.write() as session:
        people.add_user(session, "late", "admin", "a horse that was correct")
    folder.mkdir()
    shutil.copyfile(tmp_path / "state.db-wal", folder / "state.db-wal")
    lost.close()
    with pytest.raises(BackupError, match=r"state\.db-wal exists"):
        schema.restore(f"sqlite:///{folder / 'state.db'}", copy)
    (folder / "state.db-wal").unlink()
    schema.restore(f"sqlite:///{folder / 'state.db'}", copy)
    restored = Database(f"sqlite:///{folder / 'state.db'}")
    with restored.read() as session:
        assert not session.scalars(select(User.name)).all()
    restored.close()


def test_what_is_no_copy_is_refused_and_leaves_nothing(empty_url, tmp_path):
    words = tmp_path / "text.db"
    words.write_text("not a database" * 100)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE t (x)")
    connection.close()
    for file, why in (
        (words, "no copy"),
        (other, "not of this program"),
        (tmp_path / "none.db", "there is no file"),
    ):
        with pytest.raises(BackupError, match=re.escape(why)):
            schema.restore(empty_url, file)
    assert not (tmp_path / "empty" / "cxr-sr.db").exists()


def test_a_damaged_copy_is_refused(filled, tmp_path):
    copy = tmp_path / "backup.db"
    schema.backup(filled, copy)
    with sqlite3.connect(copy) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("DELETE FROM source WHERE id = 1")
    connection.close()
    with pytest.raises(BackupError, match="damaged"):
        schema.restore(f"sqlite:///{tmp_path / 'new.db'}", copy)
    assert not (tmp_path / "new.db").exists()


def test_a_copy_of_an_older_program_is_brought_up_to_date_and_one_of_a_newer_is_refused(tmp_path):
    old = Database(f"sqlite:///{tmp_path / 'old.db'}")
    with revisions._alone(old) as connection:
        config = revisions._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql("INSERT INTO installation VALUES (1, 'an-old-one', CURRENT_TIMESTAMP)")
        connection.commit()
    copy, url = tmp_path / "copy.db", f"sqlite:///{tmp_path / 'new.db'}"
    schema.backup(old, copy)
    old.close()
    schema.restore(url, copy)
    restored = Database(url)
    schema.check(restored)
    with restored.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'from-the-future'"))
    schema.backup(restored, copy)
    restored.close()
    with pytest.raises(SchemaError, match="newer than this program"):
        schema.restore(f"sqlite:///{tmp_path / 'newer.db'}", copy)
    assert not (tmp_path / "newer.db").exists()


def test_the_audit_trail_of_a_restored_state_still_only_grows(filled, tmp_path):
    copy = tmp_path / "backup.db"
    schema.backup(filled, copy)
    url = f"sqlite:///{tmp_path / 'restored.db'}"
    schema.restore(url, copy)
    restored = Database(url)
    with restored.write() as session:
        assert session.scalars(select(User.name)).all() == ["anna"]
        with pytest.raises(Exception, match="only added"):
            session.execute(delete(AuditEvent))
    restored.close()
