"""The worker: claims a job, examines its source, enhances it, stores the result and queues its deliveries.

Whatever one object does to it, the next one is still served: what an object cannot be enhanced for becomes
the job's reason, what may go better another time is tried again with growing waits.
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy.typing as npt
import structlog
from pydicom import dcmread
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from config import Settings
from db import Database, events, queue
from db.deliveries import Address
from db.leases import CancelRequested, Lease, LeaseLost
from db.models import Job, Result, Source
from db.objects import ObjectMissing, ObjectStore, Stored, StoreError, open_store
from db.presence import Presence
from db.queue import NewResult
from db.schema import installation_uuid
from db.states import Purpose, Relation
from enhancer import DeviceError, EnhancerError, ModelFileError, ModelInfo, ModelInputError
from enhancer.consistency import Consistency
from pacs_node import decode, derive, preview, records, rules, uids
from pacs_node.enhancement import Enlarger, derive_from, enhance_image
from pacs_node.errors import Outcome, Refusal, Refused
from pacs_node.examine import Examination, Examiner, Limits
from pacs_node.leasekeeper import LeaseKeeper, Stopping
from pacs_node.models import Models, ModelSource
from pacs_node.provenance import Derivation
from pacs_node.rules import Asked, Decision
from pacs_node.secondary import PictureContext

_log = structlog.get_logger(__name__)
_DATABASE_PAUSE = 2.0
_MODEL_PAUSE = 10.0


class GiveUp(Exception):
    """The job is failed with this code and reason; another attempt would end the same."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class TryLater(GiveUp):
    """It may go better another time."""


@dataclass(frozen=True)
class _Task:
    """What a claimed job is about, read once at its beginning."""

    job_id: int
    source_id: int
    purpose: Purpose
    asked: Asked
    object_key: str
    preview_key: str | None
    picture: PictureContext | None


@dataclass(frozen=True)
class _Plan:
    """What will be made; the UIDs stand in the job already."""

    decision: Decision
    model: Enlarger
    uids: uids.ResultUids
    reuse: tuple[str, dict[str, Any]] | None
    """Object key and figures of a stored result on the same pixels."""


def run(settings: Settings, stop: threading.Event) -> None:
    """Work until `stop` is set; an unfinished job then goes back to the queue at no cost of attempts."""
    database = Database(settings.database_url)
    try:
        store = open_store(settings.storage_url, reserve_bytes=settings.storage.reserve_bytes)
        _use_threads(settings.enhancer.threads)
        models = Models(settings)
        limits = Limits(
            settings.examine.timeout_seconds, settings.examine.memory_bytes, settings.examine.max_pixels
        )
        with Presence(database, "worker") as presence, Examiner(limits) as examiner:
            info = _load_default(models, settings, presence, stop)
            if info is None:
                return
            presence.update(model=info.name, version=info.version, device=info.device, problem=None)
            worker = Worker(settings, database, store, examiner, models, installation_uuid(database), stop)
            worker.work()
    finally:
        database.close()


