"""The scheduler role: what has to happen by the clock, done by one process however many are started."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy.exc import SQLAlchemyError

from config.origins import fingerprint
from config.standing import Standing
from cxr_sr.alerting import Alerting
from cxr_sr.leader import leadership
from db import (
    Database,
    adrift,
    alerts,
    audit,
    commitments,
    deliveries,
    measurements,
    queue,
    schema,
    tallies,
    verification,
)
from db.exchange import Bookmark, Document
from db.objects import LocalStore, ObjectStore, StoreError, store_of
from db.presence import Presence
from db.seals import Sealer
from db.trouble import advice
from db.types import utcnow

if TYPE_CHECKING:
    from config import Settings

log = structlog.get_logger(__name__)

FOLLOW_SECONDS = 2.0
"""How often a leader makes sure that it still leads, and another asks whether it may."""

BACKUP_NAME = "cxr-sr-%Y%m%dT%H%M%SZ.db"
BACKUP_PATTERN = "cxr-sr-????????T??????Z.db"
DRAFT_PATTERN = f".{BACKUP_PATTERN}.*.part*"
"""Backups that were not finished."""
AUDIT = "audit"
"""Audit messages have a thread of their own: a repository that hangs keeps no other duty waiting."""
AUDIT_SECONDS = 5.0
"""Interval of audit messages."""
STATEMENT = "conformance"
STATEMENT_SECONDS = 86400.0
"""Interval at which the conformance statement is written anew; it changes with the program alone."""
WEBHOOK_SECONDS = 2.0
"""Interval at which events are read for webhooks."""
COUNT_SECONDS = 60.0
"""Interval at which jobs are counted for the charts."""
ALIVE = "alive"
"""Name of the bookmark by which the scheduler tries whether the database takes a row."""
SLOW_SECONDS, GRACE_SECONDS = 3.0, 10.0
"""After a write that waited longer than the first, leases do not expire for the second: workers beat at least
every five seconds."""
WATERMARK = 2.0
"""A warning is logged while less than this many times the reserve is free."""
CLEAR_BELOW, CLEAR_TO = 1.25, 1.5
"""Below so many times the reserve, before new images are refused, room is made up to so many times."""


@dataclass
class Duties:
    """What the scheduler does, each method one duty; safe to run at any time and as often as one likes."""

    settings: Settings
    database: Database
    store: ObjectStore
    presence: Presence

    def __post_init__(self) -> None:
        from pacs_node.audit.exporter import Exporter
        from pacs_node.audit.sinks import open_sink
        from pacs_node.webhooks import Herald

        sink = open_sink(self.settings)
        self._exporter = None if sink is None else Exporter(self.settings, self.database, sink)
        self._audit_problem: str | None = None
        self._was_away, self._sparing, self._spared_until = False, False, 0.0
        self._disk_low = Standing(log, "disk-low", every=3600.0)
        self._certificates: Mapping[str | None, str | None] = {}
        self._alerting = Alerting(self.settings, self.database, self.store)
        self._herald = Herald(self.database, self.settings.web.public_url)
        self._sealer = Sealer(self.database)

    def expire_leases(self) -> None:
        """Give the work of silent workers and senders to others; end deliveries whose time is over."""
        jobs = 0
        try:
            if not self._back_lately():
                with self.database.write() as session:
                    jobs = queue.expire_leases(session, max_attempts=self.settings.queue.max_attempts)
        except SQLAlchemyError:
            self._was_away = True
            raise
        with self.database.write() as session:
            sent = deliveries.expire(session)
        with self.database.write() as session:
            promises = commitments.expire(session)
        if jobs or sent or promises:
            log.warning("leases-expired", jobs=jobs, deliveries=sent, commitments=promises)

    def _back_lately(self) -> bool:
        """Whether the database takes writes again only since just now: workers that live first say so, and no
        job pays for a lease that nobody could keep."""
        began = time.monotonic()
        mark = Bookmark(name=ALIVE, position=int(utcnow().timestamp() * 1e6), put_off=[])
        with self.database.write() as session:  # a full disk lets a transaction begin: a row must be written
            session.merge(mark)
        now = time.monotonic()
        if self._was_away or (now - began > SLOW_SECONDS and not self._sparing):  # slow for ever spares once
            self._sparing, self._spared_until = True, now + GRACE_SECONDS
        self._was_away = False
        self._sparing = self._sparing and now < self._spared_until
        return self._sparing

    def purge(self) -> None:
        """Remove what has been kept long enough and nothing open needs."""
        from db import retention

        now, keep = utcnow(), self.settings.retention
        self._give_up_untold(now - timedelta(days=keep.events_days))
        purged = retention.purge(
            self.database,
            self.store,
            sources_before=now - timedelta(days=keep.sources_days),
            results_before=now - timedelta(days=keep.results_days),
            events_before=now - timedelta(days=keep.events_days),
        )
        with self.database.write() as session:
            old = alerts.purge(session, now - timedelta(days=keep.events_days))
            if purged.sources or purged.results:
                detail = {"sources": purged.sources, "results": purged.results, "notes": purged.notes}
                audit.record(session, "scheduler", "storage.purge", object_type="storage", detail=detail)
        log.info("retention", purged=str(purged), figures=measurements.thin(self.database, now), alerts=old)

    def sweep_orphans(self) -> None:
        """Remove objects without a row and temporary files that a crash has left."""
        from db import retention

        oldest = utcnow() - timedelta(seconds=self.settings.scheduler.orphan_age_seconds)
        objects = retention.sweep_orphans(self.database, self.store, oldest)
        files = sweep_spool(self.store, oldest)
        with self.database.read() as session:
            waits = adrift.restored(session) is not None
        if waits:
            log.warning(
                "restored", images=sum(1 for _ in adrift.unnamed_sources(self.database, self.store)),
                todo="cxr-sr db adopt takes in what came after the copy",
            )  # fmt: skip
        if objects or files:
            log.warning("orphans-removed", objects=objects, files=files)

    def check_disk(self) -> None:
        """Show the room that is left, warn before objects are refused for want of it, and before that let
        go early what may be let go at all."""
        room = self.store.room()
        if not room.has(CLEAR_BELOW):
            self._make_room()
            room = self.store.room()
        self.presence.update(free_bytes=room.free_bytes, total_bytes=room.total_bytes)
        if not room.has(WATERMARK):
            self._disk_low.there("warning", accepts=room.accepts, reserve_bytes=room.reserve_bytes)
        else:
            self._disk_low.over()
        if room.free_bytes is not None:
            with self.database.write() as session:
                measurements.record(session, {"disk-free": room.free_bytes}, alerts.STORE)

    def _make_room(self) -> None:
        from db import early

        before = utcnow() - timedelta(hours=self.settings.retention.minimum_hours)
        cleared = early.make_room(
            self.database, self.store, before=before, enough=lambda: self.store.room().has(CLEAR_TO)
        )
        if cleared:
            log.warning(
                "purged-early",
                sources=cleared.sources,
                results=cleared.results,
                bytes=cleared.size_bytes,
                why="the disk is almost full",
            )

    def count_jobs(self) -> None:
        """Write down what happened in the last minutes, for the charts."""
        tallies.keep(self.database)

    def check_alerts(self) -> None:
        """Look at what somebody must be told of; telling goes on in threads of its own."""
        self._alerting.check()

    def call_webhooks(self) -> None:
        """Note what is to be said to whom; saying it goes on in threads of their own."""
        self._herald.run()

    def stop(self) -> None:
        """End what goes on beside the duties."""
        self._alerting.stop()
        self._herald.stop()

    def check_certificates(self) -> None:
        """Show until when certificates are good; say once what is to be done about one."""
        from pacs_node.certificates import certificates, told

        shown = told(certificates(self.settings), utcnow())
        troubles = {one["keys"]: one["trouble"] for one in shown if one["trouble"]}
        for keys, trouble in troubles.items():
            if self._certificates.get(keys) != trouble:
                log.warning("certificate", of=keys, why=trouble)
        self._certificates = troubles
        self.presence.update(certificates=shown)

    def echo(self) -> None:
        """C-ECHO every destination and note the answers."""
        from pacs_node.courier import note_peer
        from pacs_node.echo import echo

        for destination in self.settings.destinations:
            answer = echo(destination, self.settings.dicom)
            note_peer(self.database, destination.name, answer.ok, answer.seconds, answer.message)
            if not answer.ok:
                log.warning("destination-silent", destination=destination.name, message=answer.message)

    def seal_trail(self) -> None:
        """Seal the audit trail; who has the log has the seal's digest."""
        seal = self._sealer.seal()
        if seal is not None:
            log.info("audit-sealed", seal=seal.id, rows=seal.rows, digest=seal.digest)

    def verify_trail(self) -> None:
        """Read the whole audit trail and write down whether it is what was written."""
        report = verification.verify(self.database)
        with self.database.write() as session:
            verification.note(session, "scheduler", report)
        if report.sound:
            log.info("audit-verified", rows=report.rows, seals=report.seals, head=report.head)
        else:
            log.error("audit-damaged", findings=report.count, first=report.findings[0].message)

    def tell_repository(self) -> None:
        """Send the audit messages that are due; where nobody takes them they wait in the database."""
        from pacs_node.audit.exporter import backlog
        from pacs_node.audit.sinks import SinkError

        if self._exporter is None:
            return
        try:
            self._exporter.run()
            problem = None
        except SinkError as error:
            problem = str(error)
        if problem is None and self._audit_problem is None:
            return
        with self.database.read() as session:
            waits = backlog(session).rows
        if problem is None:
            log.info("audit-told")
        elif problem != self._audit_problem:
            log.warning("audit-waits", why=problem, rows=waits)
        self.presence.update(problem=problem, audit_waiting=waits)
        self._audit_problem = problem

    def tell_the_end(self) -> None:
        """Seal and send what the role has added at its end; what nobody takes is told at the next start."""
        from pacs_node.audit.sinks import SinkError

        with contextlib.suppress(SQLAlchemyError):
            self.seal_trail()
        if self._exporter is not None:
            with contextlib.suppress(SinkError, SQLAlchemyError):
                self._exporter.run()

    def write_statement(self) -> None:
        """Put the conformance statement, as it is with the decoders here, where its page reads it."""
        from cxr_sr.conformance import statement

        content = statement().data()
        with self.database.write() as session:
            kept = session.get(Document, STATEMENT)
            if kept is None:
                session.add(Document(name=STATEMENT, content=content))
            elif kept.content != content:
                kept.content = content

    def _give_up_untold(self, before: datetime) -> None:
        """Say so, here and in the audit trail, when retention takes what nobody was told of."""
        from pacs_node.audit.exporter import untold

        if self._exporter is None:
            return
        with self.database.write() as session:
            lost = untold(session, before)
            if lost:
                audit.record(
                    session, "scheduler", "audit.lost", object_type="audit", outcome="failure",
                    detail={"events": lost, "before": before.isoformat()},
                )  # fmt: skip
        if lost:
            log.error("audit-lost", events=lost)

    def back_up(self) -> None:
        """Copy the database and drop the oldest copies."""
        kept = self.settings.retention.backups
        if not kept:
            return
        folder = backup_folder(self.settings)
        for draft in folder.glob(DRAFT_PATTERN):  # of a scheduler that was killed: there is one at a time
            draft.unlink(missing_ok=True)
        target = folder / utcnow().strftime(BACKUP_NAME)
        with self.database.write() as session:
            audit.record(
                session, "scheduler", "database.backup", object_type="database", object_id=target.name
            )
        schema.backup(self.database, target)
        dropped = rotate(folder, kept)
        log.info("database-backed-up", file=target.name, dropped=dropped)


