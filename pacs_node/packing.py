"""Objects that are made only when they are to be sent: rejection notes and results with a label.

The sender makes them, once: their UIDs and bytes depend on what is in the database alone, and the row that
names the stored object is unique. After a crash in between the object is made again; the first is an orphan
that the sweep takes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from uuid import UUID

from pydicom import dcmread
from pydicom.dataset import Dataset
from sqlalchemy.exc import IntegrityError

from db import Database, schema
from db.exchange import LabelledResult, RejectionNote
from db.intact import intact
from db.models import Delivery, Job, Result
from db.objects import ObjectDamaged, ObjectMissing, ObjectStore, StoreError
from db.types import utcnow
from pacs_node import derive, labels, rejection, uids
from pacs_node.consignment import Consignment, NothingToSend, NotMade, consignment, label_of
from pacs_node.errors import Refused, TryLater
from pacs_node.shelf import Shelf

DAMAGED = "the stored object is damaged: its digest differs from the recorded one"

_ONE_AT_A_TIME = threading.Lock()
"""A labelled image is held in memory as a whole: whatever the number of destinations, one is made at a
time."""


@dataclass
class Packer:
    """Makes the objects of deliveries that have none yet."""

    database: Database
    store: ObjectStore
    _installation: UUID | None = field(default=None, init=False)

    def pack(self, delivery_id: int) -> Consignment:
        """The object of a delivery, made if it is not there yet.

        Raises :class:`pacs_node.consignment.NothingToSend` where it never can be,
        :class:`pacs_node.errors.TryLater` where it may go better another time.
        """
        with _ONE_AT_A_TIME:
            with self.database.read() as session:
                delivery = session.get_one(Delivery, delivery_id)
                try:
                    return consignment(session, delivery)
                except NotMade:
                    make = self._note if delivery.what == "note" else self._labelled
                    ds, kind, row = make(delivery)
            return self._keep(delivery_id, ds, kind, row)

    @property
    def installation(self) -> UUID:
        if self._installation is None:
            self._installation = schema.installation_uuid(self.database)
        return self._installation

    def _keep(
        self, delivery_id: int, ds: Dataset, kind: str, row: LabelledResult | RejectionNote
    ) -> Consignment:
        stored = Shelf(self.store).put(lambda path: derive.write_file(ds, path), kind, ".dcm")
        row.object_key, row.sha256, row.size_bytes = stored.key, stored.sha256, stored.size_bytes
        row.sop_instance_uid, row.series_instance_uid = str(ds.SOPInstanceUID), str(ds.SeriesInstanceUID)
        try:
            with self.database.write() as session:
                session.add(row)
        except IntegrityError:  # another sender made it meanwhile, or retention took what it was made of
            Shelf(self.store).drop(stored)
        with self.database.read() as session:
            try:
                return consignment(session, session.get_one(Delivery, delivery_id))
            except NotMade:
                raise TryLater("storage", "what was made for it could not be kept") from None

    def _note(self, delivery: Delivery) -> tuple[Dataset, str, RejectionNote]:
        job, label = delivery.job, label_of(delivery)
        assert job.result is not None
        names = uids.labelled_uids(
            self.installation, job.result.series_instance_uid, job.result.sop_instance_uid, label
        )
        rejected = rejection.Rejected(names.series, job.result.sop_class_uid, names.instance)
        about = self._header(job.result) or rejection.known_of(job.source)
        if not about.get("StudyInstanceUID"):
            raise NothingToSend("the study of the result is not known any more")
        ds = rejection.rejection_note(
            about,
            rejected,
            title=rejection.TITLES.get(job.reason_code or "", rejection.QUALITY),
            reason=job.reason or "",
            names=uids.note_uids(self.installation, str(about.StudyInstanceUID), job.id, names.instance),
            at=job.finished_at or utcnow(),
            installation=self.installation,
        )
        return ds, "notes", RejectionNote(job_id=job.id, label=label)

    def _labelled(self, delivery: Delivery) -> tuple[Dataset, str, LabelledResult]:
        job, label = delivery.job, label_of(delivery)
        assert job.result is not None
        result = job.result
        try:
            with intact(self.store, result.object_key, result.sha256) as stream:
                ds = dcmread(stream)
        except ObjectMissing as error:
            raise NothingToSend("the stored object is missing") from error
        except ObjectDamaged as error:
            raise NothingToSend(DAMAGED) from error
        except (StoreError, OSError) as error:
            raise TryLater("storage", "the object could not be read from the storage") from error
        names = uids.labelled_uids(
            self.installation, result.series_instance_uid, result.sop_instance_uid, label
        )
        try:
            labels.labelled(ds, label, _lines(job), names)
        except Refused as error:
            raise NothingToSend(f"the stored object cannot be labelled: {error}") from error
        return ds, "labelled", LabelledResult(result_id=result.id, label=label)

    def _header(self, result: Result) -> Dataset | None:
        """What the result says, where it is kept still."""
        if result.deleted_at is not None:
            return None
        try:
            with intact(self.store, result.object_key, result.sha256) as stream:
                return dcmread(stream, stop_before_pixels=True)
        except (StoreError, OSError):
            return None


def _lines(job: Job) -> tuple[str, ...]:
    model = job.model_version
    return labels.label_lines(job.scale or 0, model.name if model else "", model.version if model else "")
