"""Results to take home: every value of them, pictures for a talk, many at once; and to send on."""

from __future__ import annotations

import csv
import io
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy import select

from db import Database
from db.models import AuditEvent, Delivery, Job
from db.objects import ObjectStore
from db.states import JobState
from tests import dicom_variants as variants
from tests.webui import jobs
from tests.webui.cabinet import Cabinet
from tests.webui.conftest import PACS, Person, dicom, png
from webui import bundle, pictures
from webui.bundle import Entry
from webui.comparison import CAPTION


@pytest.fixture
def cabinet(database: Database, store: ObjectStore) -> Cabinet:
    return Cabinet(database, store)


def made(cabinet: Cabinet, ds: Dataset) -> tuple[int, Dataset]:
    """A job with a result, and the result."""
    job = cabinet.source(ds)
    return job, cabinet.result(ds)


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def grey(data: bytes) -> np.ndarray[Any, Any]:
    image = opened(data)
    assert image.mode == "I;16"
    return np.asarray(image).astype(np.int64)


VARIANTS: dict[str, Callable[[], Dataset]] = {
    "12 bits": variants.cr,
    "14 bits": variants.dx,
    "8 bits": variants.secondary_capture,
    "signed": lambda: variants.cr(variants.chest_values(12, signed=True)),
    "inverted": lambda: variants.cr(photometric="MONOCHROME1"),
}


@pytest.mark.parametrize("how", VARIANTS)
def test_sixteen_bits_hold_every_stored_value(anna: Person, cabinet: Cabinet, how: str) -> None:
    job, result = made(cabinet, VARIANTS[how]())
    values = variants.stored_values(result).astype(np.int64)
    bits = int(result.BitsStored)
    if result.PixelRepresentation:
        values = values + (1 << (bits - 1))
    stored = anna.get(f"/api/v1/jobs/{job}/result16.png?values=stored")
    assert np.array_equal(grey(stored.data), values)
    answer = anna.get(f"/api/v1/jobs/{job}/result16.png")
    shown = grey(answer.data) >> (16 - bits)
    if how == "inverted":
        shown = (1 << bits) - 1 - shown
    assert np.array_equal(shown, values)
    assert "AI-processed" in opened(answer.data).info["Description"]
    assert answer.headers["Content-Disposition"] == f'attachment; filename="cxr-sr-job-{job}-16bit.png"'


def test_a_query_that_means_nothing_is_refused(anna: Person, cabinet: Cabinet) -> None:
    job, result = made(cabinet, variants.cr())
    for query in ("values=all", "depth=16"):
        assert anna.get(f"/api/v1/jobs/{job}/result16.png?{query}").status_code == 422
    outside = f"x=0&y=0&width={result.Columns + 1}&height=20"
    for query in ("x=1", "x=0&y=0&width=4&height=4", outside):
        assert anna.get(f"/api/v1/jobs/{job}/compare.png?{query}").status_code == 422