class Worker:
    """One worker: does one job at a time."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        store: ObjectStore,
        examiner: Examiner,
        models: ModelSource,
        installation: uuid.UUID,
        stop: threading.Event,
    ) -> None:
        self.settings, self.database, self.store = settings, database, store
        self.examiner, self.models, self.installation, self.stop = examiner, models, installation, stop
        self.owner = f"{socket.gethostname()[:80]}:{os.getpid()}:{uuid.uuid4().hex[:6]}"

    def work(self) -> None:
        """Serve jobs until told to stop; wait where there are none."""
        while not self.stop.is_set():
            try:
                if not self.work_once():
                    self.stop.wait(self.settings.queue.poll_seconds)
            except SQLAlchemyError as error:
                _log.error("the database does not answer", error=type(error).__name__)
                self.stop.wait(_DATABASE_PAUSE)

    def work_once(self) -> bool:
        """Claim and finish one job; whether there was one. Raises SQLAlchemyError alone."""
        with self.database.write() as session:
            lease = queue.claim(session, self.owner, self.settings.queue.lease_seconds)
        if lease is None:
            return False
        began = time.perf_counter()
        log = _log.bind(job=lease.id)
        try:
            with LeaseKeeper(self.database, lease, self.settings.queue.lease_seconds, self.stop) as keeper:
                self._serve(lease, keeper, began)
        except CancelRequested:
            self._end(lease, lambda s: queue.honour_cancel(s, lease, actor=self.owner))
        except LeaseLost:
            log.warning("the lease was lost; nothing was committed")
        except Stopping:
            self._end(lease, lambda s: queue.give_back(s, lease, actor=self.owner))
        except TryLater as error:
            log.warning("job will be tried again", code=error.code)
            self._retry(lease, error.code, error.reason)
        except GiveUp as error:
            log.warning("job failed", code=error.code)
            self._end(lease, lambda s, e=error: queue.fail(s, lease, e.code, e.reason, actor=self.owner))
        except SQLAlchemyError:
            raise
        except MemoryError:
            self._retry(lease, "out-of-memory", "The worker had not enough memory for this image.")
        except Exception as error:  # noqa: BLE001 - one image that breaks never stops the next
            # No message and no values: they may hold what the object says of a patient.
            log.error("job broke", error=type(error).__name__, where=_where(error))
            self._retry(
                lease, "internal-error", f"An unexpected error ({type(error).__name__}) broke the job."
            )
        return True

    def _serve(self, lease: Lease, keeper: LeaseKeeper, began: float) -> None:
        task = self._task(lease)
        examined = self._examine(task)
        if isinstance(examined, Refusal):
            self._refuse(lease, examined)
            return
        keeper.check()
        preview_key = task.preview_key or self._put_source_preview(examined)
        plan = self._plan(lease, task, examined, preview_key)
        if plan is None:
            return
        values, figures = self._make(examined, plan, keeper)
        keeper.check()
        self._commit(lease, task, examined, plan, values, figures, began)

    def _task(self, lease: Lease) -> _Task:
        with self.database.read() as session:
            job = queue.held(session, lease)
            source = job.source
            if source.deleted_at is not None:
                raise GiveUp("source-gone", "The source is no longer kept.")
            return _Task(
                job_id=job.id,
                source_id=source.id,
                purpose=job.purpose,
                asked=_asked(job, source),
                object_key=source.object_key,
                preview_key=source.preview_key,
                picture=_picture(source, self.installation),
            )

    def _examine(self, task: _Task) -> Examination | Refusal:
        try:
            with _local(self.store, task.object_key) as path:
                return self.examiner.examine(path, task.picture)
        except Refused as refused:
            return refused.refusal
        except ObjectMissing as error:
            raise GiveUp("source-gone", "The source's object is not in the store.") from error
        except (StoreError, OSError) as error:
            raise TryLater("storage", "The store could not be read.") from error

    def _refuse(self, lease: Lease, refusal: Refusal) -> None:
        if refusal.outcome is Outcome.RETRY:
            raise TryLater(refusal.reason, refusal.sentence)
        with self.database.write() as session:
            end = queue.skip if refusal.outcome is Outcome.SKIP else queue.fail
            end(session, lease, refusal.reason.value, refusal.sentence, actor=self.owner)

    def _plan(
        self, lease: Lease, task: _Task, examined: Examination, preview_key: str | None
    ) -> _Plan | None:
        """Write down what the source is and what will be made; None where nothing is."""
        decision = self._decide(task, examined)
        model = self._model(decision)
        with self.database.write() as session:
            job = queue.held(session, lease)
            source = job.source
            source.preview_key = source.preview_key or preview_key
            related = records.note_examination(session, source, examined)
            events.record(session, job.id, "examined", message=_said(examined, related), actor=self.owner)
            if examined.refusal is not None:
                if examined.refusal.outcome is Outcome.RETRY:
                    raise TryLater(examined.refusal.reason, examined.refusal.sentence)
                end = queue.skip if examined.refusal.outcome is Outcome.SKIP else queue.fail
                end(
                    session, lease, examined.refusal.reason.value, examined.refusal.sentence, actor=self.owner
                )
                return None
            if self._ended_by_relation(session, lease, job, related):
                return None
            assert decision is not None
            if decision.action == "skip" or model is None:
                job.rule = decision.rule
                queue.skip(session, lease, decision.code, decision.reason, actor=self.owner)
                return None
            version = records.model_version(session, model.info)
            planned = queue.note_plan(
                session,
                lease,
                rule=decision.rule,
                scale=decision.scale,
                model=version,
                result_series_uid=(new := self._uids(examined, decision, model.info)).series,
                result_sop_uid=new.instance,
                release=decision.release,
                priority=decision.priority,
            )
            assert planned.result_series_uid is not None
            assert planned.result_sop_uid is not None
            kept = uids.ResultUids(planned.result_series_uid, planned.result_sop_uid)
            old = (
                records.reusable_result(session, source, version.id, decision.scale)
                if related.relation is not Relation.ORIGINAL
                else None
            )
            reuse = (old.object_key, dict(old.figures)) if old is not None else None
        return _Plan(decision, model, kept, reuse)

    def _ended_by_relation(self, session: Session, lease: Lease, job: Job, related: records.Related) -> bool:
        """Whether a resend or a conflict ends the job. A person who asks for it again gets it."""
        if job.purpose is Purpose.MANUAL:
            return False
        if related.relation is Relation.RESEND:
            earlier = records.already_served(session, related.to)
            if earlier is not None:
                queue.skip(
                    session,
                    lease,
                    "resend",
                    f"The same image came before; see job {earlier.id}.",
                    actor=self.owner,
                )
                return True
        if related.relation is Relation.CONFLICT:
            queue.fail(
                session, lease, "uid-conflict",
                "Another image came before under the same SOP Instance UID; this one is kept apart.",
                actor=self.owner,
            )  # fmt: skip
            return True
        return False

    def _decide(self, task: _Task, examined: Examination) -> Decision | None:
        if examined.image is None:
            return None
        fmt = examined.image.format
        return rules.decide(examined.header, fmt.rows, fmt.columns, task.asked, self.settings)

    def _model(self, decision: Decision | None) -> Enlarger | None:
        if decision is None or decision.action == "skip":
            return None
        try:
            model = self.models.get(decision.model)
        except ModelFileError as error:
            raise GiveUp("model", str(error)) from error
        except DeviceError as error:
            raise TryLater("device", str(error)) from error
        if decision.scale not in model.info.scales:
            raise GiveUp("model", f"The model {model.info.name} does not enlarge x{decision.scale}.")
        return model

    def _uids(self, examined: Examination, decision: Decision, model: ModelInfo) -> uids.ResultUids:
        said = examined.facts
        assert examined.pixel_digest is not None
        return uids.result_uids(
            self.installation,
            study=said.study.uid,
            source_series=said.series.uid,
            source_instance=said.sop_instance,
            pixel_digest=examined.pixel_digest,
            header_digest=examined.header_digest,
            model=model.name,
            version=model.version,
            weights_digest=model.digest,
            scale=decision.scale,
        )

    def _make(
        self, examined: Examination, plan: _Plan, keeper: LeaseKeeper
    ) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        """The result's stored values and figures: rebuilt on a stored result of the same pixels, or
        enhanced."""
        assert examined.image is not None
        reused = self._stored_values(examined, plan)
        if reused is not None:
            return reused
        try:
            enhanced = enhance_image(
                examined.header, examined.image, plan.model, plan.decision.scale, keeper.progress
            )
        except ModelInputError as error:
            raise GiveUp("model-input", str(error)) from error
        except EnhancerError as error:
            raise TryLater("model", str(error)) from error
        except RuntimeError as error:  # torch says so when the device has no memory left
            if "memory" in str(error).lower():
                raise TryLater("out-of-memory", "The device had not enough memory for this image.") from error
            raise
        figures = enhanced.consistency
        return enhanced.values, {
            "enhance_seconds": round(enhanced.seconds, 3),
            "device": plan.model.info.device,
            "consistency": {"rms": figures.rms, "p999": figures.p999, "maximum": figures.maximum},
        }

    def _stored_values(
        self, examined: Examination, plan: _Plan
    ) -> tuple[npt.NDArray[Any], dict[str, Any]] | None:
        if plan.reuse is None:
            return None
        assert examined.image is not None
        key, figures = plan.reuse
        fmt, scale = examined.image.format, plan.decision.scale
        try:
            with self.store.open(key) as stream:
                ds = dcmread(stream)  # our own object
            values = decode.decode(ds, str(ds.file_meta.TransferSyntaxUID), max_pixels=1 << 31).values
        except (StoreError, OSError, Refused):
            return None
        if values.shape != (fmt.rows * scale, fmt.columns * scale) or values.dtype != fmt.dtype:
            return None
        return values, figures | {"enhance_seconds": 0.0, "rebuilt": True}

    def _commit(
        self,
        lease: Lease,
        task: _Task,
        examined: Examination,
        plan: _Plan,
        values: npt.NDArray[Any],
        figures: dict[str, Any],
        began: float,
    ) -> None:
        assert examined.image is not None
        told = figures.get("consistency")
        how = Derivation(
            uids=plan.uids,
            scale=plan.decision.scale,
            model=plan.model.info,
            installation=self.installation,
            created=datetime.now().astimezone(),
            consistency=Consistency(**told) if told else None,
            station_name=self.settings.dicom.ae_title,
        )
        ds = derive_from(examined, values, how)
        png = preview.preview_png(ds, values, examined.image.padding)
        object_ = self._put(lambda path: derive.write_file(ds, path), "results", ".dcm")
        picture = self._put(lambda path: path.write_bytes(png), "previews", ".png")
        info = plan.model.info
        new = NewResult(
            object_key=object_.key,
            sha256=object_.sha256,
            size_bytes=object_.size_bytes,
            sop_class_uid=str(ds.SOPClassUID),
            sop_instance_uid=plan.uids.instance,
            series_instance_uid=plan.uids.series,
            rows=values.shape[0],
            columns=values.shape[1],
            figures=figures
            | {
                "seconds": round(time.perf_counter() - began, 3),
                "model": {"name": info.name, "version": info.version, "digest": info.digest},
            },
            preview_key=picture.key,
        )
        try:
            with self.database.write() as session:
                kept = self._finish(session, lease, task, plan, new)
        except (LeaseLost, SQLAlchemyError):
            # The commit itself may have succeeded: only what no row names may go.
            self._drop_unnamed(object_, picture)
            raise
        if kept is None or kept.object_key != object_.key:
            self.store.delete(object_.key)
            self.store.delete(picture.key)
        _log.info("job enhanced", job=lease.id, scale=plan.decision.scale, seconds=new.figures["seconds"])

    def _finish(
        self, session: Session, lease: Lease, task: _Task, plan: _Plan, new: NewResult
    ) -> Result | None:
        """Commit the result and its deliveries; None where an amendment has overtaken it."""
        source = session.get_one(Source, task.source_id)
        if task.purpose is not Purpose.MANUAL and records.is_superseded(session, source):
            queue.skip(
                session, lease, "amended", "The image came again with corrected attributes meanwhile.",
                actor=self.owner,
            )  # fmt: skip
            return None
        addresses = self._addresses(session, lease, plan.decision)
        job = queue.finish(
            session,
            lease,
            new,
            addresses,
            forward_original_to=addresses if plan.decision.forward_original != "never" else (),
            actor=self.owner,
        )
        if source.relation is Relation.AMENDMENT:
            for old in records.jobs_to_retract(session, source):
                queue.retract(
                    session, old, reason=f"amended by job {job.id}: the image came with corrected attributes",
                    actor=self.owner,
                )  # fmt: skip
        return job.result

    def _addresses(self, session: Session, lease: Lease, decision: Decision) -> list[Address]:
        """The destinations by name, each with a copy of its settings; an unknown one never fails the job."""
        found = []
        for name in dict.fromkeys(decision.destinations):
            destination = self.settings.destination(name)
            if destination is None:
                _log.error("unknown destination", job=lease.id, rule=decision.rule)
                events.record(
                    session,
                    lease.id,
                    "warning",
                    message=f"no destination {name} is configured",
                    actor=self.owner,
                )
                continue
            found.append(
                Address(
                    destination.name,
                    destination.model_dump(mode="json"),
                    timedelta(hours=destination.expire_after_hours),
                )
            )
        return found

    def _put_source_preview(self, examined: Examination) -> str | None:
        if examined.image is None:
            return None
        png = preview.preview_png(examined.header, examined.image.values, examined.image.padding)
        return self._put(lambda path: path.write_bytes(png), "previews", ".png").key

    def _put(self, write: Any, kind: str, suffix: str) -> Stored:
        """Write a file into the spool and move it into the store. Raises :class:`TryLater`."""
        path: Path | None = None
        try:
            descriptor, name = tempfile.mkstemp(prefix="worker-", suffix=".part", dir=self.store.spool)
            os.close(descriptor)
            path = Path(name)
            write(path)
            return self.store.put(path, kind, suffix)
        except (StoreError, OSError) as error:
            raise TryLater("storage", "The result could not be stored.") from error
        finally:
            if path is not None:
                path.unlink(missing_ok=True)

    def _drop_unnamed(self, *objects: Stored) -> None:
        for stored in objects:
            try:
                with self.database.read() as session:
                    named = session.query(Result.id).filter(
                        (Result.object_key == stored.key) | (Result.preview_key == stored.key)
                    )
                    if named.first() is None:
                        self.store.delete(stored.key)
            except (SQLAlchemyError, StoreError):  # the sweep of orphans finds it
                continue

    def _retry(self, lease: Lease, code: str, reason: str) -> None:
        limits = self.settings.queue
        self._end(
            lease,
            lambda s: queue.retry_later(
                s,
                lease,
                str(code),
                reason,
                max_attempts=limits.max_attempts,
                base=limits.retry_base_seconds,
                longest=limits.retry_max_seconds,
                actor=self.owner,
            ),
        )

    def _end(self, lease: Lease, step: Any) -> None:
        """One last transaction about the job, unless it is another's by now."""
        try:
            with self.database.write() as session:
                step(session)
        except CancelRequested:
            with self.database.write() as session:
                queue.honour_cancel(session, lease, actor=self.owner)
        except LeaseLost:
            _log.warning("the lease was lost", job=lease.id)


