"""What the worker's tests are made of: a state, a store, an examiner and a worker with a model that
changes nothing."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import Dataset, dcmread
from sqlalchemy import select

from config import Destination, Settings
from db import Database, schema
from db.intake import Accepted, Arrival, Origin, intake
from db.models import Job, JobEvent
from db.objects import LocalStore
from db.schema import installation_uuid
from db.states import Purpose
from enhancer import IdentityModel
from pacs_node.examine import Examiner, Limits
from pacs_node.worker import Worker
from tests import dicom_variants as variants
from tests.pacs_node.nodes import make_database, make_settings

ARCHIVE = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)


@dataclass
class OneModel:
    """Gives the same model under every name."""

    model: Any = field(default_factory=IdentityModel)
    names: tuple[str, ...] = ("identity",)

    def get(self, name: str) -> Any:
        return self.model


@dataclass
class Clinic:
    """A node without network: objects come in by :meth:`receive`, :meth:`work` serves the queue."""

    settings: Settings
    database: Database
    store: LocalStore
    worker: Worker
    stop: threading.Event
    installation: uuid.UUID

    def receive(self, thing: Dataset | Path, *, kind: str = "dimse", **arrival: Any) -> Accepted:
        """Take an object in as a door does."""
        spooled = self.store.spool / f"{uuid.uuid4().hex}.part"
        if isinstance(thing, Path):
            shutil.copyfile(thing, spooled)
        else:
            variants.written(thing, spooled)
        arrival.setdefault("media_type", "application/dicom")
        if kind == "upload":
            arrival.setdefault("purpose", Purpose.MANUAL)
        return intake(
            self.database,
            self.store,
            Arrival(file=spooled, **arrival),
            Origin(kind, ae_title="MODALITY", called_ae_title="CXR_SR", address="127.0.0.1"),
            max_waiting=1000,
        )

    def use(self, model: Any) -> None:
        """Give the worker another model."""
        self.worker.planner = dataclasses.replace(self.worker.planner, models=OneModel(model))

    def work(self) -> None:
        """Serve the queue until nothing is due."""
        while self.worker.work_once():
            pass

    def serve(self, thing: Dataset | Path, **options: Any) -> Job:
        """Take an object in, work, and return its job."""
        accepted = self.receive(thing, **options)
        self.work()
        return self.job(accepted.job_id)

    @contextmanager
    def read_job(self, job_id: int) -> Iterator[Job]:
        """The job within an open session, so that everything it leads to can be read."""
        with self.database.read() as session:
            yield session.get_one(Job, job_id)

    def job(self, job_id: int) -> Job:
        """The job with source, series, result and deliveries loaded."""
        with self.database.read() as session:
            job = session.get_one(Job, job_id)
            _ = job.result, job.deliveries, job.model_version, job.events
            if job.source.series is not None:
                _ = job.source.series.study.patient
            session.expunge_all()
            return job

    def events(self, job_id: int) -> list[str]:
        with self.database.read() as session:
            rows = session.scalars(select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.id))
            return [f"{row.kind} {row.after or ''} {row.message or ''}".strip() for row in rows]

    def result(self, job: Job) -> Dataset:
        """The derived object of a job."""
        assert job.result is not None, (job.state, job.reason_code, job.reason)
        with self.store.open(job.result.object_key) as stream:
            ds = dcmread(stream)
            _ = ds.PixelData
        return ds


@functools.cache
def _fresh_database() -> bytes:
    """An upgraded database without rows, made once."""
    with tempfile.TemporaryDirectory() as folder:
        database = make_database(make_settings(Path(folder)))
        schema.backup(database, Path(folder) / "fresh.db")
        database.close()
        return (Path(folder) / "fresh.db").read_bytes()


@contextmanager
def open_clinic(
    data_dir: Path,
    *,
    models: Any = None,
    environment: dict[str, str] | None = None,
    limits: Limits | None = None,
    **settings: Any,
) -> Iterator[Clinic]:
    """A clinic in `data_dir`; `settings` replace sections or fields of the defaults."""
    chosen = make_settings(data_dir, destinations=(ARCHIVE,)).model_copy(update=settings)
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "cxr-sr.db").write_bytes(_fresh_database())
    database = Database(chosen.database_url)
    store = LocalStore(data_dir / "objects")
    stop = threading.Event()
    try:
        with Examiner(limits or Limits(timeout_seconds=20), environment=environment) as examiner:
            installation = installation_uuid(database)
            worker = Worker(chosen, database, store, examiner, models or OneModel(), installation, stop)
            yield Clinic(chosen, database, store, worker, stop, installation)
    finally:
        database.close()
