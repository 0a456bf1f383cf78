"""The worker: claims a job, examines its source, enhances it, stores the result and queues its deliveries.

Whatever one object does to it, the next one is still served: what an object cannot be enhanced for becomes
the job's reason, what may go better another time is tried again with growing waits.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import numpy.typing as npt
import structlog
from pydicom import dcmread
from sqlalchemy import or_, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from config import Settings
from config.origins import fingerprint
from config.standing import Standing
from db import Database, events, picks, queue, schema
from db.deliveries import Address
from db.intact import intact
from db.leases import CancelRequested, Lease, LeaseLost, owner_here
from db.models import Result, Source
from db.objects import ObjectStore, Stored, StoreError, store_of
from db.presence import Presence
from db.queue import NewResult
from db.states import Relation
from db.trouble import advice
from enhancer import DeviceLostError, DeviceMemoryError, EnhancerError, ModelInfo, ModelInputError
from enhancer.consistency import Consistency
from pacs_node import decode, derive, facts, modelcards, preview, records
from pacs_node.caveats import caveats
from pacs_node.endings import Endings
from pacs_node.enhancement import derive_from, enhance_image
from pacs_node.errors import GiveUp, NoRoom, Refused, TryLater
from pacs_node.examine import Examination, Examiner, Limits
from pacs_node.gauge import Gauge
from pacs_node.headroom import Headroom
from pacs_node.leasekeeper import LeaseKeeper, Stopping
from pacs_node.models import Models, ModelSource
from pacs_node.planning import Plan, Planner
from pacs_node.provenance import Derivation
from pacs_node.rules import Decision
from pacs_node.shelf import Shelf
from pacs_node.tasks import Task, read_task
from pacs_node.tryouts import Tryouts
from pacs_node.whereabouts import where

_log = structlog.get_logger(__name__)
_DATABASE_PAUSE = 2.0
_ROOM_PAUSE = 2.0
_MODEL_PAUSE = 10.0

Figures = dict[str, Any]


def run(settings: Settings, stop: threading.Event) -> None:
    """Work until `stop` is set; an unfinished job then goes back to the queue at no cost of attempts.

    Raises :class:`db.schema.SchemaError` for a database of another revision.
    """
    database = Database(settings.database_url)
    try:
        schema.check(database)
        installation = schema.installation_uuid(database)  # before anybody is told that this worker is there
        store = store_of(settings)
        _use_threads(settings.enhancer.threads)
        models, gauge, own = Models(settings), Gauge(), {"settings": fingerprint(settings)}
        given = settings.examine
        limits = Limits(given.timeout_seconds, given.memory_bytes, given.max_pixels)
        with Presence(database, "worker", own, gauge=gauge.look) as presence, Examiner(limits) as examiner:
            info = _load_default(models, settings, presence, stop)
            if info is None:
                return
            presence.update(
                model=info.name, version=info.version, device=info.device, models=models.names, problem=None
            )
            gauge.device = info.device
            modelcards.write(settings, database)
            with Tryouts(settings, database, store, examiner, installation).running(stop):
                worker = Worker(settings, database, store, examiner, models, installation, stop, gauge)
                worker.report = lambda why: presence.update(degraded=why)
                worker.work()
    finally:
        database.close()


class Worker:
    """One worker: does one job at a time.

    `report` hears why it does not work where or as it should, and None when it does again.
    """

    report: Callable[[str | None], object] = staticmethod(lambda _why: None)
    lost_device = False
    """Whether its device failed: what this process asks of it from now on may fail or lie."""
    _degraded: str | None = None

    def __init__(
        self,
        settings: Settings,
        database: Database,
        store: ObjectStore,
        examiner: Examiner,
        models: ModelSource,
        installation: uuid.UUID,
        stop: threading.Event,
        gauge: Gauge | None = None,
    ) -> None:
        self.gauge = gauge or Gauge()
        self.settings, self.database, self.store, self.shelf = settings, database, store, Shelf(store)
        self.examiner, self.installation, self.stop = examiner, installation, stop
        self.owner = owner_here("worker")
        self.headroom = Headroom(store)
        self.endings = Endings(database, settings.queue, self.owner)
        self.planner = Planner(settings, models, installation, self.owner)

    def work(self) -> None:
        """Serve jobs until told to stop; wait where there are none."""
        silent = Standing(_log, "the database does not answer")
        while not (self.stop.is_set() or self.lost_device):
            try:
                self.endings.settle()
                if not self.headroom.is_there():
                    self.stop.wait(_ROOM_PAUSE)
                elif not self.work_once():
                    self.stop.wait(self.settings.queue.poll_seconds)
                silent.over()
            except SQLAlchemyError as error:
                silent.there(why=advice(error))
                self.stop.wait(_DATABASE_PAUSE)

    def work_once(self) -> bool:
        """Claim and finish one job; whether there was one. Raises SQLAlchemyError alone."""
        with self.database.write() as session:
            lease = queue.claim(session, self.owner, self.settings.queue.lease_seconds)
        if lease is None:
            return False
        with structlog.contextvars.bound_contextvars(job=lease.id):
            self._work_on(lease)
        return True

    def _work_on(self, lease: Lease) -> None:
        """One claimed job to one of its ends; whatever is logged meanwhile is said to concern it."""
        _log.info("job claimed", attempt=lease.token)
        try:
            keeping = LeaseKeeper(self.database, lease, self.settings.queue.lease_seconds, self.stop)
            with self.gauge.working(), keeping as keeper:
                self._serve(lease, keeper)
        except CancelRequested:
            self.endings.end(lease, lambda session: queue.honour_cancel(session, lease, actor=self.owner))
        except LeaseLost:
            _log.warning("the lease was lost; nothing was committed")
        except Stopping:
            self.endings.end(lease, lambda session: queue.give_back(session, lease, actor=self.owner))
        except NoRoom as why:
            self.headroom.ran_out(why.size)
            self.endings.postpone(lease, why.code, why.reason, _ROOM_PAUSE)
        except DeviceLostError as lost:
            _log.error("the device was lost; this process ends", reason=str(lost))
            self.endings.retry(lease, "device", f"{lost}.")
            self.lost_device = True
        except TryLater as why:
            _log.warning("job will be tried again", code=why.code)
            self.endings.retry(lease, why.code, why.reason)
        except GiveUp as why:
            _log.warning("job failed", code=why.code)
            self.endings.fail(lease, why.code, why.reason)
        except SQLAlchemyError as error:
            self.endings.interrupted(lease, error, _DATABASE_PAUSE)
            raise
        except MemoryError:
            self.endings.retry(lease, "out-of-memory", "The worker had not enough memory for this image.")
        except Exception as error:  # noqa: BLE001 - one image that breaks never stops the next
            # No message and no values: they may hold what the object says of a patient.
            _log.error("job broke", error=where(error))
            self.endings.retry(
                lease, "internal-error", f"An unexpected error ({type(error).__name__}) broke the job."
            )

    def _serve(self, lease: Lease, keeper: LeaseKeeper) -> None:
        began = time.perf_counter()
        with self.database.write() as session:
            task = read_task(session, lease, self.installation)
        try:
            with self.shelf.local(task.object_key, task.sha256) as path:
                examined = self.examiner.examine(path, task.picture)
        except Refused as refused:
            _log.info("job refused", code=refused.refusal.reason.value)
            with self.database.write() as session:
                self.planner.refuse(session, lease, refused.refusal)
            return
        _log.info("job examined", seconds=round(time.perf_counter() - began, 3))
        keeper.check()
        preview_key = task.preview_key or self._put_source_preview(examined)
        decided = self.planner.decide(task, examined)
        with self.database.write() as session:
            plan = self.planner.write(session, lease, task, examined, decided, preview_key)
        if plan is None:
            return
        _log.info("job planned", rule=plan.decision.rule, scale=plan.decision.scale)
        values, figures = self._rebuilt(examined, plan) or self._enhanced(examined, plan, keeper)
        keeper.check()
        self._commit(lease, task, examined, plan, values, figures, began)

    def _enhanced(
        self, examined: Examination, plan: Plan, keeper: LeaseKeeper
    ) -> tuple[npt.NDArray[Any], Figures]:
        assert examined.image is not None
        try:
            enhanced = enhance_image(
                examined.header, examined.image, plan.model, plan.decision.scale, keeper.progress
            )
        except ModelInputError as error:
            raise GiveUp("model-input", str(error)) from error
        except DeviceMemoryError as error:
            raise TryLater("out-of-memory", str(error)) from error
        except DeviceLostError:
            raise
        except EnhancerError as error:
            raise TryLater("model", str(error)) from error
        told, course = enhanced.consistency, enhanced.course
        for setback in course.setbacks:
            _log.warning("setback", what=setback)
        self._report(" ".join(course.setbacks) or plan.model.degraded or None)
        return enhanced.values, {
            "enhance_seconds": round(enhanced.seconds, 3),
            "device": course.device,
            "setbacks": list(course.setbacks),
            "consistency": {"rms": told.rms, "p999": told.p999, "maximum": told.maximum},
            "bound": None if enhanced.bound is None else asdict(enhanced.bound),
        }

    def _report(self, degraded: str | None) -> None:
        if degraded != self._degraded:
            self._degraded = degraded
            self.report(degraded)

    def _rebuilt(self, examined: Examination, plan: Plan) -> tuple[npt.NDArray[Any], Figures] | None:
        """Stored values and figures of a stored result on the same pixels, where there is one to build on."""
        if plan.reuse is None:
            return None
        assert examined.image is not None
        fmt, scale = examined.image.format, plan.decision.scale
        try:
            with intact(self.store, plan.reuse.object_key, plan.reuse.sha256) as stream:
                ds = dcmread(stream)  # our own object; a damaged one is made anew
            values = decode.decode(ds, str(ds.file_meta.TransferSyntaxUID), max_pixels=1 << 31).values
        except (StoreError, OSError, Refused):
            return None
        if values.shape != (fmt.rows * scale, fmt.columns * scale) or values.dtype != fmt.dtype:
            return None
        return values, {**plan.reuse.figures, "enhance_seconds": 0.0, "rebuilt": True}

    def _commit(
        self,
        lease: Lease,
        task: Task,
        examined: Examination,
        plan: Plan,
        values: npt.NDArray[Any],
        figures: Figures,
        began: float,
    ) -> None:
        """Store the derived object and its preview, then commit result and deliveries under the lease."""
        assert examined.image is not None
        info, told = plan.model.info, figures.get("consistency")
        consistency = Consistency(**told) if told else None
        fmt = examined.image.format
        cautions = caveats(examined.header, fmt.rows, fmt.columns, info.domain, consistency)
        how = Derivation(
            uids=plan.uids,
            scale=plan.decision.scale,
            model=info,
            installation=self.installation,
            created=datetime.now().astimezone(),
            consistency=consistency,
            caveats=tuple(caution.words for caution in cautions),
            station_name=self.settings.dicom.ae_title,
        )
        ds = derive_from(examined, values, how)
        derived_series = facts.header_facts(ds).series
        stored = self.shelf.put(lambda path: derive.write_file(ds, path), "results", ".dcm")
        png = preview.preview_png(ds, values, examined.image.padding)
        try:
            picture = self.shelf.put(lambda path: path.write_bytes(png), "previews", ".png")
        except TryLater:
            self.shelf.drop(stored)  # it would take the room that is missing
            raise
        new = NewResult(
            object_key=stored.key,
            sha256=stored.sha256,
            size_bytes=stored.size_bytes,
            sop_class_uid=str(ds.SOPClassUID),
            sop_instance_uid=plan.uids.instance,
            series_instance_uid=plan.uids.series,
            rows=values.shape[0],
            columns=values.shape[1],
            figures=figures
            | {
                "caveats": [caution.as_json() for caution in cautions],
                "seconds": round(time.perf_counter() - began, 3),
                "model": {"name": info.name, "version": info.version, "digest": info.digest},
            },
            preview_key=picture.key,
            series_number=derived_series.number,
            series_description=derived_series.description,
        )
        try:
            with self.database.write() as session:
                kept = self._finish(session, lease, task, plan, new)
        except LeaseLost:
            self.shelf.drop(stored, picture)
            raise
        except SQLAlchemyError:
            self._drop_unnamed(stored, picture)  # the commit itself may have succeeded
            raise
        self.headroom.sufficed()
        if kept is None or kept.object_key != stored.key:
            self.shelf.drop(stored, picture)
        _log.info("job enhanced", job=lease.id, scale=plan.decision.scale, seconds=new.figures["seconds"])

    def _finish(
        self, session: Session, lease: Lease, task: Task, plan: Plan, new: NewResult
    ) -> Result | None:
        """Commit the result and its deliveries; None where an amendment has overtaken it."""
        source = session.get_one(Source, task.source_id)
        if not task.by_person and records.is_superseded(session, source):
            reason = "The image came again with corrected attributes meanwhile."
            queue.skip(session, lease, "amended", reason, actor=self.owner)
            return None
        for setback in new.figures.get("setbacks", ()):
            events.record(session, lease.id, "warning", message=setback, actor=self.owner)
        addresses = self._addresses(session, lease, source, plan.decision)
        how = plan.decision.forward_original
        originals = addresses if how != "never" and task.picture is None else []  # an archive takes DICOM
        job = queue.finish(
            session,
            lease,
            new,
            addresses,
            forward_original_to=originals,
            only_if_missing=how == "if_missing",
            actor=self.owner,
        )
        if source.relation is Relation.AMENDMENT and not task.by_person:
            records.retract_amended(session, source, job, actor=self.owner)
        records.take_back_replaced(session, job, actor=self.owner)
        return job.result

    def _addresses(self, session: Session, lease: Lease, source: Source, decision: Decision) -> list[Address]:
        """The destinations by name, each with a copy of its settings; one that is unknown, or that a picture
        may not go to, never fails the job."""
        for warning in decision.warnings:
            events.record(session, lease.id, "warning", message=warning, actor=self.owner)
        found = []
        for name in dict.fromkeys(decision.destinations):
            destination = self.settings.destination(name)
            if destination is None:
                _log.error("unknown destination", job=lease.id, rule=decision.rule)
                message = f"no destination {name} is configured"
                events.record(session, lease.id, "warning", message=message, actor=self.owner)
                continue
            settings = destination.model_dump(mode="json")
            if not picks.may_go(source, settings):
                message = f"{name}: {picks.NotPicked()}"
                events.record(session, lease.id, "warning", message=message, actor=self.owner)
                continue
            life = timedelta(hours=destination.expire_after_hours)
            found.append(Address(destination.name, settings, life))
        return found

    def _put_source_preview(self, examined: Examination) -> str | None:
        if examined.image is None:
            return None
        png = preview.preview_png(examined.header, examined.image.values, examined.image.padding)
        return self.shelf.put(lambda path: path.write_bytes(png), "previews", ".png").key

    def _drop_unnamed(self, *objects: Stored) -> None:
        for stored in objects:
            named = select(Result.id).where(
                or_(Result.object_key == stored.key, Result.preview_key == stored.key)
            )
            try:
                with self.database.read() as session:
                    unnamed = session.scalar(named) is None
            except SQLAlchemyError:  # the sweep of orphans finds it
                continue
            if unnamed:
                self.shelf.drop(stored)


def _load_default(
    models: Models, settings: Settings, presence: Presence, stop: threading.Event
) -> ModelInfo | None:
    """The configured model, waited for where it cannot be loaded; None when told to stop."""
    while not stop.is_set():
        try:
            model = models.get(settings.enhancer.model)
            presence.update(degraded=model.degraded or None)
            return model.info
        except EnhancerError as error:
            _log.error("the model cannot be loaded", reason=str(error))
            presence.update(problem=str(error))
            stop.wait(_MODEL_PAUSE)
    return None


def _use_threads(threads: int) -> None:
    if threads > 0:
        import torch

        torch.set_num_threads(threads)
