"""Commands from one role to another."""

from __future__ import annotations

import threading

from sqlalchemy import update

from db import commands
from db.models import Command
from db.types import utcnow


def test_a_command_is_taken_once_by_its_role_and_answered(database):
    with database.write() as session:
        number = commands.ask(session, "sender", "echo", {"destination": "pacs"})
    with database.write() as session:
        assert commands.take(session, "worker") is None
        taken = commands.take(session, "sender")
        assert taken is not None
        assert (taken.id, taken.kind, taken.arguments) == (number, "echo", {"destination": "pacs"})
        assert commands.take(session, "sender") is None
    with database.read() as session:
        waiting = commands.result(session, number)
        assert waiting is not None
        assert (waiting.state, waiting.answer) == ("taken", None)
    with database.write() as session:
        commands.answer(session, number, {"ok": True, "seconds": 0.1, "message": ""})
        commands.answer(session, number, {"ok": False})
    with database.read() as session:
        done = commands.result(session, number)
        assert done is not None
        assert (done.state, done.answer) == ("answered", {"ok": True, "seconds": 0.1, "message": ""})
        assert commands.result(session, 999) is None


def test_commands_are_taken_in_their_order(database):
    with database.write() as session:
        asked = [commands.ask(session, "sender", "echo", {}) for _ in range(3)]
        taken = [commands.take(session, "sender") for _ in range(3)]
    assert [command.id for command in taken if command] == asked


def test_a_command_that_nobody_took_in_time_is_not_done_later(database):
    with database.write() as session:
        commands.ask(session, "sender", "echo", {})
        session.execute(update(Command).values(created_at=utcnow() - 2 * commands.STALE))
        assert commands.take(session, "sender") is None


def test_two_processes_never_take_the_same_command(database):
    with database.write() as session:
        asked = [commands.ask(session, "sender", "echo", {}) for _ in range(20)]
    taken: list[int] = []

    def work():
        while True:
            with database.write() as session:
                command = commands.take(session, "sender")
            if command is None:
                return
            taken.append(command.id)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(taken) == asked
