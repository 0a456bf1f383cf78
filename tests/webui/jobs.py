"""What the other roles would have done to a job: plan, finish, fail, deliver."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

from config.network import Destination
from db import Database, deliveries, queue
from db.models import Job, ModelVersion, Patient, Series, Source, Study
from db.objects import ObjectStore
from db.states import JobState
from tests.webui.conftest import PACS, dicom, png

NAME, PATIENT_ID, ACCESSION = "Zzyzx^Marker", "PID-424242", "ACC-171717"


def examine(database: Database, store: ObjectStore, job_id: int, *, name: str = NAME) -> None:
    """Fill in what the worker reads from the header, and its preview."""
    with database.write() as session:
        source = session.get_one(Source, session.get_one(Job, job_id).source_id)
        known = session.query(Patient).filter(Patient.name == name).one_or_none()
        patient = known or Patient(patient_id=PATIENT_ID, name=name, birth_date="19500102", sex="F")
        study = Study(
            patient=patient,
            study_instance_uid=f"1.9.{job_id}",
            accession_number=ACCESSION,
            study_date="20260102",
        )
        source.series = Series(study=study, series_instance_uid=f"1.9.{job_id}.1", modality="CR")
        source.rows, source.columns, source.bits_stored = 8, 8, 12
        source.preview_key = put(store, png(), "previews", ".png")


def finish(
    database: Database, store: ObjectStore, *, to: tuple[Destination, ...] = (), release: str = "auto"
) -> int:
    """Do the next queued job as a worker would; returns its id."""
    with database.write() as session:
        lease = queue.claim(session, "worker-1", 60)
        assert lease is not None
        version = session.query(ModelVersion).first()
        if version is None:
            version = ModelVersion(name="srgan", version="1", digest="0" * 64)
            session.add(version)
            session.flush()
        queue.note_plan(
            session, lease, rule="chest", scale=2, model=version, result_series_uid=f"1.8.{lease.id}",
            result_sop_uid=f"1.8.{lease.id}.1", release=release,
        )  # fmt: skip
        content = dicom(f"1.8.{lease.id}.1")
        result = queue.NewResult(
            object_key=put(store, content, "results", ".dcm"),
            sha256=hashlib.sha256(content).hexdigest(),
            size_bytes=len(content),
            sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
            sop_instance_uid=f"1.8.{lease.id}.1",
            series_instance_uid=f"1.8.{lease.id}",
            rows=16,
            columns=16,
            figures={"seconds": 1.5},
            preview_key=put(store, png(200), "previews", ".png"),
        )
        addresses = [deliveries.Address(d.name, d.model_dump(mode="json"), timedelta(hours=1)) for d in to]
        queue.finish(session, lease, result, addresses, actor="worker-1")
    return lease.id


def fail(database: Database, reason: str = "the decoder died") -> int:
    """Let the next queued job fail."""
    with database.write() as session:
        lease = queue.claim(session, "worker-1", 60)
        assert lease is not None
        queue.fail(session, lease, "decode", reason, actor="worker-1")
    return lease.id


def state(database: Database, job_id: int) -> JobState:
    with database.read() as session:
        return session.get_one(Job, job_id).state


def put(store: ObjectStore, content: bytes, kind: str, suffix: str) -> str:
    file = Path(store.spool) / "made"
    file.write_bytes(content)
    return store.put(file, kind, suffix).key


__all__ = ["ACCESSION", "NAME", "PACS", "PATIENT_ID", "examine", "fail", "finish", "put", "state"]
