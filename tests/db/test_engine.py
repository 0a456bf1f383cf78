"""Transactions as every room relies on them."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from db import Database, people
from db.models import Job, Patient, User
from tests.db import builders


def test_what_raises_inside_a_write_changes_nothing(database):
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        with database.write() as session:
            builders.job(session)
            raise ZeroDivisionError
    with database.read() as session:
        assert session.scalars(select(Job)).all() == []


def test_a_read_keeps_nothing(database):
    with database.read() as session:
        session.add(Patient(patient_id="x"))
    with database.read() as session:
        assert session.scalars(select(Patient)).all() == []


def test_a_read_sees_one_moment(database):
    with database.read() as session:
        assert session.scalars(select(Job.id)).all() == []
        builders.jobs(database, 1)
        assert session.scalars(select(Job.id)).all() == []
    with database.read() as session:
        assert len(session.scalars(select(Job.id)).all()) == 1


def test_what_was_loaded_stays_readable_after_the_block(database):
    [job_id] = builders.jobs(database, 1)
    with database.read() as session:
        job = session.get_one(Job, job_id)
    assert job.state == "queued"


def test_writers_wait_for_each_other_instead_of_failing(database):
    def add(name):
        with database.write() as session:
            before = len(session.scalars(select(Patient)).all())
            session.add(Patient(patient_id=f"{name}-{before}"))

    threads = [threading.Thread(target=add, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with database.read() as session:
        assert len(session.scalars(select(Patient)).all()) == 8


def test_times_come_back_in_utc_and_those_without_a_zone_are_refused(database):
    then = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    with database.write() as session:
        job = builders.job(session)
        job.not_before = then
    with database.read() as session:
        read = session.get_one(Job, job.id).not_before
    assert read == then
    assert read.tzinfo == UTC
    with pytest.raises(StatementError, match="without zone"), database.write() as session:
        session.get_one(Job, job.id).not_before = datetime(2026, 3, 1)  # noqa: DTZ001


def test_an_error_does_not_tell_the_values_that_caused_it(database):
    with database.write() as session:
        session.add(Patient(patient_id="SECRET-ID", name="SECRET^NAME"))
    with pytest.raises(IntegrityError) as caught, database.write() as session:
        session.add(Patient(patient_id="SECRET-ID", name="SECRET^NAME"))
    if database.sqlite:  # what PostgreSQL itself says is kept out by the log
        assert "SECRET" not in str(caught.value)
    assert "hidden due to hide_parameters" in str(caught.value)


def test_rows_that_refer_to_nothing_are_refused(database):
    with pytest.raises(IntegrityError), database.write() as session:
        session.add(Job(source_id=12345))


def test_roles_are_checked_by_the_database_too(database):
    with pytest.raises(IntegrityError), database.write() as session:
        session.add(User(name="x", role="king"))
    assert set(people.ROLES) == {"radiologist", "admin"}


def test_sqlite_is_durable_and_keeps_a_write_ahead_log(tmp_path):
    database = Database(f"sqlite:///{tmp_path / 'state.db'}")
    with database.engine.connect() as connection:
        said = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        }
    assert said == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    database.close()


class TestPostgres:
    @pytest.fixture
    def engine_name(self):
        return "postgresql"

    def test_a_commit_is_on_stable_storage_whatever_the_server_was_tuned_to(self, empty_postgres):
        name = empty_postgres.rsplit("/", 1)[1].split("?")[0]
        tuned = Database(empty_postgres)
        with tuned.engine.connect() as connection:
            connection.execute(text(f'ALTER DATABASE "{name}" SET synchronous_commit = off'))
            connection.commit()
        tuned.close()
        database = Database(empty_postgres)
        with database.write() as session:
            assert session.scalar(text("SHOW synchronous_commit")) == "on"
            reset = "SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'"
            assert session.scalar(text(reset)) == "off"
        database.close()

    def test_a_read_cannot_write(self, database):
        with pytest.raises(DBAPIError, match="read-only"), database.read() as session:
            session.execute(text("DELETE FROM job"))

    def test_a_write_after_a_read_on_the_same_connection_can(self, database):
        for _ in range(3):
            with database.read() as session:
                session.scalars(select(Job.id)).all()
            builders.jobs(database, 1)
