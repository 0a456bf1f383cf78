"""Callers that were turned away stand in the audit trail, however often they come back."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from config.network import DicomTls, Peer
from db import Database
from db.models import AuditEvent
from pacs_node.received import Caller
from pacs_node.refusals import EVERY_SECONDS, MAX_KNOWN, Refusals
from tests.pacs_node.certificates import Authority
from tests.pacs_node.nodes import PATIENT, associated, eventually, make_database, make_settings, receiving

STRANGER = Caller("STRANGER", "CXR_SR", "192.0.2.66")


@pytest.fixture
def database(tmp_path) -> Iterator[Database]:
    one = make_database(make_settings(tmp_path))
    yield one
    one.close()


def trail(database) -> list[tuple[str, int]]:
    with database.read() as session:
        rows = session.scalars(select(AuditEvent).where(AuditEvent.action == "association.refused"))
        return [(row.detail["calling"], row.detail["times"]) for row in rows]


def test_a_caller_that_is_not_on_the_list_or_means_another_stands_in_the_trail(tmp_path):
    allow = (Peer(ae_title="MODALITY"),)
    with receiving(make_settings(tmp_path, dicom={"allow": allow} | PATIENT)) as node:
        for calling, called in (("STRANGER", "CXR_SR"), ("MODALITY", "SOMEBODY"), ("STRANGER", "CXR_SR")):
            with associated(node.port, calling=calling, called=called) as assoc:
                assert assoc.is_rejected
        assert trail(node.database) == [("STRANGER", 1), ("MODALITY", 1)]
        database = Database(node.settings.database_url)
    assert trail(database) == [("STRANGER", 1), ("MODALITY", 1), ("STRANGER", 1)]
    database.close()


def test_a_caller_whose_certificate_nobody_vouches_for_stands_in_the_trail(tmp_path):
    ours, theirs = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs", "Stranger")
    shown = ours.issue("server")
    door = DicomTls(port=0, cert=shown.cert, key=shown.key, ca=ours.ca)
    with receiving(make_settings(tmp_path / "node", dicom={"tls": door} | PATIENT)) as node:
        context = ssl.create_default_context(cafile=ours.ca)
        context.check_hostname = False
        context.load_cert_chain(*vars(theirs.issue("stranger")).values())
        with socket.create_connection(("127.0.0.1", node.tls_port), timeout=30) as plain:
            with contextlib.suppress(OSError), context.wrap_socket(plain) as encrypted:
                encrypted.recv(1)
        assert eventually(lambda: trail(node.database) == [("", 1)])
        with node.database.read() as session:
            row = session.scalars(select(AuditEvent)).one()
    assert row.detail["why"].startswith("TLS: ")
    assert row.address == "127.0.0.1"


def test_the_first_refusal_is_written_at_once(database):
    Refusals(database).note(STRANGER, "not allowed")
    with database.read() as session:
        row = session.scalars(select(AuditEvent)).one()
    assert (row.actor, row.outcome, row.address) == ("receiver", "refused", "192.0.2.66")
    assert row.detail == {"calling": "STRANGER", "called": "CXR_SR", "why": "not allowed", "times": 1}


def test_one_that_comes_back_all_night_makes_two_rows_a_minute(database):
    now = [0.0]
    refusals = Refusals(database, clock=lambda: now[0])
    for _ in range(10):
        refusals.note(STRANGER, "not allowed")
    assert trail(database) == [("STRANGER", 1)]
    now[0] = EVERY_SECONDS
    refusals.note(STRANGER, "not allowed")
    assert trail(database) == [("STRANGER", 1), ("STRANGER", 9), ("STRANGER", 1)]


def test_what_was_only_counted_is_written_at_the_end(database):
    refusals = Refusals(database)
    for _ in range(3):
        refusals.note(STRANGER, "not allowed")
    refusals.close()
    refusals.close()
    assert trail(database) == [("STRANGER", 1), ("STRANGER", 2)]


def test_a_scan_with_a_thousand_names_fills_neither_memory_nor_disk(database, monkeypatch):
    monkeypatch.setattr("pacs_node.refusals.MAX_KNOWN", 5)
    refusals = Refusals(database, clock=lambda: 0.0)
    for number in range(50):
        refusals.note(Caller(f"NAME{number}", "CXR_SR", "192.0.2.66"), "not allowed")
    assert MAX_KNOWN > 5
    assert trail(database) == [*((f"NAME{n}", 1) for n in range(5)), ("", 1)]
    refusals.close()
    assert trail(database)[-1] == ("", 44)


def test_a_database_that_does_not_answer_changes_nothing_for_the_caller(tmp_path):
    nowhere = Database(f"sqlite:///{tmp_path / 'empty.db'}")
    Refusals(nowhere).note(STRANGER, "not allowed")
    nowhere.close()
