"""Who looked at what and searched for whom stands in the audit trail, once for a while."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from config import Settings
from config.settings import AuditSettings
from db import Database
from db.models import AuditEvent
from db.objects import ObjectStore
from tests.webui.conftest import Person, dicom
from tests.webui.jobs import examine
from webui.trail import AGAIN_SECONDS, MAX_REMEMBERED, Recent


def entries(database: Database, action: str) -> list[tuple[str, str | None, dict[str, Any]]]:
    with database.read() as session:
        rows = session.scalars(select(AuditEvent).where(AuditEvent.action == action).order_by(AuditEvent.id))
        return [(row.actor, row.object_id, row.detail) for row in rows]


def test_looking_at_a_job_is_one_entry_however_often_its_page_asks(
    anna: Person, database: Database, store: ObjectStore
) -> None:
    answer = anna.upload(("x.dcm", dicom("1.2.3.4")))
    job_id = int(answer.get_json()["jobs"][0]["id"])
    examine(database, store, job_id)
    for _ in range(3):
        assert anna.get(f"/jobs/{job_id}").status_code == 200
        anna.get(f"/api/v1/jobs/{job_id}/source.png")
    assert entries(database, "job.view") == [("anna", str(job_id), {})]


def test_a_job_that_is_not_there_was_not_looked_at(anna: Person, database: Database) -> None:
    assert anna.get("/jobs/99").status_code == 404
    assert entries(database, "job.view") == []


def test_searches_are_entries_without_what_was_searched_for(anna: Person, database: Database) -> None:
    anna.post("/api/v1/jobs/search", json={"patient": "Zzyzx"})
    anna.post("/api/v1/jobs/search", json={"patient": "Zzyzx", "limit": 5})
    anna.post("/api/v1/jobs/search", json={})
    anna.get("/dicomweb/studies?PatientName=Zzyzx")
    assert entries(database, "jobs.search") == [("anna", None, {})]
    assert entries(database, "dicomweb.search") == [("anna", None, {})]


def test_where_audit_messages_go_out_they_hold_what_was_searched_for(
    anna: Person, database: Database, settings: Settings
) -> None:
    object.__setattr__(settings, "audit", AuditSettings(messages="file"))
    anna.post("/api/v1/jobs/search", json={"patient": "Zzyzx"})
    anna.get("/dicomweb/studies?PatientName=Zzyzx")
    assert entries(database, "jobs.search") == [("anna", None, {"query": {"patient": "Zzyzx"}})]
    (found,) = entries(database, "dicomweb.search")
    assert found[2] == {"query": {"path": "/dicomweb/studies", "query": "PatientName=Zzyzx"}}


def test_a_look_is_told_again_after_a_while_and_memory_is_bounded() -> None:
    now = [0.0]
    recent = Recent(clock=lambda: now[0])
    assert recent.first("a")
    assert not recent.first("a")
    now[0] = AGAIN_SECONDS
    assert recent.first("a")
    for number in range(MAX_REMEMBERED):
        recent.first(number)
    assert recent.first("a")
