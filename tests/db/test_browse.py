"""Looking through the jobs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import event

from db import browse
from db.browse import Search
from db.models import Patient, Series, Study
from db.states import JobState, Purpose
from db.types import utcnow
from tests.db import builders


@pytest.fixture
def chest(database):
    """A job whose patient, study and series are known, beside others."""
    with database.write() as session:
        builders.job(session)
        patient = Patient(patient_id="P-17", name="Doe^Jane_100%")
        study = Study(
            patient=patient, study_instance_uid="1.2.3", accession_number="A-4", study_date="20260303"
        )
        series = Series(study=study, series_instance_uid="1.2.3.4", modality="CR")
        session.add(series)
        session.flush()
        source = builders.source(
            session, series_fk=series.id, origin_ae_title="CR_ROOM_1", sop_instance_uid="1.2.3.4.5"
        )
        job = builders.job(session, of=source)
        builders.job(session)
        return job.id


def test_pages_go_from_the_newest_to_the_oldest_and_miss_none(database):
    ids = builders.jobs(database, 7)
    seen, cursor = [], None
    with database.read() as session:
        for _ in range(3):
            page = browse.jobs(session, limit=3, after=cursor)
            seen += [job.id for job in page.jobs]
            cursor = page.next_cursor
    assert seen == ids[::-1]
    assert cursor is None


def test_a_last_page_that_is_exactly_full_has_no_cursor(database):
    builders.jobs(database, 3)
    with database.read() as session:
        assert browse.jobs(session, limit=3).next_cursor is None


def test_what_comes_meanwhile_shifts_no_page(database):
    ids = builders.jobs(database, 4)
    with database.read() as session:
        first = browse.jobs(session, limit=2)
    builders.jobs(database, 3)
    with database.read() as session:
        second = browse.jobs(session, limit=2, after=first.next_cursor)
    assert [job.id for job in [*first.jobs, *second.jobs]] == ids[::-1]


@pytest.mark.parametrize("limit", [0, -5, 10**9])
def test_a_page_is_never_empty_nor_endless(database, limit):
    builders.jobs(database, 2)
    with database.read() as session:
        assert 1 <= len(browse.jobs(session, limit=limit).jobs) <= 2


def test_a_page_reads_all_that_it_shows_in_few_statements_and_stays_readable(database):
    with database.write() as session:
        for _ in range(5):
            builders.finished(session, builders.PACS)
    statements = []
    event.listen(database.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    with database.read() as session:
        page = browse.jobs(session)
    for job in page.jobs:
        assert job.source.series is None
        assert job.result is not None
        assert job.model_version is None
        assert [delivery.destination_name for delivery in job.deliveries] == ["pacs"]
    assert len([statement for statement in statements if statement.startswith("SELECT")]) <= 2


def test_jobs_are_found_by_their_state(database):
    with database.write() as session:
        made = {state: builders.job_in(session, state).id for state in set(JobState) - {JobState.QUEUED}}
    with database.read() as session:
        for state, job_id in made.items():
            assert [job.id for job in browse.jobs(session, states=[state]).jobs] == [job_id]
        both = browse.jobs(session, states={JobState.HELD, JobState.DONE})
        assert {job.state for job in both.jobs} == {JobState.HELD, JobState.DONE}
        assert browse.jobs(session, states=[]).jobs == []
        assert browse.counts(session) == {state: int(state != JobState.QUEUED) for state in JobState}


@pytest.mark.parametrize(
    "search",
    [
        Search(patient_name="doe^jane"),
        Search(patient_name="*JANE*"),
        Search(patient_name="_100%"),
        Search(patient_id="P-17"),
        Search(accession_number="A-4"),
        Search(uid="1.2.3"),
        Search(uid="1.2.3.4"),
        Search(uid="1.2.3.4.5"),
        Search(study_date_from="20260303", study_date_to="20260303"),
        Search(study_date_to="20260304", modality="CR"),
        Search(origin="CR_ROOM_1"),
    ],
    ids=str,
)
def test_a_search_finds_what_it_is_about(database, chest, search):
    with database.read() as session:
        assert [job.id for job in browse.jobs(session, search=search).jobs] == [chest]


@pytest.mark.parametrize(
    "search",
    [
        Search(patient_name="d_e"),
        Search(patient_id="P-1"),
        Search(study_date_from="20260304"),
        Search(patient_id="P-17", modality="DX"),
        Search(purpose=Purpose.SHADOW),
        Search(received_from=utcnow() + timedelta(days=1)),
        Search(received_to=utcnow() - timedelta(days=1)),
        Search(batch_id=99),
    ],
    ids=str,
)
def test_a_search_finds_nothing_else(database, chest, search):
    with database.read() as session:
        assert browse.jobs(session, search=search).jobs == []


def test_an_empty_search_asks_nothing(database, chest):
    assert not Search()
    with database.read() as session:
        assert len(browse.jobs(session, search=Search()).jobs) == 3


def test_a_result_is_found_by_its_uids(database):
    with database.write() as session:
        job = builders.finished(session)
        assert job.result is not None
        uids = job.result.sop_instance_uid, job.result.series_instance_uid
    with database.read() as session:
        for uid in uids:
            assert [found.id for found in browse.jobs(session, search=Search(uid=uid)).jobs] == [job.id]


def test_one_job_comes_with_its_whole_story(database):
    with database.write() as session:
        job_id = builders.finished(session, builders.PACS).id
    with database.read() as session:
        job = browse.job(session, job_id)
        assert browse.job(session, 999) is None
    assert job is not None
    assert [(event.kind, event.after) for event in job.events] == [
        ("state", "queued"),
        ("state", "running"),
        ("delivery", "waiting"),
        ("state", "delivering"),
    ]
