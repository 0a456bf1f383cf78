"""De-identified results from a shell: only where it was switched on, and the trail tells of each."""

from __future__ import annotations

import io
import stat

import pytest
from pydicom import dcmread, dcmwrite
from sqlalchemy import select

from cxr_sr import cli
from db import queue
from db.models import AuditEvent
from db.states import JobState
from tests import dicom_variants as variants
from tests.db import builders
from tests.pacs_node.test_deidentify import MARK, planted
from tests.pacs_node.test_derive import derived_from


@pytest.fixture
def run(data_dir, database, monkeypatch, capfd):
    """Return a function that runs `cxr-sr export` where it is switched on, and gives status and stderr."""
    monkeypatch.setenv("CXR_SR_DATA_DIR", str(data_dir))
    monkeypatch.setenv("CXR_SR_RESEARCH__DEIDENTIFIED_EXPORT", "true")

    def call(*arguments: str) -> tuple[int, str]:
        status = cli.run(["export", *arguments])
        return status, capfd.readouterr().err

    return call


@pytest.fixture
def job(database, put_object) -> int:
    """A job whose result names a patient."""
    return finished(database, put_object)


def finished(database, put_object, **changes) -> int:
    ds = derived_from(planted(variants.cr))
    for name, value in changes.items():
        setattr(ds, name, value)
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    key = put_object(buffer.getvalue())
    with database.write() as session:
        done = builders.finished(session)
        done.result.object_key = key
    return done.id


def test_it_is_off_until_somebody_has_switched_it_on(run, job, tmp_path, monkeypatch):
    monkeypatch.delenv("CXR_SR_RESEARCH__DEIDENTIFIED_EXPORT")
    status, err = run(str(job), "--to", str(tmp_path / "out"))
    assert status == 1
    assert "research.deidentified_export" in err
    assert not (tmp_path / "out").exists()


def test_an_export_names_nobody_is_for_its_owner_alone_and_stands_in_the_trail(run, database, job, tmp_path):
    folder = tmp_path / "out"
    assert run(str(job), "--to", str(folder))[0] == 0
    [file] = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert MARK.encode() not in file.read_bytes()
    assert dcmread(file).PatientIdentityRemoved == "YES"
    with database.read() as session:
        [row] = session.scalars(select(AuditEvent).where(AuditEvent.action == "job.export"))
        assert row.object_id == str(job)
    assert run(str(job), "--to", str(folder))[0] == 1, "nothing is overwritten"


def test_what_cannot_be_exported_is_told_and_the_rest_is(run, database, job, put_object, tmp_path):
    burned = finished(database, put_object, BurnedInAnnotation="YES")
    with database.write() as session:
        done = builders.finished(session)
        queue.retract(session, done, reason="wrong side", actor="root")
        assert done.state == JobState.RETRACTED
    retracted = done.id
    status, err = run(str(burned), str(retracted), "99", str(job), "--to", str(tmp_path / "out"))
    assert status == 1
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["000004.dcm"]
    assert f"job {burned}: not exported: there are letters in its pixels" in err
    assert "job 99: it has no result" in err
    assert MARK not in err
