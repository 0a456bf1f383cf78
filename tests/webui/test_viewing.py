"""What the pages of jobs tell the viewer: where the images are, and why there may be less to see."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

import pytest

from db import Database
from db.models import Job, Source
from db.objects import ObjectStore
from db.states import JobState
from db.types import utcnow
from tests import dicom_variants as variants
from tests.webui.cabinet import Cabinet
from tests.webui.conftest import Person


@pytest.fixture
def cabinet(database: Database, store: ObjectStore) -> Cabinet:
    return Cabinet(database, store)


def plan_on(page: str) -> dict[str, Any] | None:
    found = re.search(r'data-plan="([^"]*)"', page)
    return json.loads(unescape(found[1])) if found else None


def plan_of(person: Person, job: int) -> dict[str, Any]:
    plan = plan_on(person.get(f"/jobs/{job}").text)
    assert plan is not None
    return plan


def change(cabinet: Cabinet, job: int, *, of_source: dict[str, Any] | None = None, **of_job: Any) -> None:
    with cabinet.database.write() as session:
        row = session.get_one(Job, job)
        for name, value in of_job.items():
            setattr(row, name, value)
        source = session.get_one(Source, row.source_id)
        for name, value in (of_source or {}).items():
            setattr(source, name, value)


def test_a_finished_job_is_seen_by_wado_rs_and_each_address_answers(anna: Person, cabinet: Cabinet) -> None:
    ds = variants.cr()
    job = cabinet.source(ds)
    assert plan_on(anna.get(f"/jobs/{job}").text) is None, "previews have to do while it waits"
    cabinet.result(ds)
    plan = plan_of(anna, job)
    assert (plan["scale"], plan["note"]) == (2, "")
    for which, rows in (("source", ds.Rows), ("result", 2 * ds.Rows)):
        model = anna.get(plan[which]["metadata"], headers={"Accept": "application/dicom+json"})
        assert model.get_json()[0]["00280010"]["Value"] == [rows]
        accept = "multipart/related; type=application/octet-stream; transfer-syntax=*"
        assert anna.get(plan[which]["frame"], headers={"Accept": accept}).status_code == 200
        assert anna.get(plan[which]["preview"]).mimetype == "image/png"


def test_a_result_that_waits_for_release_is_seen_as_its_file(anna: Person, cabinet: Cabinet) -> None:
    ds = variants.cr()
    job = cabinet.source(ds)
    cabinet.result(ds, release="review")
    change(cabinet, job, state=JobState.HELD)
    plan = plan_of(anna, job)
    assert "metadata" in plan["source"]
    assert "metadata" not in plan["result"]
    assert anna.get(plan["result"]["file"]).mimetype == "application/dicom"


def test_what_is_left_is_shown_where_the_original_is_gone_and_the_page_says_so(
    anna: Person, cabinet: Cabinet
) -> None:
    ds = variants.cr()
    job = cabinet.source(ds)
    cabinet.result(ds)
    change(cabinet, job, of_source={"deleted_at": utcnow()})
    plan = plan_of(anna, job)
    assert plan["source"] is None
    assert "no longer kept" in plan["note"]
    assert "metadata" in plan["result"]


def test_an_upload_that_is_no_dicom_is_seen_by_its_preview(anna: Person, cabinet: Cabinet) -> None:
    ds = variants.cr()
    job = cabinet.source(ds)
    cabinet.result(ds)
    change(cabinet, job, of_source={"media_type": "image/png"})
    plan = plan_of(anna, job)
    assert plan["source"] == {"preview": f"/api/v1/jobs/{job}/source.png"}
    assert "no DICOM" in plan["note"]


def test_a_retracted_result_is_not_seen_any_more(anna: Person, cabinet: Cabinet) -> None:
    ds = variants.cr()
    job = cabinet.source(ds)
    cabinet.result(ds)
    change(cabinet, job, state=JobState.RETRACTED)
    page = anna.get(f"/jobs/{job}").text
    plan = plan_on(page)
    assert plan is not None
    assert plan["result"] is None
    assert "ai-banner" not in page
