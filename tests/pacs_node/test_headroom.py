"""A worker without room, or without its database, waits; that costs no job an attempt."""

from __future__ import annotations

import errno
import os
import threading

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from structlog.testing import capture_logs

from db.objects import StoreFull
from db.states import JobState
from pacs_node.headroom import Headroom
from tests import dicom_variants as variants
from tests.pacs_node.clinic import open_clinic


@pytest.fixture
def clinic(tmp_path):
    with open_clinic(tmp_path) as clinic:
        yield clinic


@pytest.fixture
def full(clinic, monkeypatch):
    """The store takes nothing until this is cleared."""
    state = threading.Event()
    state.set()
    put, allocate = clinic.store.put, os.posix_fallocate

    def fail_when_full(*args, **more):
        if state.is_set():
            raise StoreFull("the object could not be stored: Disk quota exceeded")
        return put(*args, **more)

    def allocate_when_there_is_room(*args):
        if state.is_set():
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        return allocate(*args)

    monkeypatch.setattr(os, "posix_fallocate", allocate_when_there_is_room)

    def begin() -> threading.Event:
        monkeypatch.setattr(clinic.store, "put", fail_when_full)
        return state

    return begin


def test_a_result_without_room_is_made_again_when_there_is_and_costs_no_attempt(clinic, full):
    accepted = clinic.receive(variants.cr())
    state = full()
    assert clinic.worker.work_once()
    job = clinic.job(accepted.job_id)
    assert (job.state, job.reason_code, job.attempts) == (JobState.QUEUED, "no-room", 0)
    with capture_logs() as lines:
        assert [clinic.worker.headroom.is_there() for _ in range(20)] == [False] * 20
        state.clear()
        assert clinic.worker.headroom.is_there()
    assert [line["event"] for line in lines] == [
        "no room for results, jobs wait",
        "no room for results, jobs wait: over",
    ]
    with clinic.database.write() as session:
        session.get_one(type(job), job.id).not_before = job.created_at
    clinic.work()
    job = clinic.job(accepted.job_id)
    assert (job.state, job.attempts) == (JobState.DELIVERING, 1)
    assert list(clinic.store.spool.glob("worker-*")) == []


def test_no_job_is_begun_while_there_is_no_room_for_its_result(clinic, full):
    accepted = clinic.receive(variants.cr())
    state = full()
    clinic.worker.headroom.ran_out(1000)
    thread = threading.Thread(target=clinic.worker.work)
    thread.start()
    try:
        assert not clinic.stop.wait(0.5)
        job = clinic.job(accepted.job_id)
        assert (job.state, job.attempts, job.started_at) == (JobState.QUEUED, 0, None)
        state.clear()
        while clinic.job(accepted.job_id).state is not JobState.DELIVERING:
            assert not clinic.stop.wait(0.05)
    finally:
        clinic.stop.set()
        thread.join()


def test_a_preview_without_room_leaves_no_result_behind(clinic, monkeypatch):
    put = clinic.store.put

    def no_previews(file, kind, suffix=""):
        if kind == "previews" and any((clinic.store.root / "results").rglob("*.dcm")):
            raise StoreFull("no room")
        return put(file, kind, suffix)

    monkeypatch.setattr(clinic.store, "put", no_previews)
    job = clinic.serve(variants.cr())
    assert job.reason_code == "no-room"
    assert [path for path in (clinic.store.root / "results").rglob("*") if path.is_file()] == []


def test_what_is_missing_doubles_until_it_suffices(clinic, monkeypatch):
    asked = []
    monkeypatch.setattr(clinic.store, "refuses", lambda size, _kind: asked.append(size))
    headroom = Headroom(clinic.store)
    for _ in range(3):
        headroom.ran_out(3 << 20)
        assert headroom.is_there()
    headroom.sufficed()
    headroom.ran_out(5 << 20)
    assert headroom.is_there()
    assert [size >> 20 for size in asked] == [3, 6, 12, 5]


class Locked(Exception):
    sqlite_errorcode = 5


def test_a_database_that_fails_in_the_middle_costs_no_attempt_and_is_settled_first(clinic):
    accepted = clinic.receive(variants.cr())
    failing = [True]

    def fail(_connection, _cursor, statement, *_more):
        if failing[0] and statement.startswith(("INSERT INTO result", "UPDATE job SET state")):
            if "lease_token=(" in statement.replace(" ", ""):  # the claim itself goes through
                return
            raise OperationalError(statement, {}, Locked())

    event.listen(clinic.database.engine, "before_cursor_execute", fail)
    with pytest.raises(OperationalError):
        clinic.worker.work_once()
    assert clinic.job(accepted.job_id).state is JobState.RUNNING
    failing[0] = False
    clinic.worker.endings.settle()
    job = clinic.job(accepted.job_id)
    assert (job.state, job.reason_code, job.attempts) == (JobState.QUEUED, "database", 0)
