"""A damaged object leaves by no door: neither as it lies there nor as a picture of it."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from db import Database
from db.models import Job
from db.objects import ObjectStore
from tests import dicom_variants as variants
from tests.webui.cabinet import Cabinet
from tests.webui.conftest import Person

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a flipped bit": lambda data: data[:-9] + bytes([data[-9] ^ 4]) + data[-8:],
    "truncated": lambda data: data[: len(data) // 2],
    "of no length": lambda _data: b"",
}


@pytest.fixture
def case(anna: Person, database: Database, store: ObjectStore) -> Any:
    """A job with a result, its result's addresses, and a function that damages its objects."""
    cabinet = Cabinet(database, store)
    ds = variants.cr()
    job = cabinet.source(ds)
    result = cabinet.result(ds)
    base = f"/dicomweb/studies/{result.StudyInstanceUID}"
    instance = f"{base}/series/{result.SeriesInstanceUID}/instances/{result.SOPInstanceUID}"

    def damage(how: Callable[[bytes], bytes]) -> None:
        with database.read() as session:
            row = session.get_one(Job, job)
            assert row.result is not None
            keys = [row.result.object_key, row.source.object_key]
        for key in keys:
            file = Path(getattr(store, "root")) / key  # noqa: B009 - a store of local files
            content = how(file.read_bytes())
            file.chmod(0o600)
            file.write_bytes(content)

    doors = [f"/api/v1/jobs/{job}/{name}" for name in ("result.dcm", "result16.png", "compare.png")]
    doors += [base, instance]
    doors += [f"{instance}/{name}" for name in ("frames/1", "rendered", "bulkdata/7FE00010")]
    return job, doors, damage


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_object_is_handed_out_at_no_door(anna: Person, case: Any, how: str) -> None:
    _job, doors, damage = case
    assert [anna.get(door).status_code for door in doors] == [200] * len(doors)
    damage(DAMAGES[how])
    for door in doors:
        answer = anna.get(door)
        assert answer.status_code == 500, door
        assert answer.get_json()["type"] == "urn:cxr-sr:problem:object-damaged"


def test_an_archive_leaves_out_what_is_damaged_and_says_so(anna: Person, case: Any) -> None:
    job, _doors, damage = case
    damage(DAMAGES["a flipped bit"])
    answer = anna.post("/api/v1/results.zip", json={"jobs": [job], "kind": ["dicom", "png"]})
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.namelist() == ["contents.csv"]
        assert archive.read("contents.csv").decode().count("It is damaged and was left out.") == 2
