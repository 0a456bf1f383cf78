"""Signs of life of the roles."""

from __future__ import annotations

import os
import time
from datetime import timedelta

from sqlalchemy import select, update

from db import Database, measurements, presence
from db.models import RoleInstance
from db.presence import Presence, alive
from db.types import utcnow


def seen(database):
    with database.read() as session:
        return {row.role: row.info for row in alive(session)}


def test_a_role_is_alive_while_it_works_and_not_after(database):
    with Presence(database, "worker", {"model": "srgan"}) as worker, Presence(database, "receiver"):
        assert seen(database) == {"worker": {"model": "srgan"}, "receiver": {}}
        worker.update(device="cpu")
        assert seen(database)["worker"] == {"model": "srgan", "device": "cpu"}
        with database.read() as session:
            row = session.get_one(RoleInstance, worker.id)
            assert row.pid == os.getpid()
    assert seen(database) == {}


def test_a_role_that_died_without_a_word_is_not_alive_for_long(database):
    with Presence(database, "worker", every=3600):
        with database.write() as session:
            session.execute(update(RoleInstance).values(beat_at=utcnow() - timedelta(seconds=21)))
        assert seen(database) == {}


def test_it_gives_signs_of_life_by_itself(database):
    with Presence(database, "worker", every=0.05):
        with database.write() as session:
            session.execute(update(RoleInstance).values(beat_at=utcnow() - timedelta(hours=1)))
        deadline = time.monotonic() + 20
        while not seen(database) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert "worker" in seen(database)


def test_it_tells_what_the_process_uses_and_writes_it_down(database, monkeypatch):
    monkeypatch.setattr(presence, "MEASURE_SECONDS", 0.0)
    monkeypatch.setattr(presence, "KEEP_SECONDS", 0.0)
    with Presence(database, "worker", every=0.05, gauge=lambda: {"busy": 0.5}):
        deadline = time.monotonic() + 30
        while "load" not in seen(database).get("worker", {}) and time.monotonic() < deadline:
            time.sleep(0.02)
        load = seen(database)["worker"]["load"]
    assert load["busy"] == 0.5
    assert load["memory"] > 1e6
    assert load["processor"] >= 0
    with database.read() as session:
        kept = measurements.points(session, "memory", utcnow() - timedelta(minutes=5))
        assert kept[0][1] > 1e6


def test_a_database_that_fails_does_not_disturb_the_work(tmp_path):
    nowhere = Database(f"sqlite:///{tmp_path / 'no-tables.db'}")
    with Presence(nowhere, "worker", every=0.05) as presence:
        presence.update(device="cpu")
    nowhere.close()


def test_the_beginning_stays_when_the_beat_goes_on(database):
    with Presence(database, "worker") as presence:
        with database.read() as session:
            began = session.scalars(select(RoleInstance.started_at)).one()
        presence.update(count=1)
        with database.read() as session:
            assert session.scalars(select(RoleInstance.started_at)).one() == began