def backup_folder(settings: Settings) -> Path:
    """Where the scheduler's copies of the database lie."""
    return settings.data_dir / "backups"


def rotate(folder: Path, kept: int) -> int:
    """Remove all but the newest `kept` backups; returns how many went. Other files are left alone."""
    backups = sorted(folder.glob(BACKUP_PATTERN))
    gone = backups[: max(0, len(backups) - kept)]
    for path in gone:
        path.unlink(missing_ok=True)
    return len(gone)


def backup_due(folder: Path, every: timedelta, now: datetime) -> datetime:
    """When the next backup is to be made: at once where there is none or the newest is too old."""
    newest = max((path.stat().st_mtime for path in folder.glob(BACKUP_PATTERN)), default=None)
    return now if newest is None else max(now, datetime.fromtimestamp(newest, now.tzinfo) + every)


def verification_due(database: Database, every: timedelta, now: datetime) -> datetime:
    """When the audit trail is to be verified: soon where it never was, or too long ago."""
    with database.read() as session:
        last = verification.last(session)
    soon = now + timedelta(seconds=90)
    return soon if last is None else max(soon, last.at + every)


def sweep_spool(store: ObjectStore, older_than: datetime) -> int:
    """Remove files from the spool that nobody has touched since `older_than`; returns how many.

    Locks stay: they are old as long as their process lives.
    """
    if not isinstance(store, LocalStore):
        return 0
    removed = 0
    for path in store.spool.rglob("*"):
        if path.is_file() and path.suffix != ".lock" and path.stat().st_mtime < older_than.timestamp():
            path.unlink(missing_ok=True)
            removed += 1
    return removed


