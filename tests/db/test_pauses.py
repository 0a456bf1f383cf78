"""Standing still because a person said so."""

from __future__ import annotations

from datetime import timedelta

import pytest

from db import deliveries, pauses, queue
from db.deliveries import Address
from db.intake import Arrival, IntakePaused, Origin, intake
from db.models import Delivery
from db.states import DeliveryState
from db.types import utcnow
from tests.db import builders


def test_nothing_is_claimed_while_processing_is_paused_and_what_runs_may_end(database):
    with database.write() as session:
        running = builders.job(session)
        lease = builders.claim(session)
        waiting = builders.job(session)
    with database.write() as session:
        pauses.pause(session, pauses.PROCESSING, actor="root", reason="new model")
    with database.write() as session:
        assert queue.claim(session, "worker", 60) is None
        queue.finish(session, lease, builders.result(), ())
        pauses.resume(session, pauses.PROCESSING)
    with database.write() as session:
        claimed = queue.claim(session, "worker", 60)
        assert claimed is not None
        assert claimed.id == waiting.id != running.id


def test_deliveries_to_a_paused_destination_wait_while_others_go(database):
    with database.write() as session:
        builders.finished(session, builders.PACS, builders.OTHER)
        pauses.pause(session, pauses.of_destination("pacs"), actor="root")
    with database.write() as session:
        assert deliveries.due_destinations(session) == ["other"]
        assert deliveries.claim(session, "sender", "pacs", 60) is None
        assert deliveries.claim(session, "sender", "other", 60) is not None
        pauses.resume(session, pauses.of_destination("pacs"))
        assert deliveries.claim(session, "sender", "pacs", 60) is not None


def test_the_time_of_a_delivery_does_not_run_while_its_destination_is_paused(database):
    brief = Address("pacs", {}, expire_after=timedelta(hours=1))
    with database.write() as session:
        job = builders.finished(session, brief)
        before = builders.only_delivery(session, job).expires_at
        pauses.pause(session, pauses.of_destination("pacs"), actor="root")
    later = utcnow() + timedelta(hours=5)
    with database.write() as session:
        assert deliveries.expire(session, later) == 0
        pauses.resume(session, pauses.of_destination("pacs"), now=later)
    with database.write() as session:
        assert deliveries.expire(session, later) == 0
        row = session.query(Delivery).one()
        assert row.state == DeliveryState.WAITING
        assert timedelta(hours=5) < row.expires_at - before < timedelta(hours=5, minutes=1)


def test_paused_intake_takes_nothing_and_leaves_the_file_to_its_sender(database, store):
    file = store.spool / "x"
    file.write_bytes(b"image")
    with database.write() as session:
        pauses.pause(session, pauses.INTAKE, actor="root")
    arrival = Arrival(file, "application/dicom")
    with pytest.raises(IntakePaused):
        intake(database, store, arrival, Origin("dimse"), max_waiting=9)
    assert file.read_bytes() == b"image"
    with database.write() as session:
        pauses.resume(session, pauses.INTAKE)
    assert intake(database, store, arrival, Origin("dimse"), max_waiting=9).job_id


def test_what_stands_still_is_told_in_an_order_and_not_twice(database):
    names = ["destination:b", "processing", "intake", "destination:a"]
    with database.write() as session:
        for name in names:
            pauses.pause(session, name, actor="root", reason="works")
    with database.write() as session:
        assert [row.what for row in pauses.all_pauses(session)] == [
            "intake",
            "processing",
            "destination:a",
            "destination:b",
        ]
        with pytest.raises(pauses.AlreadyPaused, match="Delivery to a is paused already"):
            pauses.pause(session, "destination:a", actor="ada")
        pauses.resume(session, "intake")
        with pytest.raises(pauses.NotPaused, match="Intake is not paused"):
            pauses.resume(session, "intake")
