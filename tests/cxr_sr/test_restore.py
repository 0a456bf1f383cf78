"""What a copy that was put back does not know: nothing of it is lost, and somebody is told."""

from __future__ import annotations

import os
import sqlite3

import pytest
from sqlalchemy import select

from cxr_sr import cli, doctor
from cxr_sr.supervisor import prepare
from db import Database, adrift, alerts, retention, schema
from db.intake import Arrival, Origin, intake
from db.models import Job, Source
from db.schema import SchemaError
from db.states import JobState, Purpose
from db.types import utcnow
from tests import dicom_variants as variants


@pytest.fixture
def bring(settings, store):
    """A function that takes an image in as from a modality; returns the key of its object."""

    def take(database: Database) -> str:
        file = store.spool / "arrival"
        variants.written(variants.cr(), file)
        taken = intake(
            database, store, Arrival(file, "application/dicom"), Origin("dimse", "MODALITY"), max_waiting=100
        )
        with database.read() as session:
            return session.get_one(Source, taken.source_id).object_key

    return take


@pytest.fixture
def restored(settings, database, store, bring, run_db, tmp_path, data_dir):
    """A node put back to a copy: one image came before it, two after, and one of before is gone since.

    Returns the keys of those that came after.
    """
    gone = bring(database)
    bring(database)
    copy = tmp_path / "copy.db"
    assert run_db("backup", copy)[0] == 0
    later = [bring(database) for _ in range(2)]
    store.delete(gone)
    database.close()
    for path in data_dir.glob("cxr-sr.db*"):
        path.unlink()
    status, _, said = run_db("restore", copy)
    assert status == 0
    assert "2 images came after this copy was made; they are kept: `cxr-sr db adopt`" in said
    assert "1 objects that the copy names are not in the store" in said
    return later


def states(settings):
    opened = Database(settings.database_url)
    with opened.read() as session:
        found = [(job.state, job.purpose, job.source.origin_kind) for job in session.scalars(select(Job))]
    opened.close()
    return found


def test_images_that_came_after_the_copy_are_kept_told_of_and_taken_in(settings, store, restored, run_db):
    opened = Database(settings.database_url)
    assert retention.sweep_orphans(opened, store, utcnow()) == 0
    assert set(adrift.unnamed_sources(opened, store)) == set(restored)
    with opened.read() as session:
        assert "restored" in {one.kind for one in alerts.look(session, settings, store.room())}
    with pytest.raises(doctor.Caution, match="db adopt"):
        doctor.check_database(settings)
    assert set(run_db("adopt", "--list")[1].split()) == set(restored)

    status, said, _ = run_db("adopt")
    assert (status, said) == (0, "job 3\njob 4\n")
    assert states(settings)[2:] == [(JobState.QUEUED, Purpose.MANUAL, "upload")] * 2
    assert not any((store.root / key).exists() for key in restored)
    assert adrift.count(opened, store) == adrift.Count(objects=0, rows=1)
    with opened.read() as session:
        assert adrift.restored(session) is None
        for source in session.scalars(select(Source).where(Source.id > 2)):
            assert store.digest(source.object_key) == source.sha256
            assert source.sop_instance_uid
    opened.close()


def test_by_rules_they_are_as_if_a_modality_had_sent_them(settings, restored, run_db):
    assert run_db("adopt", "--by-rules")[0] == 0
    assert states(settings)[2:] == [(JobState.QUEUED, Purpose.CLINICAL, "dimse")] * 2


def test_those_that_nobody_wants_are_left_to_the_sweep(settings, store, restored, run_db):
    assert run_db("adopt", "--none")[0] == 0
    opened = Database(settings.database_url)
    assert len(states(settings)) == 2
    assert retention.sweep_orphans(opened, store, utcnow()) == 2
    opened.close()


def test_a_modality_that_sends_again_meets_no_twin_when_they_are_taken_in(settings, store, restored, run_db):
    opened = Database(settings.database_url)
    file = store.spool / "arrival"
    with store.open(restored[0]) as stream:
        file.write_bytes(stream.read())
    intake(opened, store, Arrival(file, "application/dicom"), Origin("dimse", "MODALITY"), max_waiting=100)
    opened.close()
    assert run_db("adopt", "--by-rules")[1].count("(was here already)") == 1
    assert len(states(settings)) == 4


@pytest.mark.parametrize("lost", ["missing", "of no length"])
def test_an_empty_database_beside_images_is_not_begun_with(settings, database, bring, data_dir, lost, run_db):
    bring(database)
    database.close()
    for path in data_dir.glob("cxr-sr.db*"):
        path.unlink()
    if lost == "of no length":
        (data_dir / "cxr-sr.db").touch()
    with pytest.raises(SchemaError, match="empty, but the object store holds images"):
        prepare(settings)
    status, _, said = run_db("upgrade")
    assert status == 1
    assert said.count("\n") == 1
    assert "cxr-sr db restore" in said


def test_a_damaged_file_is_found_at_the_start_and_left_as_it_is(settings, database, data_dir):
    database.close()
    file = data_dir / "cxr-sr.db"
    content = bytearray(file.read_bytes())
    content[8192:-4096] = os.urandom(len(content) - 12288)
    file.write_bytes(content)
    with pytest.raises((SchemaError, sqlite3.DatabaseError, Exception)) as caught:
        prepare(settings)
    assert "cxr-sr db restore" in cli.explain(caught.value)
    assert file.read_bytes() == content


@pytest.mark.parametrize(("revision", "words"), [("0001", None), ("9999", "newer than this program")])
def test_another_schema_says_what_to_do_and_a_newer_one_is_left_alone(settings, database, revision, words):
    with database.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
    with pytest.raises(SchemaError, match=words or "older than .* run `cxr-sr db upgrade`"):
        schema.check(database)
    if words:
        with pytest.raises(SchemaError, match=words):
            prepare(settings)
