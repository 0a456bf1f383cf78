"""Working through archives: a part of the sender's process, with threads of its own.

Each archive with studies to fetch has a thread, so that a dead one delays neither another nor a delivery.
Studies are claimed one after another, within the hours and only while few fetched images wait, so that what
modalities send comes first.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.exc import SQLAlchemyError

from config import Settings
from config.standing import Standing
from db import Database, batches, pauses
from db.batches import Claim, ClaimLost
from db.leases import backoff
from db.objects import ObjectStore
from db.trouble import advice
from pacs_node.fetching import Fetching, Keeper, missing_archive
from pacs_node.searches import Searches
from pacs_node.spool import Spool
from pacs_node.whereabouts import where

log = structlog.get_logger(__name__)

_LONGEST_PAUSE = 300.0
_FULL_SECONDS = 5.0
"""Seconds between two looks whether fewer images wait."""


@dataclass
class _Route:
    """What the fetcher remembers of an archive."""

    thread: threading.Thread | None = None
    failures: int = 0
    not_before: float = 0.0


def within(hours: str, now: datetime) -> bool:
    """Whether a local time lies within `fetch.hours` (`20:00-06:00`, over midnight too; empty: always)."""
    if not hours:
        return True
    begin, _, end = hours.partition("-")
    at = now.strftime("%H:%M")
    if begin <= end:
        return begin <= at < end
    return at >= begin or at < end


class Fetcher:
    """Starts a thread for each archive that has something due; `clock` gives the local time."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        store: ObjectStore,
        stop: threading.Event,
        clock: Callable[[], datetime] = datetime.now,
    ) -> None:
        self.settings, self.database, self.store, self.stop = settings, database, store, stop
        self.clock = clock
        self.owner = f"fetcher@{socket.gethostname()}:{os.getpid()}"
        self._routes: dict[str, _Route] = {}
        self._searches = Searches(settings, database)
        self._spool: Spool | None = None
        self._lock = threading.Lock()

    def step(self) -> None:
        """Look once for studies to fetch and for searches; start what is to be started."""
        self._searches.step()
        if not self.settings.archives or not within(self.settings.fetch.hours, self.clock()):
            return
        with self.database.read() as session:
            due = batches.due_archives(session)
        for name in due:
            self._dispatch(name)

    def drain(self, seconds: float) -> None:
        """Wait for the threads; a study in the middle is given back."""
        deadline = time.monotonic() + seconds
        with self._lock:
            threads = [r.thread for r in self._routes.values() if r.thread] + self._searches.threads
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._spool is not None:
            self._spool.close()

    def _dispatch(self, name: str) -> None:
        route = self._routes.setdefault(name, _Route())
        if (route.thread and route.thread.is_alive()) or time.monotonic() < route.not_before:
            return
        route.thread = threading.Thread(
            target=self._work, args=(name, route), name=f"fetcher-{name}", daemon=True
        )
        route.thread.start()

    def _work(self, name: str, route: _Route) -> None:
        """Fetch one study after another until there is none, or the archive fails."""
        try:
            failed = self._fetch_all(name)
        except SQLAlchemyError as error:
            log.error("fetch.database", archive=name, error=type(error).__name__)
            failed = True
        except Exception as error:  # noqa: BLE001 - a fault with one archive is no fault of the others
            log.error("fetch.failed", archive=name, error=where(error))
            failed = True
        route.failures = route.failures + 1 if failed else 0
        route.not_before = time.monotonic() + (self._pause(route.failures) if failed else 0.0)

    def _pause(self, failures: int) -> float:
        queue = self.settings.queue
        longest = min(_LONGEST_PAUSE, queue.retry_max_seconds)
        return backoff(failures, queue.retry_base_seconds, longest).total_seconds()

    def _fetch_all(self, name: str) -> bool:
        """Whether it ended because the archive could not be used."""
        fetch, lease = self.settings.fetch, self.settings.queue.lease_seconds
        while not self.stop.is_set() and within(fetch.hours, self.clock()):
            with self.database.read() as session:
                full = batches.waiting_images(session) >= fetch.max_waiting
                full |= pauses.is_paused(session, pauses.INTAKE)
            if full:
                self.stop.wait(min(_FULL_SECONDS, self.settings.queue.poll_seconds * 10))
                continue
            with self.database.write() as session:
                claim = batches.claim(session, name, lease, fetch.max_attempts)
            if claim is None:
                return False
            if not self._fetch(claim):
                return True
        return False

    def _fetch(self, claim: Claim) -> bool:
        """Fetch one study and write down what came of it; False where the archive cannot be used now."""
        keeper = Keeper(self.database, claim, self.settings.queue.lease_seconds, self.stop)
        archive = self.settings.archive(claim.archive)
        ending = missing_archive()
        if archive is not None:
            fetching = Fetching(self.settings, self.database, self.store, self._open_spool())
            with keeper:
                ending = fetching.attempt(archive, claim, keeper.given_up)
        try:
            with self.database.write() as session:
                ending.write(session, keeper.claim, self.settings)
        except ClaimLost:
            log.info("fetch.dropped", batch=claim.batch_id, study=claim.item_id)
            return True
        log.info(
            "fetch.ended",
            archive=claim.archive,
            batch=claim.batch_id,
            study=claim.item_id,
            how=ending.how,
            received=ending.received,
        )
        return not ending.peer_failed

    def _open_spool(self) -> Spool:
        with self._lock:
            if self._spool is None:
                self._spool = Spool(self.store.spool, lambda: self.store.room().accepts)
            return self._spool


@contextmanager
def running(
    settings: Settings, database: Database, store: ObjectStore, stop: threading.Event, grace: float
) -> Iterator[Fetcher]:
    """A fetcher at work in a thread of its own until the block ends; `stop` ends it at once."""
    fetcher = Fetcher(settings, database, store, stop)
    ended = threading.Event()

    silent = Standing(log, "fetch.database")

    def work() -> None:
        while not stop.is_set() and not ended.wait(settings.queue.poll_seconds):
            try:
                fetcher.step()
                silent.over()
            except SQLAlchemyError as error:
                silent.there(why=advice(error))
            except Exception as error:  # noqa: BLE001 - the deliveries beside it go on
                log.error("fetch.failed", error=where(error))

    thread = threading.Thread(target=work, name="fetcher", daemon=True)
    thread.start()
    try:
        yield fetcher
    finally:
        ended.set()
        thread.join(grace)
        fetcher.drain(grace)
