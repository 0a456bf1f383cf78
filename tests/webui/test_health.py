from __future__ import annotations

import errno
import os
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError

from config import Settings
from config.settings import QueueSettings
from db import Database, presence
from db.models import RoleInstance
from db.objects import ObjectStore
from tests.webui import jobs
from tests.webui.conftest import PACS, Person, dicom
from webui.api.system import ROLES
from webui.app import create_app


def _all_roles(database: Database) -> None:
    with database.write() as session:
        for role in ROLES:
            session.add(RoleInstance(id=role, role=role, host="h", pid=1, info={}))


def test_the_process_says_that_it_is_alive_without_a_database(
    visitor: Person, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "read", None)
    answer = visitor.get("/healthz")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "ok"})


def test_a_node_with_all_its_roles_is_ready(visitor: Person, database: Database) -> None:
    _all_roles(database)
    answer = visitor.get("/readyz")
    assert (answer.status_code, answer.get_json()) == (200, {"ready": True, "reasons": [], "paused": []})


def test_readiness_names_each_reason(settings: Settings, database: Database) -> None:
    tight = settings.storage.model_copy(update={"reserve_bytes": 1 << 60})
    changed = settings.model_copy(update={"storage": tight, "queue": QueueSettings(max_waiting=1)})
    easy = Person(create_app(settings, database).test_client())
    easy.login()
    easy.upload(("a.dcm", dicom()))
    with presence.Presence(database, "worker"):
        answer = create_app(changed, database).test_client().get("/readyz")
    assert answer.status_code == 503
    assert answer.get_json()["reasons"] == [
        "The store has no room.",
        "The queue is full.",
        *(f"No {role} is running." for role in ROLES if role != "worker"),
    ]


def test_readiness_says_when_the_database_is_away_or_of_another_version(
    visitor: Person, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_args: Any) -> Any:
        raise OperationalError("SELECT", {}, Exception("unable to open"))

    monkeypatch.setattr(database, "read", away)
    answer = visitor.get("/readyz")
    assert answer.status_code == 503
    assert "The database does not answer." in answer.get_json()["reasons"]


def test_figures_tell_of_jobs_deliveries_room_roles_and_requests(
    visitor: Person, anna: Person, database: Database, store: ObjectStore
) -> None:
    _all_roles(database)
    anna.upload(("Zzyzx.dcm", dicom("1.2.1")), ("b.dcm", dicom("1.2.2")))
    jobs.finish(database, store, to=(PACS,))
    text = visitor.get("/metrics").text
    assert "Zzyzx" not in text
    found: dict[tuple[str, ...], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name, *(sample.labels[name] for name in sorted(sample.labels))] = sample.value
    assert found["cxr_sr_database_up",] == 1
    assert found["cxr_sr_jobs", "queued"] == 1
    assert found["cxr_sr_jobs", "delivering"] == 1
    assert found["cxr_sr_deliveries", "pacs", "waiting"] == 1
    assert found["cxr_sr_role_processes", "worker"] == 1
    assert found["cxr_sr_store_bytes", "free"] > 0
    assert found["cxr_sr_http_requests_total", "POST", "/api/v1/jobs", "202"] == 1
    assert not any("/jobs/1" in label for labels in found for label in labels), "routes, never addresses"


def test_figures_are_there_when_the_database_is_not(
    visitor: Person, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_args: Any) -> Any:
        raise OperationalError("SELECT", {}, Exception("unable to open"))

    monkeypatch.setattr(database, "read", away)
    answer = visitor.get("/metrics")
    assert answer.status_code == 200
    assert "cxr_sr_database_up 0.0" in answer.text


def test_audit_entries_that_wait_for_their_repository_are_counted(
    visitor: Person, database: Database
) -> None:
    with presence.Presence(database, "scheduler", {"audit_waiting": 7}):
        assert "cxr_sr_audit_waiting 7.0" in visitor.get("/metrics").text


def test_readiness_says_why_the_store_takes_nothing_though_there_is_room(
    visitor: Person, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def over_quota(*_args: int) -> None:
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    monkeypatch.setattr(os, "posix_fallocate", over_quota)
    _all_roles(database)
    answer = visitor.get("/readyz")
    assert answer.status_code == 503
    assert answer.get_json()["reasons"] == [f"The store takes nothing: {os.strerror(errno.EDQUOT)}."]
