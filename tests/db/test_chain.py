"""Entries of the trail follow each other in chains, whoever rolls back, forks or writes at the same time."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections import defaultdict
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import OperationalError

from db import audit, chain, verification
from db.models import AuditEvent


def written(database, *actors: str) -> None:
    with database.write() as session:
        for actor in actors:
            audit.record(session, actor, "login")


def chains(database) -> dict[str, list[str]]:
    """Actors of each chain, in the order of their numbers, which have no gaps."""
    found = defaultdict(list)
    with database.read() as session:
        for row in session.scalars(select(AuditEvent).order_by(AuditEvent.chain, AuditEvent.number)):
            found[row.chain].append(row.actor)
            assert row.number == len(found[row.chain])
    assert verification.verify(database).findings == []
    return dict(found)


def test_entries_of_one_process_follow_each_other(database):
    written(database, "anna", "bert")
    written(database, "carl")
    assert list(chains(database).values()) == [["anna", "bert", "carl"]]


def test_a_digest_is_over_the_whole_row_and_the_digest_before_it(database):
    """As written in docs/audit.md, computed here once more with other words."""
    import hashlib

    with database.write() as session:
        audit.record(session, "anna", "job.retry", object_type="job", object_id=7, address="192.0.2.1")
        audit.record(session, "Jürgen", "jobs.retry", outcome="refused", detail={"n": 2.0, "b": [True, None]})
    with database.read() as session:
        first, second = session.scalars(select(AuditEvent).order_by(AuditEvent.id))
    detail = hashlib.sha256(b'{"b":[true,null],"n":2}').hexdigest()
    said = (
        f'{{"action":"jobs.retry","actor":"Jürgen","address":null,"at":"{second.at:%Y-%m-%dT%H:%M:%S.%f}+00:00",'
        f'"chain":"{second.chain}","detail_sha256":"{detail}","number":2,"object_id":null,"object_type":null,'
        f'"outcome":"refused","previous":"{first.digest}"}}'
    )
    assert second.digest == hashlib.sha256(said.encode()).hexdigest()


@pytest.mark.parametrize(
    "detail",
    [
        {"whole": 3.0, "small": 1e-9, "large": 1e22, "minus": -0.0, "count": 1 << 60},
        {"text": "a\0b\ud800", "ключ": "値", "nested": {"z": 1, "a": [1.5, {"q": "'"}]}},
        {},
    ],
    ids=["numbers", "words", "nothing"],
)
def test_what_comes_back_from_the_engine_has_the_digest_of_what_went_in(database, detail):
    with database.write() as session:
        audit.record(session, "an\0na" + "x" * 200, "login", object_id="9" * 99, detail=detail)
    assert len(chains(database)) == 1


def test_what_is_rolled_back_leaves_no_gap(database):
    written(database, "anna")
    with suppress(RuntimeError), database.write() as session:
        audit.record(session, "bert", "login")
        session.flush()
        raise RuntimeError
    with database.write() as session:
        audit.record(session, "carl", "login")
        session.rollback()
        audit.record(session, "dora", "login")
    written(database, "emil")
    assert list(chains(database).values()) == [["anna", "dora", "emil"]]


def test_a_savepoint_that_is_rolled_back_leaves_no_gap(database):
    with database.write() as session:
        audit.record(session, "anna", "login")
        for actor in ("bert", "carl"):
            with suppress(RuntimeError), session.begin_nested():
                audit.record(session, actor, "login")
                with session.begin_nested():
                    audit.record(session, actor, "login")
                raise RuntimeError
        with session.begin_nested():
            audit.record(session, "dora", "login")
        audit.record(session, "emil", "login")
    with database.write() as session, suppress(RuntimeError), session.begin_nested():
        audit.record(session, "fritz", "login")
        raise RuntimeError
    written(database, "gerd")
    assert list(chains(database).values()) == [["anna", "dora", "emil", "gerd"]]


def test_a_commit_of_which_nobody_knows_ends_its_chain(database):
    """The connection is lost just after COMMIT: the row may be there or not, and both is right."""
    written(database, "anna")

    def lost(connection) -> None:
        connection.connection.driver_connection.commit()  # it was done, and nobody heard
        raise OperationalError("COMMIT", {}, Exception("connection lost"))

    event.listen(database.engine, "commit", lost)
    try:
        with pytest.raises(OperationalError):
            written(database, "bert")
    finally:
        event.remove(database.engine, "commit", lost)
    written(database, "carl")
    found = chains(database)
    assert ["carl"] in found.values()
    assert ["anna", "bert"] in found.values() or ["anna"] in found.values()


@pytest.mark.parametrize("engine_name", ["postgresql"])  # SQLite has one writer
def test_two_transactions_at_once_do_not_wait_for_each_other(database):
    with database.write() as slow:
        audit.record(slow, "slow", "login")
        slow.flush()
        written(database, "quick")  # would wait for ever
    written(database, "later")
    assert sorted(map(sorted, chains(database).values())) in (
        [["later", "quick"], ["slow"]],
        [["later", "slow"], ["quick"]],
    )


def test_threads_that_write_and_roll_back_at_once_make_whole_chains(database):
    failed: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for number in range(12):
                with database.write() as session:
                    audit.record(session, name, "login")
                    if number % 3 == 0:
                        session.flush()
                        session.rollback()
                    elif number % 3 == 1:
                        with suppress(ValueError), session.begin_nested():
                            audit.record(session, "nobody", "login")
                            raise ValueError
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failed == []
    found = chains(database)
    assert sorted(actor for actors in found.values() for actor in actors) == sorted(
        f"t{number}" for number in range(6) for _ in range(8)
    )
    assert len(found) <= (1 if database.sqlite else 6)


FORK = """
import os, sys
from db import Database, audit
database = Database(sys.argv[1])
def write(name):
    with database.write() as session:
        audit.record(session, name, "login")
        if name == "nobody":
            session.flush()
            session.rollback()
write("parent")
database.engine.dispose(close=False)
child = os.fork()
for number in range(10):
    write("parent" if child else "child")
    write("nobody")
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
database.close()
"""


def test_two_processes_at_once_have_chains_of_their_own_though_one_was_forked(database):
    subprocess.run([sys.executable, "-c", FORK, database.url], check=True, timeout=120)
    assert sorted(chains(database).values()) == [["child"] * 10, ["parent"] * 11]


def test_a_moment_is_written_in_utc_to_the_microsecond():
    assert chain.moment(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05.000000+00:00"
