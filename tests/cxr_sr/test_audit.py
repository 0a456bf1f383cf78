"""The audit trail from a shell and by the clock: exported, sealed, verified, and verified by a stranger."""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from cxr_sr import cli, scheduler
from cxr_sr.scheduler import Duties
from db import alerts, audit, verification
from db.presence import Presence
from db.seals import Sealer
from db.types import utcnow
from tests.peers import ROOT


@pytest.fixture
def run(data_dir, database, monkeypatch, capfd):
    """Return a function that runs a command line on the test's node and gives status, stdout and stderr."""
    monkeypatch.setenv("CXR_SR_DATA_DIR", str(data_dir))

    def call(*arguments: str) -> tuple[int, str, str]:
        status = cli.run(arguments)
        shown = capfd.readouterr()
        return status, shown.out, shown.err

    return call


@pytest.fixture
def busy(database):
    with database.write() as session:
        for number in range(3):
            audit.record(session, "eve", "job.retry", object_type="job", object_id=number)
        audit.record(session, "Zoë", "jobs.search", detail={"query": {"patient": "ZZYZX"}, "n": 1.0})
    Sealer(database).seal()
    return database


def tamper(database) -> None:
    with database.write() as session:
        session.execute(text("DROP TRIGGER audit_event_no_update"))
        session.execute(text("UPDATE audit_event SET actor = 'adam' WHERE id = 2"))


def test_the_trail_is_listed_without_what_was_searched_for(run, busy):
    status, out, _ = run("audit", "list", "--actor", "eve", "--limit", "2")
    assert status == 0
    assert out.count("job.retry") == 2
    [found] = json.loads(run("audit", "list", "--action", "jobs.", "--json")[1])["entries"]
    assert (found["actor"], found["detail"]) == ("Zoë", {"n": 1.0})


def test_a_sound_trail_is_verified_and_the_trail_tells_of_that(run, busy):
    status, out, err = run("audit", "verify")
    assert (status, err) == (0, "")
    assert "4 rows" not in out
    assert "5 rows in 1 chains, 1 seals" in out
    report = json.loads(run("audit", "verify", "--json")[1])
    assert (report["sound"], report["findings"], report["rows"]) == (True, [], 6)
    with busy.read() as session:
        last = verification.last(session)
    assert last.actor.startswith("cli")
    assert last.outcome == "success"
    assert run("audit", "verify", "--head", report["head"])[0] == 0


def test_a_trail_that_was_tampered_with_fails_and_is_told_without_names(run, busy):
    tamper(busy)
    status, out, err = run("audit", "verify")
    assert status == 1
    assert "row 2 was changed" in out
    assert err == "cxr-sr: the audit trail is not what was written: 1 finding\n"
    status, out, _ = run("audit", "verify", "--json", "--head", "f" * 64)
    assert status == 1
    assert [one["kind"] for one in json.loads(out)["findings"]] == ["changed", "seal-missing"]
    assert "adam" not in out


def test_an_export_is_for_its_owner_alone_and_overwrites_nothing(run, busy, tmp_path):
    target = tmp_path / "audit.csv"
    assert run("audit", "export", str(target))[0] == 0
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert "ZZYZX" not in target.read_text()
    assert run("audit", "export", str(target))[0] == 1
    with busy.read() as session:
        assert len(audit.page(session, audit.Filter(action="audit.export"))[0]) == 2
    assert run("audit", "export", "-", "--since", "2001-01-01")[1].count("job.retry") == 3


def test_a_stranger_verifies_an_export_with_the_program_in_the_documentation(
    run, busy, tmp_path, monkeypatch
):
    [program] = re.findall(r"```python\n(.*?)```", (ROOT / "docs/audit.md").read_text(), re.DOTALL)
    (tmp_path / "verify.py").write_text(program)
    entries, seals = tmp_path / "entries.ndjson", tmp_path / "seals.ndjson"
    monkeypatch.setattr(audit, "utcnow", lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    with busy.write() as session:
        audit.record(session, "eve", "login")  # at a whole second, which JSON writes shorter
    run("audit", "export", str(entries), "--format", "json")
    run("audit", "export", str(seals), "--seals")
    command = [sys.executable, str(tmp_path / "verify.py"), str(entries), str(seals)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    assert told.stdout.strip().endswith(str(verification.verify(busy).head))
    entries.write_text(entries.read_text().replace('"eve"', '"eva"', 1))
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 1


@pytest.fixture
def duties(settings, database, store):
    with Presence(database, "scheduler") as here:
        yield Duties(settings, database, store, here)


def test_the_scheduler_seals_what_was_added_and_the_log_has_the_digest(duties, database):
    with database.write() as session:
        audit.record(session, "eve", "login")
    with capture_logs() as logs:
        duties.seal_trail()
        duties.seal_trail()
    [said] = [one for one in logs if one["event"] == "audit-sealed"]
    assert verification.verify(database, head=said["digest"]).sound
    assert not verification.verify(database, head="0" * 64).sound


def test_what_the_last_ones_recorded_is_sealed_at_the_end(duties, database):
    duties.seal_trail()
    with database.write() as session:
        audit.record(session, "eve", "login")
    duties.tell_the_end()
    assert verification.verify(database).unsealed == 1  # the entry about the seal itself


def test_the_scheduler_verifies_and_a_damage_is_an_error_and_an_alert(duties, settings, database):
    duties.seal_trail()
    with database.write() as session:
        audit.record(session, "eve", "login")
        audit.record(session, "eve", "login")
    duties.verify_trail()
    with database.read() as session:
        assert not [one for one in alerts.look(session, settings, None) if one.kind == "audit"]
    tamper(database)
    with capture_logs() as logs:
        duties.verify_trail()
    assert [one["log_level"] for one in logs] == ["error"]
    with database.read() as session:
        [found] = [one for one in alerts.look(session, settings, None) if one.kind == "audit"]
    assert found.message.startswith("The audit trail is not what was written")


def test_the_trail_is_verified_soon_where_it_never_was_and_then_at_its_interval(database):
    now, day = utcnow(), timedelta(days=1)
    assert scheduler.verification_due(database, day, now) < now + timedelta(minutes=5)
    with database.write() as session:
        verification.note(session, "scheduler", verification.Report())
    assert scheduler.verification_due(database, day, now) > now + day - timedelta(minutes=5)


def test_the_clock_has_both(duties):
    timetable = {job.id for job in scheduler.timetable(duties).get_jobs()}
    assert {"seal_trail", "verify_trail"} <= timetable
