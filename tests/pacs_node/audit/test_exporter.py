"""Telling what was recorded: nothing left out by restarts and broken repositories, and nobody held up."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from lxml import etree
from sqlalchemy import func, select
from structlog.testing import capture_logs

from config.settings import AuditSettings
from db import Database, audit, deliveries
from db.deliveries import Address
from db.exchange import Bookmark
from db.models import AuditEvent, Job, JobEvent, Patient, Series, Study
from db.types import utcnow
from pacs_node.audit.exporter import TRAIL, Exporter, backlog, untold
from pacs_node.audit.sinks import SinkError, SyslogSink
from tests.db import builders
from tests.pacs_node.audit.repository import repository
from tests.pacs_node.audit.rules import faults
from tests.pacs_node.nodes import make_database, make_settings

PACS = Address("pacs", {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104})


class Box:
    """A sink in memory; `broken` after so many messages."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.left: int | None = None

    def send(self, messages) -> None:
        for message in messages:
            if self.left == 0:
                raise SinkError("the box is full")
            self.left = self.left and self.left - 1
            self.messages.append(message)

    @property
    def events(self) -> list[str]:
        found = [etree.fromstring(message) for message in self.messages]
        return [root.find("EventIdentification/EventID").get("csd-code") for root in found]


@pytest.fixture
def settings(tmp_path):
    return make_settings(tmp_path)


@pytest.fixture
def database(settings) -> Iterator[Database]:
    one = make_database(settings)
    yield one
    one.close()


@pytest.fixture
def box() -> Box:
    return Box()


@pytest.fixture
def exporter(settings, database, box) -> Exporter:
    one = Exporter(settings, database, box)
    one.run()
    return one


def record(database, *actions) -> None:
    for action in actions:
        with database.write() as session:
            audit.record(session, "anna", action, address="192.0.2.1")


def test_what_is_recorded_is_told_once_and_in_order(database, box, exporter):
    record(database, "login", "user.add", "logout")
    assert exporter.run() == 3
    assert box.events == ["110114", "110113", "110114"]
    assert exporter.run() == 0
    assert all(faults(message) == [] for message in box.messages)


def test_a_row_that_nobody_foresaw_holds_up_no_other(database, box, exporter, monkeypatch):
    def broken(*_: object) -> None:
        raise ValueError("Mustermann")

    record(database, "dicomweb.search", "login")
    monkeypatch.setattr("pacs_node.audit.compose.Composer._query", broken)
    with capture_logs() as logs:
        assert exporter.run() == 1
    assert box.events == ["110114"]
    assert [entry["event"] for entry in logs] == ["audit.untellable"]
    assert "Mustermann" not in repr(logs)


def test_rows_that_nobody_needs_to_know_of_are_passed_over(database, box, exporter):
    record(database, "destination.echo")
    assert exporter.run() == 0
    with database.read() as session:
        assert backlog(session).rows == 0


def test_an_exporter_that_is_started_anew_goes_on_where_the_last_one_stopped(
    settings, database, box, exporter
):
    record(database, "login")
    exporter.run()
    record(database, "logout", "login")
    assert Exporter(settings, database, box).run() == 2
    assert box.events == ["110114"] * 3


def test_the_first_start_tells_of_the_present_and_not_of_the_years_before(settings, database, box):
    with database.write() as session:
        old = audit.record(session, "anna", "login", address="192.0.2.1")
        old.at = utcnow() - timedelta(days=400)
        number = builders.finished(session, PACS).id
        deliveries.claim(session, "sender", "pacs", 60)
        audit.record(session, "receiver", "node.start", detail={"pid": 1, "host": "h"})
    Exporter(settings, database, box).run()
    assert number
    assert box.events == ["110100"]


def test_deliveries_are_told_as_they_happen(database, box, exporter):
    with database.write() as session:
        _, lease = builders.sending(session, PACS)
        deliveries.stored(session, lease, 0, actor="sender")
    assert exporter.run() == 2
    assert box.events == ["110102", "110104"]


