"""A node's state with results that wait to be delivered, and the sender that delivers them."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from sqlalchemy import select

from config import Destination, Settings
from db import Database, deliveries, queue
from db.intake import Arrival, Origin, intake
from db.models import Delivery, Job, PeerStatus
from db.objects import LocalStore
from db.states import DeliveryState
from pacs_node import header, sender
from tests.pacs_node.nodes import dicom_threads, encoded, eventually, make_database, make_settings

S = DeliveryState


@dataclass
class Office:
    """A node's state with results that wait to be delivered, and the sender that delivers them."""

    settings: Settings
    database: Database
    store: LocalStore
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.sender = sender.Sender(self.settings, self.database, self.store, self.stop)

    def post(self, ds: Dataset, *destinations: Destination, what: str = "result") -> int:
        """A finished job whose result (or original) is to go to `destinations`; its id."""
        syntax = str(ds.file_meta.TransferSyntaxUID)
        whole = header.part10_header(ds.SOPClassUID, ds.SOPInstanceUID, syntax) + encoded(ds, syntax)
        file = self.store.spool / "object"
        file.write_bytes(whole)
        stored = self.store.put(file, "results", ".dcm")
        file.write_bytes(whole if what == "original" else f"source of {ds.SOPInstanceUID}".encode())
        arrival = Arrival(file, "application/dicom")
        if what == "original":
            arrival = dataclasses.replace(
                arrival, sop_class_uid=ds.SOPClassUID, sop_instance_uid=ds.SOPInstanceUID
            )
        accepted = intake(self.database, self.store, arrival, Origin("dimse"), max_waiting=1000)
        addresses = [deliveries.Address(d.name, d.model_dump(mode="json")) for d in destinations]
        with self.database.write() as session:
            lease = queue.claim(session, "worker", 60)
            assert lease is not None
            assert lease.id == accepted.job_id
            result = queue.NewResult(
                object_key=stored.key,
                sha256=stored.sha256,
                size_bytes=stored.size_bytes,
                sop_class_uid=ds.SOPClassUID,
                sop_instance_uid=ds.SOPInstanceUID,
                series_instance_uid=ds.SeriesInstanceUID,
                rows=ds.Rows,
                columns=ds.Columns,
                figures={},
            )
            originals = addresses if what == "original" else []
            results = addresses if what == "result" else []
            queue.finish(session, lease, result, results, forward_original_to=originals)
        return accepted.job_id

    def deliveries(self, job_id: int | None = None) -> list[Delivery]:
        query = select(Delivery).order_by(Delivery.id)
        with self.database.read() as session:
            return list(session.scalars(query if job_id is None else query.where(Delivery.job_id == job_id)))

    def job(self, job_id: int) -> Job:
        with self.database.read() as session:
            return session.get_one(Job, job_id)

    def work(self, until: Callable[[], object], seconds: float = 30.0) -> bool:
        """Let the sender work until something is true."""

        def step() -> object:
            self.sender.step()
            return until()

        return eventually(step, seconds)

    def settled(self) -> bool:
        """Whether no delivery is open any more."""
        return all(d.state not in {S.WAITING, S.SENDING} for d in self.deliveries())

    def peer(self, name: str) -> PeerStatus | None:
        with self.database.read() as session:
            return session.get(PeerStatus, name)


@contextmanager
def offices(folder: Path) -> Iterator[Callable[..., Office]]:
    """A function that opens an office in `folder` with settings; all are closed, and no thread is left."""
    opened: list[Office] = []

    def open_office(**options: Any) -> Office:
        settings = make_settings(folder, **options)
        office = Office(settings, make_database(settings), LocalStore(settings.data_dir / "objects"))
        opened.append(office)
        return office

    yield open_office
    for one in opened:
        one.stop.set()
        one.sender.drain()
        one.database.close()
    assert eventually(lambda: not [t for t in dicom_threads() if t.name.startswith(("courier-", "lease-"))])
