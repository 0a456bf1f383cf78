from __future__ import annotations

from datetime import timedelta

import pytest

from db import people, queue, shares
from db.shares import NotShared, Standing
from db.states import JobState
from db.types import utcnow
from tests.db import builders

DAY = timedelta(days=1)


@pytest.fixture
def ada(database):
    with database.write() as session:
        return people.add_user(session, "ada", "radiologist", "a long password").id


def test_a_link_is_found_by_its_token_and_the_token_is_kept_nowhere(database, ada):
    with database.write() as session:
        token, link = shares.create(session, builders.finished(session), user_id=ada, life=DAY)
        found = shares.find(session, token)
        assert found is not None
        assert found.id == link.id
        assert shares.standing(session, found) == Standing.OPEN
        assert token not in str(vars(found))
        assert len(token) >= 32
        assert shares.find(session, token + "x") is None
        assert shares.find(session, "") is None


def test_a_link_ends_by_time_by_its_maker_and_with_the_result(database, ada):
    with database.write() as session:
        job = builders.finished(session)
        _, late = shares.create(session, job, user_id=ada, life=-DAY)
        assert shares.standing(session, late) == Standing.EXPIRED
        _, taken = shares.create(session, job, user_id=ada, life=DAY)
        shares.revoke(taken)
        assert shares.standing(session, taken) == Standing.REVOKED
        _, purged = shares.create(session, job, user_id=ada, life=DAY)
        assert job.result is not None
        job.result.deleted_at = utcnow()
        assert shares.standing(session, purged) == Standing.GONE
        again = builders.finished(session)
        _, withdrawn = shares.create(session, again, user_id=ada, life=DAY)
        queue.retract(session, again, reason="wrong side", actor="root")
        assert shares.standing(session, withdrawn) == Standing.GONE


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.FAILED, JobState.RETRACTED])
def test_without_a_result_there_is_nothing_to_share(database, ada, state):
    with database.write() as session:
        with pytest.raises(NotShared):
            shares.create(session, builders.job_in(session, state), user_id=ada, life=DAY)


def test_open_links_are_listed_for_their_maker(database, ada):
    with database.write() as session:
        bob = people.add_user(session, "bob", "radiologist", "a long password").id
        job = builders.finished(session)
        _, mine = shares.create(session, job, user_id=ada, life=DAY)
        _, his = shares.create(session, job, user_id=bob, life=DAY)
        shares.create(session, job, user_id=ada, life=-DAY)
        assert shares.of_job(session, job.id, user_id=ada) == [mine]
        assert shares.of_job(session, job.id) == [his, mine]
        shares.revoke(mine)
        session.flush()
        assert shares.of_job(session, job.id, user_id=ada) == []