def test_what_a_broken_repository_did_not_take_is_told_later(database, box, exporter):
    record(database, "login", "logout", "login")
    box.left = 1
    with pytest.raises(SinkError):
        exporter.run()
    with database.read() as session:
        assert backlog(session).rows == 3
    record(database, "logout")
    box.left, box.messages = None, []
    assert exporter.run() == 4
    with database.read() as session:
        assert backlog(session).rows == 0
        assert backlog(session).oldest is None


def test_a_repository_that_comes_back_gets_everything_over_the_wire(settings, database, free_port):
    port = free_port()
    sink = SyslogSink(AuditSettings(messages="syslog", host="127.0.0.1", port=port, tls=False), seconds=30)
    exporter = Exporter(settings, database, sink)
    exporter.run()
    record(database, *["login"] * 450)
    with pytest.raises(SinkError):
        exporter.run()
    with repository(port=port) as there:
        assert exporter.run() == 450
        assert len(there.messages) == 450
        assert there.connections == 3
        assert exporter.run() == 0
        assert there.connections == 3


def test_a_received_image_is_told_when_its_study_is_known_and_others_do_not_wait_for_it(
    database, box, exporter
):
    with database.write() as session:
        number = builders.job(session).id
        audit.record(session, "receiver", "dimse.store", object_type="job", object_id=number)
    record(database, "login")
    assert exporter.run() == 1
    with database.read() as session:
        assert len(session.get_one(Bookmark, TRAIL).put_off) == 1
    with database.write() as session:
        job = session.get_one(Job, number)
        study = Study(study_instance_uid="1.2.3", patient=Patient(patient_id="4711", name="Muster^Eva"))
        job.source.series = Series(study=study, series_instance_uid="1.2.3.4")
        job.source.examined_at = utcnow()
    assert exporter.run() == 1
    assert box.events == ["110114", "110104"]
    assert b'ParticipantObjectID="4711"' in box.messages[1]
    assert exporter.run() == 0


def test_an_image_that_is_never_examined_is_told_in_the_end(settings, database, box, exporter):
    with database.write() as session:
        number = builders.job(session).id
        row = audit.record(session, "receiver", "dimse.store", object_type="job", object_id=number)
        row.at = utcnow() - timedelta(hours=2)
    assert exporter.run() == 1


def test_a_patient_is_named_by_the_id_alone(database, box, exporter):
    with database.write() as session:
        job, lease = builders.sending(session, PACS)
        patient = Patient(patient_id="4711", name="Mustermann^Erika", birth_date="19600229")
        job.source.series = Series(
            study=Study(study_instance_uid="1.2", description="Chest of Erika", patient=patient),
            series_instance_uid="1.3",
        )
        deliveries.stored(session, lease, 0, actor="sender")
    exporter.run()
    every = b"".join(box.messages)
    assert b"4711" in every
    assert not any(word in every for word in (b"Mustermann", b"Erika", b"19600229"))


def test_what_retention_takes_before_it_was_told_is_counted(database, box, exporter):
    with database.write() as session:
        builders.sending(session, PACS)
        for event in session.scalars(select(JobEvent)):
            event.at = utcnow() - timedelta(days=500)
    before = utcnow() - timedelta(days=365)
    with database.read() as session:
        delivery_steps = session.scalar(select(func.count(JobEvent.id)).where(JobEvent.kind == "delivery"))
        assert untold(session, before) == delivery_steps
    exporter.run()
    with database.read() as session:
        assert untold(session, before) == 0


def test_more_rows_than_one_reading_takes_are_all_told(database, box, exporter):
    with database.write() as session:
        for _ in range(1500):
            audit.record(session, "anna", "login", address="192.0.2.1")
    assert exporter.run() == 1500
    with database.read() as session:
        newest = session.scalar(select(func.max(AuditEvent.id)))
        assert session.get_one(Bookmark, TRAIL).position == newest
