"""Each way in which a database fails has its own words, on both engines."""

from __future__ import annotations

import os
import sqlite3

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from cxr_sr.cli import explain
from db import Database, schema
from db.trouble import ADVICE, WORDS, Trouble, advice, trouble


@pytest.fixture
def file(tmp_path):
    """A database of ours in a file, closed."""
    path = tmp_path / "cxr-sr.db"
    made = Database(f"sqlite:///{path}")
    schema.upgrade(made)
    made.close()
    return path


NOTE = "INSERT INTO document (name, content, written_at) VALUES ('a', '{}', 0)"


def failing(database: Database, *statements: str) -> SQLAlchemyError:
    """What a writer gets to see."""
    try:
        with database.write() as session:
            for statement in statements:
                session.execute(text(statement))
    except SQLAlchemyError as error:
        return error
    finally:
        database.close()
    raise AssertionError("nothing failed")


def error_of(path) -> SQLAlchemyError:
    """What a writer to the file gets to see."""
    return failing(Database(f"sqlite:///{path}"), NOTE)


def test_a_lock_of_another_program_is_named(file, monkeypatch):
    monkeypatch.setattr("db.engine.PATIENCE_SECONDS", 0.05)
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert trouble(error_of(file)) is Trouble.LOCKED
    other.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"This is a letter and no database.\n" * 400,
        lambda data: data[:4096] + os.urandom(len(data) - 8192) + data[-4096:],
        lambda data: data[: len(data) // 3],
    ],
    ids=["not a database", "overwritten in the middle", "truncated"],
)
def test_damage_is_named(file, damage):
    file.write_bytes(damage(file.read_bytes()))
    error = error_of(file)
    assert trouble(error) is Trouble.DAMAGED
    assert "cxr-sr db restore" in advice(error)
    assert explain(error) == advice(error)


def test_a_file_that_is_a_folder_cannot_be_opened(tmp_path):
    (tmp_path / "cxr-sr.db").mkdir()
    assert trouble(error_of(tmp_path / "cxr-sr.db")) is Trouble.UNREADABLE


def test_a_full_disk_is_named_and_passes(file):
    database = Database(f"sqlite:///{file}")
    with database.read() as session:
        pages = session.scalar(text("PRAGMA page_count"))
    size = f"PRAGMA max_page_count = {pages}"
    error = failing(database, size, "CREATE TABLE a (b)", "INSERT INTO a VALUES (randomblob(1000000))")
    assert trouble(error) is Trouble.FULL
    assert Trouble.FULL.passes


def test_one_that_can_only_be_read_is_named(file):
    error = failing(Database(f"sqlite:///{file}"), "PRAGMA query_only = ON", NOTE)
    assert trouble(error) is Trouble.READ_ONLY


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("55P03", Trouble.LOCKED), ("53100", Trouble.FULL), ("57P01", Trouble.AWAY), ("23505", Trouble.OTHER),
        ("25006", Trouble.READ_ONLY), ("XX001", Trouble.DAMAGED), ("53300", Trouble.AWAY),
    ],
)  # fmt: skip
def test_what_a_server_says_is_told_by_its_sqlstate(state, kind):
    assert trouble(psycopg.errors.lookup(state)()) is kind


def test_a_server_that_is_not_there_is_away(tmp_path):
    database = Database(f"postgresql+psycopg://nobody@/none?host={tmp_path}")
    with pytest.raises(SQLAlchemyError) as caught, database.read():
        pass
    database.close()
    assert trouble(caught.value) is Trouble.AWAY


def test_a_lock_on_a_server_is_not_waited_for_without_end(empty_postgres, monkeypatch):
    monkeypatch.setattr("db.engine.PATIENCE_SECONDS", 1)
    database = Database(empty_postgres)
    schema.upgrade(database)
    with database.write() as holder:
        holder.execute(text("LOCK TABLE document IN EXCLUSIVE MODE"))
        with pytest.raises(SQLAlchemyError) as caught, database.write() as session:
            session.execute(text("DELETE FROM document"))
    database.close()
    assert trouble(caught.value) is Trouble.LOCKED


def test_every_trouble_has_its_words_and_what_to_do():
    assert set(WORDS) == set(ADVICE) == set(Trouble)
