"""Keys of requests that may come twice."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from db import idempotency, people, retention
from db.desk import IdempotencyKey
from db.idempotency import Claim, KeyBusy, KeyReused
from db.types import utcnow

DIGEST = "a" * 64


@pytest.fixture
def user(database):
    with database.write() as session:
        return people.add_user(session, "anna", "radiologist", "correct horse battery").id


def claimed(database, user, key="k", digest=DIGEST) -> Claim:
    claim = idempotency.claim(database, user, key, digest)
    assert isinstance(claim, Claim)
    return claim


def test_of_many_at_once_one_is_let_in(database, user):
    won, told, ready = [], [], threading.Barrier(6)

    def ask():
        ready.wait(timeout=30)
        try:
            won.append(idempotency.claim(database, user, "k", DIGEST))
        except KeyBusy:
            told.append("busy")

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(won) == 1
    assert len(told) == 5


def test_of_many_at_once_one_takes_the_place_of_a_dead_one(database, user):
    idempotency.claim(database, user, "k", DIGEST)
    with database.write() as session:
        session.execute(update(IdempotencyKey).values(at=utcnow() - timedelta(hours=1)))
    won, ready = [], threading.Barrier(4)

    def ask():
        ready.wait(timeout=30)
        try:
            won.append(idempotency.claim(database, user, "k", DIGEST))
        except KeyBusy:
            pass

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert len(won) == 1
    assert isinstance(won[0], Claim)


def test_another_digest_is_another_request(database, user):
    claim = claimed(database, user)
    with pytest.raises(KeyReused):
        idempotency.claim(database, user, "k", "b" * 64)
    idempotency.give_up(database, claim)
    assert isinstance(idempotency.claim(database, user, "k", "b" * 64), Claim)


def test_retention_takes_keys_after_a_day(database, store, user):
    idempotency.settle(database, claimed(database, user, "old"), 202, {"jobs": []})
    with database.write() as session:
        session.execute(update(IdempotencyKey).values(at=utcnow() - timedelta(hours=25)))
    idempotency.settle(database, claimed(database, user, "young"), 202, {"jobs": []})
    long_ago = utcnow() - timedelta(days=365)
    retention.purge(database, store, sources_before=long_ago, results_before=long_ago, events_before=long_ago)
    with database.read() as session:
        assert session.scalar(select(func.count(IdempotencyKey.id))) == 1