def _asked(job: Job, source: Source) -> Asked:
    wishes = job.requested or {}
    named = wishes.get("destinations")
    return Asked(
        kind=source.origin_kind,
        calling_ae_title=source.origin_ae_title or "",
        called_ae_title=source.origin_called_ae_title or "",
        address=source.origin_address or "",
        is_picture=_is_picture(source),
        scale=int(wishes["scale"]) if wishes.get("scale") in (2, 4) else None,
        model=str(wishes["model"]) if wishes.get("model") else None,
        destinations=tuple(str(name) for name in named) if named is not None else None,
        force=bool(wishes.get("force")),
    )


def _is_picture(source: Source) -> bool:
    return source.media_type.startswith("image/")


def _picture(source: Source, installation: uuid.UUID) -> PictureContext | None:
    if not _is_picture(source):
        return None
    received = source.received_at.astimezone()
    return PictureContext(installation, source.sha256, received, source.demographics)


def _said(examined: Examination, related: records.Related) -> str:
    """The examination in one line without patient data."""
    parts = [related.relation.value]
    if related.to is not None:
        parts.append(f"of source {related.to}")
    if examined.image is not None:
        fmt = examined.image.format
        parts.append(f"{fmt.columns} x {fmt.rows}, {fmt.bits_stored} bits, {fmt.photometric}")
    if examined.dropped:
        parts.append(f"{len(examined.dropped)} unreadable attributes left out")
    return "; ".join(parts)


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))


@contextmanager
def _local(store: ObjectStore, key: str) -> Iterator[Path]:
    """The object as a local file: itself where the store has one, else a copy in the spool."""
    with store.open(key) as stream:
        name = getattr(stream, "name", None)
        if isinstance(name, str) and Path(name).is_file():
            yield Path(name)
            return
        with tempfile.NamedTemporaryFile(prefix="worker-", suffix=".part", dir=store.spool) as copy:
            shutil.copyfileobj(stream, copy, 1 << 20)
            copy.flush()
            yield Path(copy.name)


def _load_default(
    models: Models, settings: Settings, presence: Presence, stop: threading.Event
) -> ModelInfo | None:
    """The configured model, waited for where it cannot be loaded; None when told to stop."""
    while not stop.is_set():
        try:
            return models.get(settings.enhancer.model).info
        except EnhancerError as error:
            _log.error("the model cannot be loaded", reason=str(error))
            presence.update(problem=str(error))
            stop.wait(_MODEL_PAUSE)
    return None


def _use_threads(threads: int) -> None:
    if threads > 0:
        import torch

        torch.set_num_threads(threads)
