"""The history of the tables on both engines."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, select, text

from db import Database, revisions, schema
from db.models import Base, Job, Source
from db.schema import SchemaError
from db.words import PatientWord
from tests import peers
from tests.db import builders

NEXT = """
revision = "9999"
down_revision = {head!r}
branch_labels = None
depends_on = None

import sqlalchemy as sa
from alembic import op


def upgrade() -> None:
    with op.batch_alter_table("job") as job:
        job.alter_column("progress", new_column_name="part_done", existing_type=sa.Float())
    rebuild = "always" if op.get_bind().dialect.name == "sqlite" else "never"
    with op.batch_alter_table("source", recreate=rebuild) as source:
        source.add_column(sa.Column("colour", sa.String(8)))
"""


NOW = "CURRENT_TIMESTAMP"
PATIENT = {"name": "'DOE^JANE'", **dict.fromkeys(("patient_id", "issuer", "birth_date", "sex"), "''")}
SOURCE = {
    "sha256": "'abc'",
    "size_bytes": "1",
    "object_key": "'k'",
    "media_type": "'application/dicom'",
    "origin_kind": "'dimse'",
    "times_received": "1",
} | dict.fromkeys(("received_at", "last_received_at"), NOW)
JOB = {
    "source_id": "1",
    "state": "'queued'",
    "purpose": "'clinical'",
    "requested": "'{}'",
    "release": "'auto'",
    "cancel_requested": "false",
    **dict.fromkeys(("priority", "attempts", "progress", "lease_token"), "0"),
    **dict.fromkeys(("created_at", "updated_at", "not_before"), NOW),
}
"""Rows as the first tables had them."""


@pytest.fixture
def empty(empty_url):
    database = Database(empty_url)
    yield database
    database.close()


@pytest.fixture
def later_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """From now on the code knows one revision more, which rebuilds two tables that others refer to."""

    def comes(revision: str = NEXT) -> None:
        folder = tmp_path / "migrations"
        shutil.copytree(Path(revisions.__file__).with_name("migrations"), folder)
        (folder / "versions" / "9999_next.py").write_text(revision.format(head=schema.head()))
        real = revisions._config

        def config():
            made = real()
            made.set_main_option("script_location", str(folder))
            return made

        monkeypatch.setattr(revisions, "_config", config)

    return comes


def test_migrations_make_exactly_the_tables_of_the_models(empty):
    schema.upgrade(empty)
    with empty.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_an_empty_database_is_told_from_an_old_and_from_a_new_one(empty, later_program):
    with pytest.raises(SchemaError, match="is empty; run `cxr-sr db upgrade`"):
        schema.check(empty)
    schema.upgrade(empty)
    schema.check(empty)
    with empty.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = 'from-the-future'"))
    for act in (schema.check, schema.upgrade):
        with pytest.raises(SchemaError, match="newer than this program"):
            act(empty)


def test_an_upgrade_done_twice_changes_nothing(empty):
    schema.upgrade(empty)
    first = schema.installation_uuid(empty)
    schema.upgrade(empty)
    assert schema.installation_uuid(empty) == first


def test_each_installation_has_an_identity_of_its_own_that_stays(empty, database):
    schema.upgrade(empty)
    assert schema.installation_uuid(empty) != schema.installation_uuid(database)
    with empty.engine.connect() as connection:
        connection.execute(text("DELETE FROM installation"))
        connection.commit()
    with pytest.raises(SchemaError, match="no installation"):
        schema.installation_uuid(empty)


def test_a_filled_database_keeps_every_row_when_tables_are_rebuilt(empty, later_program):
    schema.upgrade(empty)
    with empty.write() as session:
        for _ in range(3):
            builders.finished(session, builders.PACS)
    before = counted(empty)
    later_program()
    with pytest.raises(SchemaError, match="older than 9999; run `cxr-sr db upgrade`"):
        schema.check(empty)
    schema.upgrade(empty)
    schema.check(empty)
    assert counted(empty) == before
    columns = {column["name"] for column in inspect(empty.engine).get_columns("job")}
    assert "part_done" in columns
    assert "progress" not in columns


def test_sources_of_the_first_tables_keep_their_identity(empty):
    with revisions._alone(empty) as connection:
        config = revisions._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for table, values in (("patient", PATIENT), ("source", SOURCE), ("job", JOB)):
            row = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(values.values())})"
            connection.exec_driver_sql(row)
        connection.commit()
    schema.upgrade(empty)
    with empty.read() as session:
        assert session.scalars(select(Source.identity)).all() == ["abc"]
        assert session.execute(select(Job.source_id, Job.origin_kind)).all() == [(1, "dimse")]
        assert set(session.scalars(select(PatientWord.word))) == {"doe", "jane"}


def test_a_migration_that_fails_leaves_the_database_as_it_was(empty, later_program):
    schema.upgrade(empty)
    later_program(NEXT + "    op.execute('SELECT * FROM nowhere')\n")
    with pytest.raises(Exception, match="nowhere"):
        schema.upgrade(empty)
    with empty.engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() != "9999"
    assert "progress" in {column["name"] for column in inspect(empty.engine).get_columns("job")}


def test_a_migration_that_would_orphan_rows_is_refused_on_sqlite(tmp_path, later_program):
    database = Database(f"sqlite:///{tmp_path / 'state.db'}")
    schema.upgrade(database)
    with database.write() as session:
        builders.finished(session, builders.PACS)
    later_program(NEXT + "    op.execute('DELETE FROM source')\n")
    with pytest.raises(SchemaError, match="without what they refer to"):
        schema.upgrade(database)
    assert counted(database)["source"] == 1
    database.close()


@pytest.mark.slow
def test_processes_that_start_at_once_upgrade_once_and_all_go_on(empty_url):
    program = (
        "import sys; from db import Database, schema; sys.stdin.readline(); d = Database(sys.argv[1]); "
        "schema.upgrade(d); schema.check(d); print(schema.installation_uuid(d))"
    )
    starters = [
        subprocess.Popen(
            [sys.executable, "-c", program, empty_url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=peers.ROOT,
            text=True,
        )
        for _ in range(3)
    ]
    for starter in starters:
        assert starter.stdin is not None
        starter.stdin.write("go\n")
        starter.stdin.flush()
    said = [starter.communicate(timeout=80) for starter in starters]
    assert [starter.returncode for starter in starters] == [0, 0, 0], said
    assert len({out for out, _ in said}) == 1


def test_the_file_of_the_state_is_for_its_owner_alone(tmp_path):
    folder = tmp_path / "var" / "state"
    umask = os.umask(0)
    try:
        database = Database(f"sqlite:///{folder / 'cxr-sr.db'}")
        schema.upgrade(database)
        with database.write() as session:
            builders.job(session)
    finally:
        os.umask(umask)
    files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert set(files) >= {"cxr-sr.db", "cxr-sr.db-wal", "cxr-sr.db-shm"}
    assert set(files.values()) == {0o600}
    for made in (folder, folder.parent):
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
    database.close()


def test_every_revision_says_why_it_is_there():
    names = [file.name for file in Path(revisions.__file__).parent.glob("migrations/versions/[0-9]*.py")]
    assert names
    for name in names:
        number, _, reason = name.removesuffix(".py").partition("_")
        assert number.isdigit()
        assert len(reason) > 5


def counted(database):
    with database.engine.connect() as connection:
        names = Base.metadata.tables
        return {name: connection.scalar(text(f"SELECT count(*) FROM {name}")) for name in names}
