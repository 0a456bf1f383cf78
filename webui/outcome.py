"""What pictures of a result are made of, told once so that none of it is asked of the database meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from db.models import Job

Values = Literal["shown", "stored"]
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Made:
    """What a picture is made of: keys of objects, sizes in pixels, and by what it was enhanced."""

    job_id: int
    result_key: str
    result_sha256: str
    columns: int
    rows: int
    scale: int | None
    model: str
    source_key: str
    source_sha256: str
    source_preview_key: str | None
    source_columns: int
    source_rows: int
    source_is_dicom: bool

    @classmethod
    def of(cls, job: Job) -> Made:
        """From a job whose source, result and model are loaded; it has a result."""
        result, source, version = job.result, job.source, job.model_version
        if result is None:
            raise ValueError(f"job {job.id} has no result")
        return cls(
            job_id=job.id,
            result_key=result.object_key,
            result_sha256=result.sha256,
            columns=result.columns,
            rows=result.rows,
            scale=job.scale,
            model=f"{version.name} {version.version}" if version else "a model",
            source_key=source.object_key,
            source_sha256=source.sha256,
            source_preview_key=source.preview_key,
            source_columns=source.columns or result.columns,
            source_rows=source.rows or result.rows,
            source_is_dicom=source.media_type == "application/dicom" and source.deleted_at is None,
        )
