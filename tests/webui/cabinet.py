"""Images as DICOMweb finds them: taken in, examined by the worker's own code, some with a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from db import Database, queue
from db.intake import Arrival, Origin, intake
from db.models import Job, ModelVersion, Source
from db.objects import ObjectStore, Stored
from pacs_node import decode, facts, preview, reading, records
from pacs_node.errors import Refused
from pacs_node.examine import Examination
from tests import dicom_variants as variants


class Cabinet:
    """What came and what was made of it."""

    def __init__(self, database: Database, store: ObjectStore) -> None:
        self.database, self.store = database, store

    def bring(self, ds: Dataset | bytes) -> int:
        """Take an object in, as any door does; returns its job. Bytes are taken as they are."""
        file = Path(self.store.spool) / "arrival.dcm"
        if isinstance(ds, bytes):
            file.write_bytes(ds)
            names: dict[str, Any] = {}
        else:
            variants.written(ds, file)
            names = {
                "sop_class_uid": str(ds.SOPClassUID),
                "sop_instance_uid": str(ds.SOPInstanceUID),
                "transfer_syntax_uid": str(ds.file_meta.TransferSyntaxUID),
            }
        arrival = Arrival(file, "application/dicom", ".dcm", **names)
        accepted = intake(self.database, self.store, arrival, Origin("dimse"), max_waiting=1000)
        return accepted.job_id

    def source(self, ds: Dataset) -> int:
        """Take an object in and examine it; returns its job."""
        job_id = self.bring(ds)
        self.examine(job_id)
        return job_id

    def examine(self, job_id: int) -> None:
        """Fill in what the worker finds in the object of a job, and its preview."""
        with self.database.read() as session:
            key = session.get_one(Source, session.get_one(Job, job_id).source_id).object_key
        with self.store.open(key) as stream:
            file = Path(self.store.spool) / "examined.dcm"
            file.write_bytes(stream.read())
        examined = _examine(file)
        picture = self._preview(examined.header, examined.image) if examined.image is not None else None
        with self.database.write() as session:
            row = session.get_one(Source, session.get_one(Job, job_id).source_id)
            records.note_examination(session, row, examined)
            row.preview_key = picture.key if picture else None

    def result(self, ds: Dataset, *, release: str = "auto") -> Dataset:
        """Make a result of the next queued job: its source's header with other UIDs and twice the pixels."""
        new = dcmread(variants._memory(ds))
        values = np.repeat(np.repeat(variants.stored_values(new), 2, 0), 2, 1)
        new.Rows, new.Columns = values.shape
        new.PixelData = values.tobytes()
        new.SOPInstanceUID = new.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        new.SeriesInstanceUID = generate_uid()
        new.SeriesNumber, new.SeriesDescription = 1902, "AI enhanced x2"
        stored = self._put(new)
        picture = self._preview(new, decode.decode(new, str(new.file_meta.TransferSyntaxUID)))
        with self.database.write() as session:
            lease = queue.claim(session, "worker-1", 60)
            assert lease is not None
            version = session.query(ModelVersion).first()
            if version is None:
                version = ModelVersion(name="srgan", version="1", digest="0" * 64)
                session.add(version)
                session.flush()
            queue.note_plan(
                session, lease, rule="chest", scale=2, model=version, result_series_uid=new.SeriesInstanceUID,
                result_sop_uid=new.SOPInstanceUID, release=release,
            )  # fmt: skip
            made = queue.NewResult(
                object_key=stored.key,
                sha256=stored.sha256,
                size_bytes=stored.size_bytes,
                sop_class_uid=str(new.SOPClassUID),
                sop_instance_uid=str(new.SOPInstanceUID),
                series_instance_uid=str(new.SeriesInstanceUID),
                rows=new.Rows,
                columns=new.Columns,
                figures={},
                preview_key=picture.key,
                series_number=1902,
                series_description="AI enhanced x2",
            )
            queue.finish(session, lease, made, [], actor="worker-1")
        return new

    def stored(self, sop_instance_uid: str) -> bytes:
        """The bytes of a source as they are kept."""
        with self.database.read() as session:
            row = session.query(Source).filter_by(sop_instance_uid=sop_instance_uid).one()
        with self.store.open(row.object_key) as stream:
            return stream.read()

    def _put(self, ds: Dataset) -> Stored:
        return self.store.put(variants.written(ds, Path(self.store.spool) / "made.dcm"), "results", ".dcm")

    def _preview(self, ds: Dataset, image: decode.StoredImage) -> Stored:
        file = Path(self.store.spool) / "made.png"
        file.write_bytes(preview.preview_png(ds, image.values, image.padding))
        return self.store.put(file, "previews", ".png")


def _examine(file: Path) -> Examination:
    """What the worker's child finds, in this process."""
    ds, syntax, _ = reading.read(file)
    image = refusal = None
    try:
        image = decode.decode(ds, syntax)
    except Refused as refused:
        refusal = refused.refusal
    return Examination(
        header=ds,
        facts=facts.header_facts(ds),
        header_digest=facts.header_digest(ds),
        transfer_syntax=syntax,
        image=image,
        pixel_digest=facts.pixel_digest(ds, image) if image is not None else None,
        refusal=refusal,
    )


def path_of(ds: Dataset) -> str:
    """The address of an instance below our own."""
    return (
        f"/dicomweb/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    )


def parts(answer: Any) -> list[tuple[str, bytes]]:
    """Content type and bytes of each part of a multipart answer, read as strict clients do."""
    assert answer.mimetype == "multipart/related"
    edge = b"--" + answer.mimetype_params["boundary"].encode()
    body = answer.data
    assert body.endswith(edge + b"--\r\n")
    found = []
    for piece in body.split(edge + b"\r\n")[1:]:
        head, _, data = piece.partition(b"\r\n\r\n")
        data = data.removesuffix(edge + b"--\r\n").removesuffix(b"\r\n")
        found.append((head.decode().removeprefix("Content-Type: "), data))
    return found
