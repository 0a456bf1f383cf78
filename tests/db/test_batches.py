"""Batches of fetched studies: claimed once, kept alive, tried again, paused, cancelled, counted."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from db import Database, batches, commands
from db.batches import Chosen, Claim, ClaimLost
from db.exchange import BatchItem
from db.models import Batch, Command
from db.states import IllegalTransition, JobState, Priority
from db.types import utcnow
from tests.db.builders import job

STUDIES = ("1.1", "1.2", "1.3")


def make(database: Database, *studies: str, archive: str = "old", **query: Any) -> int:
    with database.write() as session:
        chosen = [Chosen(uid, {"PatientID": uid}) for uid in studies or STUDIES]
        return batches.create(session, archive, chosen, query=query).id


def take(database: Database, seconds: float = 60, attempts: int = 3, archive: str = "old") -> Claim | None:
    with database.write() as session:
        return batches.claim(session, archive, seconds, attempts)


def states(database: Database, number: int) -> list[str]:
    with database.read() as session:
        return [item.state for item in batches.items(session, number)]


def state(database: Database, number: int) -> str:
    with database.read() as session:
        return session.get_one(Batch, number).state


def step(database: Database, number: int, change: Any) -> None:
    with database.write() as session:
        batch = batches.get(session, number)
        assert batch is not None
        change(session, batch)


def cancel(session: Any, batch: Batch) -> None:
    batches.cancel(session, batch, actor="anna")


def test_each_study_is_fetched_once_and_then_the_batch_is_finished(database: Database) -> None:
    number = make(database, "1.1", "1.2", "1.1")
    with database.read() as session:
        assert batches.due_archives(session) == ["old"]
    for uid in ("1.1", "1.2"):
        claim = take(database)
        assert claim is not None
        assert (claim.study_instance_uid, claim.attempt) == (uid, 1)
        assert state(database, number) == "open"
        with database.write() as session:
            batches.fetched(session, claim, 2)
    assert take(database) is None
    assert (state(database, number), states(database, number)) == ("finished", ["fetched"] * 2)
    with database.read() as session:
        assert batches.due_archives(session) == []
        found = batches.progress(session, number)
    assert (found.studies, found.received, found.total, found.ended) == ({"fetched": 2}, 4, 2, 2)


def test_two_fetchers_never_take_the_same_study(database: Database) -> None:
    number = make(database, *(f"1.{n}" for n in range(12)))
    taken: list[str] = []

    def work() -> None:
        while claim := take(database):
            taken.append(claim.study_instance_uid)
            with database.write() as session:
                batches.fetched(session, claim, 1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(f"1.{n}" for n in range(12))
    assert state(database, number) == "finished", "of two that end at once, one sees that they were the last"


def test_a_study_whose_fetcher_died_is_taken_again_and_the_dead_one_is_fenced_off(database: Database) -> None:
    number = make(database, "1.1")
    dead = take(database, seconds=-1)
    assert dead is not None
    late = take(database)
    assert late is not None
    assert (late.item_id, late.attempt) == (dead.item_id, 2)
    for change in (batches.fetched, lambda s, c, _: batches.fail(s, c, "x"), batches.keep):
        with pytest.raises(ClaimLost), database.write() as session:
            change(session, dead, 1)
    assert states(database, number) == ["fetching"]


def test_a_study_that_kills_every_fetcher_has_failed_in_the_end(database: Database) -> None:
    number = make(database, "1.1")
    for _ in range(2):
        assert take(database, seconds=-1, attempts=2)
    assert take(database, attempts=2) is None
    assert (state(database, number), states(database, number)) == ("finished", ["failed"])


def test_a_claim_is_kept_and_a_dead_archive_does_not_use_up_attempts(database: Database) -> None:
    make(database, "1.1")
    claim = take(database)
    assert claim is not None
    with database.write() as session:
        until = batches.keep(session, claim, 120)
    assert until > claim.until
    kept = replace(claim, until=until)
    with database.write() as session:
        batches.later(session, kept, "cannot be reached", timedelta(), counts=False)
    again = take(database)
    assert again is not None
    assert again.attempt == 1
    with database.write() as session:
        batches.later(session, again, "broken", timedelta(), counts=True)
    third = take(database)
    assert third is not None
    assert third.attempt == 2
    with database.write() as session:
        batches.later(session, third, "broken", timedelta(hours=1), counts=True)
    assert take(database) is None


def test_a_paused_batch_waits_and_another_goes_on(database: Database) -> None:
    first = make(database, "1.1")
    second = make(database, "2.1")
    step(database, first, batches.pause)
    claim = take(database)
    assert claim is not None
    assert claim.batch_id == second
    assert take(database) is None
    with pytest.raises(IllegalTransition):
        step(database, first, batches.pause)
    step(database, first, batches.resume)
    assert take(database) is not None


def test_a_cancelled_batch_takes_its_waiting_jobs_with_it_and_drops_what_is_on_its_way(
    database: Database,
) -> None:
    number = make(database)
    claim = take(database)
    assert claim is not None
    with database.write() as session:
        _, done = (job(session, batch_id=number, priority=Priority.BULK) for _ in range(2))
        done.state = JobState.DONE
    step(database, number, cancel)
    assert (state(database, number), states(database, number)) == ("cancelled", ["cancelled"] * 3)
    with pytest.raises(ClaimLost), database.write() as session:
        batches.fetched(session, claim, 1)
    with database.read() as session:
        assert batches.progress(session, number).jobs == {"cancelled": 1, "done": 1}
        assert batches.waiting_images(session) == 0
    for change in (cancel, batches.pause, batches.resume, batches.retry):
        with pytest.raises(IllegalTransition):
            step(database, number, change)


def test_failed_studies_are_fetched_again_on_request(database: Database) -> None:
    number = make(database, "1.1", "1.2")
    for _ in range(2):
        claim = take(database)
        assert claim is not None
        with database.write() as session:
            batches.fail(session, claim, "gone")
    assert state(database, number) == "finished"
    step(database, number, batches.retry)
    assert (state(database, number), states(database, number)) == ("open", ["waiting"] * 2)
    with pytest.raises(IllegalTransition):
        step(database, number, batches.retry)


def test_only_images_of_batches_count_as_waiting(database: Database) -> None:
    number = make(database)
    with database.write() as session:
        job(session)
        job(session, batch_id=number)
        uploads = Batch(kind="upload")
        session.add(uploads)
        session.flush()
        job(session, batch_id=uploads.id)
    with database.read() as session:
        assert batches.waiting_images(session) == 1


def test_an_object_that_was_moved_to_us_is_known_by_the_message_that_asked_for_it(database: Database) -> None:
    make(database, "1.1", "1.2")
    claim = take(database)
    assert claim is not None
    with database.read() as session:
        ((item, _batch),) = batches.by_move(session, batches.move_id(claim.item_id))
        assert item.id == claim.item_id
        assert batches.by_move(session, batches.move_id(claim.item_id + 1)) == []
    with database.write() as session:
        batches.arrived(session, claim.item_id)
        batches.arrived(session, claim.item_id)
        assert batches.received(session, claim.item_id) == 2
        batches.fetched(session, claim, 2)
        batches.arrived(session, claim.item_id)
        assert batches.received(session, claim.item_id) == 2


def test_message_ids_fit_into_sixteen_bits_and_are_never_zero() -> None:
    assert {1 <= batches.move_id(number) <= 65535 for number in (1, 65534, 65535, 65536, 1 << 40)} == {True}


def test_searches_are_forgotten_after_a_while(database: Database) -> None:
    with database.write() as session:
        old, new = (commands.ask(session, batches.ROLE, "search", {"terms": {}}) for _ in range(2))
        other = commands.ask(session, "sender", "echo", {})
        long_ago = utcnow() - 2 * batches.SEARCH_KEPT
        session.execute(update(Command).where(Command.id.in_((old, other))).values(created_at=long_ago))
    with database.write() as session:
        assert batches.forget_searches(session) == 1
    with database.read() as session:
        assert [commands.result(session, number) is None for number in (old, new, other)] == [
            True,
            False,
            False,
        ]


def test_the_claims_of_an_archive_are_its_own(database: Database) -> None:
    make(database, "1.1", archive="a")
    make(database, "2.1", archive="b")
    assert (claim := take(database, archive="b")) is not None
    assert claim.study_instance_uid == "2.1"
    with database.read() as session:
        assert batches.due_archives(session) == ["a"]
        assert session.get_one(BatchItem, claim.item_id).attempts == 1
