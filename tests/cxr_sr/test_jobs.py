from __future__ import annotations

import json

import pytest

from cxr_sr import cli
from db import queue
from db.joblog import JobLog
from db.models import Job, Source
from db.states import JobState


@pytest.fixture
def run(data_dir, database, monkeypatch, capsys):
    """Return a function that runs `cxr-sr jobs` on the test's node and gives status, stdout and stderr."""
    monkeypatch.setenv("CXR_SR_DATA_DIR", str(data_dir))

    def call(*arguments: object) -> tuple[int, str, str]:
        status = cli.run(["jobs", *map(str, arguments)])
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return call


@pytest.fixture
def skipped(database) -> int:
    """A job that was skipped, with its reason."""
    with database.write() as session:
        source = Source(
            sha256="0" * 64,
            size_bytes=3,
            object_key="sources/00/" + "0" * 32,
            media_type="application/dicom",
            origin_kind="dimse",
            sop_instance_uid="1.2.3",
        )
        session.add(source)
        session.flush()
        queue.enqueue(session, source)
        lease = queue.claim(session, "worker", 60)
        assert lease is not None
        queue.skip(session, lease, "rule", "a hip is no chest")
        return lease.id


def test_jobs_are_listed_with_state_and_reason(run, skipped):
    (job,) = json.loads(run("list", "--json")[1])["jobs"]
    assert (job["id"], job["state"], job["reason"]) == (skipped, "skipped", "a hip is no chest")
    assert "a hip is no chest" in run("list")[1]
    assert json.loads(run("list", "--json", "--state", "done")[1]) == {"jobs": []}


def test_a_job_is_shown_with_its_timeline(run, skipped):
    record = json.loads(run("show", skipped, "--json")[1])
    assert [event["after"] for event in record["events"]] == ["queued", "running", "skipped"]
    status, out, _ = run("show", skipped)
    assert status == 0
    assert "a hip is no chest" in out


def test_a_skipped_job_can_be_tried_again_and_cancelled(run, database, skipped):
    assert run("retry", skipped)[0] == 0
    with database.read() as session:
        assert session.get_one(Job, skipped).state == JobState.QUEUED
    assert run("cancel", skipped)[0] == 0
    with database.read() as session:
        assert session.get_one(Job, skipped).state == JobState.CANCELLED


@pytest.mark.parametrize("what", [["cancel"], ["release"], ["retract", "--reason", "no"]])
def test_what_the_state_does_not_allow_is_refused_in_one_line(run, skipped, what):
    status, out, err = run(what[0], skipped, *what[1:])
    assert status == 1
    assert out == ""
    assert f"job {skipped}" in err
    assert err.count("\n") == 1


def test_of_several_jobs_those_that_can_be_changed_are_changed(run, database, skipped):
    status, out, _ = run("retry", 99, skipped, "--json")
    assert status == 1
    answer = json.loads(out)
    assert [job["id"] for job in answer["jobs"]] == [skipped]
    assert answer["refused"] == ["job 99: there is no job 99; `cxr-sr jobs list` shows them"]


def test_an_unknown_job_is_an_error(run, database):
    assert run("show", 5) == (1, "", "cxr-sr: there is no job 5; `cxr-sr jobs list` shows them\n")


def test_the_log_of_a_job_is_shown_without_a_shell_on_each_host(run, skipped, database):
    with JobLog(database, "worker", every=0) as log:
        log({"event": "job planned", "job": skipped, "rule": "default", "timestamp": "2026-01-02T03:04:05Z"})
    assert run("log", skipped)[:2] == (
        0,
        "2026-01-02T03:04:05.000+00:00 worker    info     job planned rule=default\n",
    )
    [line] = json.loads(run("log", skipped, "--json")[1])["lines"]
    assert line["fields"] == {"rule": "default"}
    assert run("log", 99)[0] == 1


def test_processing_and_destinations_stand_still_and_go_on_from_a_shell(run):
    status, _out, told = run("pause", "destination:pacs", "--reason", "new firmware")
    assert (status, "no destination pacs is configured" in told) == (1, True)
    assert run("pause", "lunch")[0] == 2
    assert run("pause", "processing", "--reason", "new model")[0] == 0
    status, _out, told = run("pause", "processing")
    assert (status, "Processing is paused already" in told) == (1, True)
    assert run("resume", "processing")[0] == 0
    assert run("resume", "processing")[0] == 1