def run(settings: Settings, stop: threading.Event) -> None:
    """Do the scheduler's duties while leading, wait for the lead otherwise; returns when `stop` is set."""
    database = Database(settings.database_url)
    lead = leadership(database, settings.data_dir)
    try:
        store = store_of(settings)
        info = {"leading": False, "settings": fingerprint(settings)}
        with Presence(database, "scheduler", info) as presence:
            duties = Duties(settings, database, store, presence)
            while not stop.is_set():
                if lead.hold():
                    _lead(duties, lead.hold, stop)
                stop.wait(FOLLOW_SECONDS)
        if lead.hold():
            duties.tell_the_end()
    finally:
        lead.give_up()
        database.close()


def _lead(duties: Duties, leads: Callable[[], bool], stop: threading.Event) -> None:
    log.info("leading")
    duties.presence.update(leading=True)
    scheduler = timetable(duties)
    scheduler.start()
    try:
        while leads() and not stop.wait(FOLLOW_SECONDS):
            pass
    finally:
        scheduler.shutdown(wait=True)
        duties.stop()
        duties.presence.update(leading=False)


def timetable(duties: Duties) -> BackgroundScheduler:
    """Every duty with its interval; one that fails is logged and tried again at its next time."""
    every, now = duties.settings.scheduler, utcnow()
    scheduler = BackgroundScheduler(
        timezone="UTC",
        executors={"default": ThreadPoolExecutor(3), AUDIT: ThreadPoolExecutor(1)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
    )
    backup, alert_seconds = timedelta(hours=every.backup_hours), duties.settings.alerts.check_seconds
    verify = timedelta(hours=every.verify_hours)
    table: tuple[tuple[Callable[[], None], float, datetime], ...] = (
        (duties.expire_leases, every.lease_seconds, now),
        (duties.check_disk, every.disk_seconds, now),
        (duties.check_certificates, every.disk_seconds, now),
        (duties.count_jobs, COUNT_SECONDS, now + timedelta(seconds=2)),
        (duties.check_alerts, alert_seconds, now + timedelta(seconds=min(alert_seconds, 60))),
        (duties.echo, every.echo_seconds, now + timedelta(seconds=5)),
        (duties.sweep_orphans, every.orphans_seconds, now + timedelta(seconds=30)),
        (duties.purge, every.retention_seconds, now + timedelta(seconds=60)),
        (duties.back_up, backup.total_seconds(), backup_due(backup_folder(duties.settings), backup, now)),
        (duties.seal_trail, every.seal_seconds, now + timedelta(seconds=10)),
        (duties.verify_trail, verify.total_seconds(), verification_due(duties.database, verify, now)),
        (duties.call_webhooks, WEBHOOK_SECONDS, now),
        (duties.write_statement, STATEMENT_SECONDS, now + timedelta(seconds=3)),
    )
    if duties.settings.audit.messages != "none":
        table += ((duties.tell_repository, AUDIT_SECONDS, now),)
    for duty, seconds, first in table:
        scheduler.add_job(
            _logged(duty),
            "interval",
            seconds=seconds,
            next_run_time=first,
            id=duty.__name__,
            name=duty.__name__,
            executor=AUDIT if duty == duties.tell_repository else "default",
        )
    return scheduler


def _logged(duty: Callable[[], None]) -> Callable[[], None]:
    stands = Standing(log, "duty-failed")

    def run_duty(**_: Any) -> None:
        began = time.monotonic()
        try:
            duty()
        except SQLAlchemyError as error:
            stands.there(duty=duty.__name__, why=advice(error))
        except (StoreError, OSError) as error:
            stands.there(duty=duty.__name__, why=getattr(error, "strerror", None) or str(error))
        except Exception as error:  # one that fails must not end the others
            log.error("duty-failed", duty=duty.__name__, exc_info=error)
        else:
            stands.over()
            log.debug("duty-done", duty=duty.__name__, seconds=round(time.monotonic() - began, 3))

    return run_duty