def test_before_and_after_stand_side_by_side_without_patient_data(anna: Person, cabinet: Cabinet) -> None:
    source = variants.cr(PatientName="Zzyzx^Marker")
    job, _ = made(cabinet, source)
    answer = anna.get(f"/api/v1/jobs/{job}/compare.png")
    assert answer.status_code == 200, answer.text
    assert b"Zzyzx" not in answer.data
    assert "Zzyzx" not in str(answer.headers)
    picture = np.asarray(opened(answer.data))
    middle = picture.shape[1] // 2
    left, right = picture[CAPTION:, :middle], picture[CAPTION:, middle:]
    assert left.std() > 20
    assert right.std() > 20
    assert picture[:CAPTION].max() > 200, "there are captions"
    part = anna.get(f"/api/v1/jobs/{job}/compare.png?x=10&y=20&width=40&height=30")
    assert opened(part.data).height == CAPTION + 30 * (pictures.PANEL // 40)


def test_a_detail_shows_the_same_place_of_both(anna: Person, cabinet: Cabinet) -> None:
    values = np.zeros((64, 64), np.uint16)
    values[16:32, 32:48] = 4000
    job, _ = made(cabinet, variants.cr(values))
    answer = anna.get(f"/api/v1/jobs/{job}/compare.png?x=64&y=32&width=32&height=32")
    picture = np.asarray(opened(answer.data))[CAPTION:]
    half = picture.shape[1] // 2
    inner = picture[100:-100]
    assert inner[:, 100 : half - 100].min() > 200
    assert inner[:, half + 100 : -100].min() > 200
    dark = anna.get(f"/api/v1/jobs/{job}/compare.png?x=0&y=64&width=32&height=32")
    assert np.asarray(opened(dark.data))[CAPTION + 100 : -100].max() < 60


def test_of_an_image_with_text_in_its_pixels_no_picture_is_made(anna: Person, cabinet: Cabinet) -> None:
    job, _ = made(cabinet, variants.cr(BurnedInAnnotation="YES"))
    answer = anna.get(f"/api/v1/jobs/{job}/compare.png")
    assert (answer.status_code, answer.get_json()["type"]) == (409, "urn:cxr-sr:problem:burned-in")
    assert anna.get(f"/api/v1/jobs/{job}/result16.png").status_code == 200


@pytest.mark.parametrize("path", ["result16.png", "compare.png"])
def test_what_is_not_there_is_said_so(
    anna: Person, visitor: Person, root: Person, cabinet: Cabinet, path: str
) -> None:
    assert visitor.get(f"/api/v1/jobs/1/{path}").status_code == 401
    assert anna.get(f"/api/v1/jobs/1/{path}").status_code == 404
    waiting = cabinet.source(variants.cr())
    assert anna.get(f"/api/v1/jobs/{waiting}/{path}").status_code == 409
    cabinet.result(variants.cr())
    root.post(f"/api/v1/jobs/{waiting}/retract", json={"reason": "wrong side"})
    assert anna.get(f"/api/v1/jobs/{waiting}/{path}").status_code == 410


def unzipped(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def contents(files: dict[str, bytes]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(files[bundle.CONTENTS].decode())))


def test_many_come_in_one_archive_and_it_says_what_is_missing(
    anna: Person, cabinet: Cabinet, database: Database
) -> None:
    first, result = made(cabinet, variants.cr(PatientName="Zzyzx^Marker"))
    second, _ = made(cabinet, variants.dx())
    waiting = cabinet.source(variants.cr())
    wanted = {"jobs": [first, second, waiting, first, 4711], "kind": ["dicom", "png", "compare"]}
    answer = anna.post("/api/v1/results.zip", json=wanted)
    assert answer.status_code == 200
    files = unzipped(answer.data)
    ends = (".dcm", "-16bit.png", "-before-after.png")
    names = {f"cxr-sr-job-{job}{end}" for job in (first, second) for end in ends}
    assert set(files) == {*names, bundle.CONTENTS}
    ds = dcmread(io.BytesIO(files[f"cxr-sr-job-{first}.dcm"]))
    assert ds.SOPInstanceUID == result.SOPInstanceUID
    rows = contents(files)
    assert [row["note"] for row in rows if row["note"]] == ["It has no result.", "There is no such job."]
    assert result.SOPInstanceUID in {row["sop_instance_uid"] for row in rows}
    assert b"Zzyzx" not in files[bundle.CONTENTS]
    with database.read() as session:
        told = session.scalars(select(AuditEvent).where(AuditEvent.action == "job.download")).all()
    assert {(row.object_id, row.detail["as"]) for row in told} == {(str(first), "zip"), (str(second), "zip")}


def test_an_archive_of_nothing_is_refused(anna: Person, visitor: Person, cabinet: Cabinet) -> None:
    waiting = cabinet.source(variants.cr())
    answer = anna.post("/api/v1/results.zip", json={"jobs": [waiting, 99]})
    assert (answer.status_code, answer.get_json()["type"]) == (409, "urn:cxr-sr:problem:no-results")
    wrongs: list[Any] = [{"jobs": []}, {"jobs": list(range(1, 600))}, {"jobs": [1], "kind": ["exe"]}]
    for wrong in wrongs:
        assert anna.post("/api/v1/results.zip", json=wrong).status_code == 422
    assert visitor.post("/api/v1/results.zip", json={"jobs": [1]}).status_code == 401


def test_a_file_that_vanishes_meanwhile_is_told_in_the_contents(
    anna: Person, cabinet: Cabinet, database: Database, store: ObjectStore
) -> None:
    jobs_made = [made(cabinet, variants.cr())[0] for _ in range(2)]
    with database.read() as session:
        row = session.get_one(Job, jobs_made[0]).result
        assert row is not None
        store.delete(row.object_key)
    files = unzipped(anna.post("/api/v1/results.zip", json={"jobs": jobs_made}).data)
    assert list(files) == [f"cxr-sr-job-{jobs_made[1]}.dcm", bundle.CONTENTS]
    assert [row["note"] for row in contents(files)] == ["It is not kept any more.", ""]


def test_an_archive_is_made_piece_by_piece_as_it_is_read() -> None:
    """A hundred megabytes pass while only some pieces of a quarter are in memory."""
    piece, pieces, files = bytes(256 << 10), 40, 10

    def chunks() -> Iterator[bytes]:
        for _ in range(pieces):
            yield piece

    entries = (Entry(f"{n}.dcm", datetime(2026, 1, 2, tzinfo=UTC), chunks, {"job": n}) for n in range(files))
    tracemalloc.start()
    try:
        size = sum(len(data) for data in bundle.zipped(entries))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > pieces * files * len(piece)
    assert most < 8 * len(piece)


def test_a_result_is_sent_to_a_destination_once(anna: Person, database: Database, store: ObjectStore) -> None:
    number = anna.upload(("a.dcm", dicom("1.2.1"))).get_json()["jobs"][0]["id"]
    jobs.finish(database, store)
    answer = anna.post(f"/api/v1/jobs/{number}/send", json={"destination": ["pacs"]})
    assert answer.status_code == 200, answer.text
    job = answer.get_json()
    assert (job["state"], [d["destination"] for d in job["deliveries"]]) == ("delivering", ["pacs"])
    again = anna.post(f"/api/v1/jobs/{number}/send", json={"destination": ["pacs"]})
    assert again.status_code == 409
    assert "on its way to pacs already" in again.get_json()["detail"]
    with database.read() as session:
        entry = session.scalars(select(AuditEvent).where(AuditEvent.action == "job.send")).one()
        delivery = session.scalars(select(Delivery)).one()
    assert entry.detail == {"destination": "pacs"}
    assert delivery.destination == PACS.model_dump(mode="json")


def test_what_cannot_be_sent_is_refused_in_words(
    anna: Person, visitor: Person, database: Database, store: ObjectStore
) -> None:
    waiting = anna.upload(("a.dcm", dicom("1.2.1"))).get_json()["jobs"][0]["id"]
    path = f"/api/v1/jobs/{waiting}/send"
    assert visitor.post(path, json={"destination": ["pacs"]}).status_code == 401
    assert anna.post(path, json={"destination": []}).status_code == 422
    assert anna.post(path, json={"destination": ["nowhere"]}).status_code == 422
    assert anna.post("/api/v1/jobs/99/send", json={"destination": ["pacs"]}).status_code == 404
    assert "only a finished result" in anna.post(path, json={"destination": ["pacs"]}).get_json()["detail"]
    jobs.finish(database, store, to=(PACS,), release="review")
    held = anna.post(path, json={"destination": ["pacs"]})
    assert (held.status_code, "waits for release" in held.get_json()["detail"]) == (409, True)


def test_a_picture_whose_patient_nobody_picked_is_not_sent(
    anna: Person, database: Database, store: ObjectStore
) -> None:
    number = anna.upload(("a.png", png())).get_json()["jobs"][0]["id"]
    jobs.finish(database, store)
    answer = anna.post(f"/api/v1/jobs/{number}/send", json={"destination": ["pacs"]})
    assert answer.status_code == 409
    assert "picked" in answer.get_json()["detail"]
    assert jobs.state(database, number) == JobState.DONE


def test_many_are_sent_and_each_refusal_has_its_reason(
    anna: Person, database: Database, store: ObjectStore
) -> None:
    first = anna.upload(("a.dcm", dicom("1.2.1"))).get_json()["jobs"][0]["id"]
    jobs.finish(database, store)
    picture = anna.upload(("a.png", png())).get_json()["jobs"][0]["id"]
    jobs.finish(database, store)
    wanted = {"jobs": [first, picture, 4711], "destination": ["pacs"]}
    answer = anna.post("/api/v1/results/send", json=wanted).get_json()
    assert answer["sent"] == [first]
    assert [row["job"] for row in answer["refused"]] == [picture, 4711]
    assert "picked" in answer["refused"][0]["detail"]
    assert jobs.state(database, first) == JobState.DELIVERING
