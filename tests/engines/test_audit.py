"""Audit messages from PostgreSQL, where rows become visible in another order than their numbers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from db import Database, audit, schema
from pacs_node.audit.exporter import Exporter
from tests.db.conftest import postgres_server
from tests.pacs_node.nodes import eventually, make_settings

__all__ = ["postgres_server"]  # a fixture of the db tests, used here too

pytestmark = pytest.mark.peer("pgserver")


class Box:
    """A sink in memory."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def send(self, messages: Sequence[bytes]) -> None:
        self.messages += messages

    def names(self) -> list[str]:
        return [message.split(b'UserName="')[1].split(b'"')[0].decode() for message in self.messages]


@pytest.fixture
def database(postgres_server, request) -> Iterator[Database]:
    from tests.db.conftest import _create

    one = Database(_create(postgres_server, f"audit_{abs(hash(request.node.nodeid))}"))
    schema.upgrade(one)
    yield one
    one.close()


def login(database, name: str) -> None:
    with database.write() as session:
        audit.record(session, name, "login", address="192.0.2.1")


@pytest.mark.parametrize("restarted", [False, True])
def test_a_row_that_becomes_visible_late_is_told_all_the_same(tmp_path, database, restarted):
    box = Box()
    exporter = Exporter(make_settings(tmp_path), database, box)
    exporter.run()
    with database.write() as slow:
        audit.record(slow, "slow", "login", address="192.0.2.1")
        slow.flush()  # it has its number, and nobody sees it
        login(database, "quick")
        exporter.run()
        if restarted:
            exporter = Exporter(make_settings(tmp_path), database, box)
            exporter.run()
        assert "slow" not in box.names()
    assert eventually(lambda: exporter.run() >= 0 and {"slow", "quick"} <= set(box.names()), 60)
    assert box.names().count("slow") == 1


def test_what_many_writers_record_at_once_is_told_once_each(tmp_path, database):
    box = Box()
    exporter = Exporter(make_settings(tmp_path), database, box)
    exporter.run()
    expected = {f"w{writer}n{number}" for writer in range(4) for number in range(25)}

    def write(writer: int) -> None:
        for number in range(25):
            login(database, f"w{writer}n{number}")

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        exporter.run()
    assert eventually(lambda: exporter.run() >= 0 and set(box.names()) == expected, 60)
    assert len(box.messages) == len(expected)
