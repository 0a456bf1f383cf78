"""Fetching one study: the attempt, what it amounts to, and the claim that is kept meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from config import Settings
from config.network import Archive
from db import Database, batches
from db.batches import Claim, ClaimLost
from db.leases import backoff
from db.objects import ObjectStore
from db.types import utcnow
from pacs_node import pull
from pacs_node.carrier import PeerError
from pacs_node.fetched import Basket
from pacs_node.pull import Broken, Refused
from pacs_node.spool import Spool

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Ending:
    """How an attempt ended: `fetched`, `failed`, `attempt` (it counts, another follows) or `later` (it does
    not). `peer_failed`: nothing more is to be asked of the archive now."""

    how: str
    received: int
    reason: str | None
    peer_failed: bool = False

    def write(self, session: Session, claim: Claim, settings: Settings) -> None:
        """Write it down. Raises :class:`ClaimLost`."""
        if self.how == "fetched":
            batches.fetched(session, claim, self.received, self.reason)
        elif self.how == "failed" or (self.how == "attempt" and claim.attempt >= settings.fetch.max_attempts):
            batches.fail(session, claim, self.reason or "")
        elif self.how == "attempt":
            queue = settings.queue
            wait = backoff(claim.attempt, queue.retry_base_seconds, queue.retry_max_seconds)
            batches.later(session, claim, self.reason, wait, counts=True)
        else:
            batches.later(session, claim, self.reason, timedelta(), counts=False)


def missing_archive() -> Ending:
    return Ending("failed", 0, "its archive is not configured any more")


class Keeper:
    """Keeps a claim while a study is fetched; `claim` is what holds at the end."""

    def __init__(self, database: Database, claim: Claim, seconds: float, stop: threading.Event) -> None:
        self.claim = claim
        self._database, self._seconds, self._stop = database, seconds, stop
        self._done, self._lost = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"claim-{claim.item_id}", daemon=True)

    def given_up(self) -> bool:
        """Whether the fetch is to end at once: cancelled, given to another, or the process ends."""
        return self._lost.is_set() or self._stop.is_set()

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._done.wait(min(self._seconds / 3, 2.0)):
            try:
                with self._database.write() as session:
                    until = batches.keep(session, self.claim, self._seconds)
                self.claim = replace(self.claim, until=until)
            except ClaimLost:
                self._lost.set()
                return
            except SQLAlchemyError as error:
                log.warning("fetch.claim", study=self.claim.item_id, error=type(error).__name__)


@dataclass(frozen=True)
class Fetching:
    """What an attempt works with."""

    settings: Settings
    database: Database
    store: ObjectStore
    spool: Spool

    def attempt(self, archive: Archive, claim: Claim, given_up: Callable[[], bool]) -> Ending:
        """Fetch a study; never raises for what the archive or the network does."""
        basket = Basket(self.settings, self.database, self.store, self.spool, archive, claim, given_up)
        try:
            with pull.opened(archive, self.settings.dicom) as source:
                sent, note = self._retrieve(source, archive, claim, basket)
        except Refused as error:
            return Ending("failed", basket.received, str(error))
        except Broken as error:
            if given_up():
                return Ending("later", basket.received, None)
            if basket.trouble:
                return Ending("later", basket.received, basket.trouble, peer_failed=True)
            return Ending("attempt", basket.received, str(error))
        except PeerError as error:
            return Ending("later", basket.received, str(error), peer_failed=True)
        if basket.trouble:
            return Ending("later", basket.received, basket.trouble, peer_failed=True)
        return self._judge(archive, claim, basket, sent, note)

    def _retrieve(
        self, source: pull.Source, archive: Archive, claim: Claim, basket: Basket
    ) -> tuple[int, str | None]:
        """How many objects the archive says it sent, and what is to be said about a study without any."""
        study, began = claim.study_instance_uid, utcnow()
        found = source.series(study)
        series: list[str] | None = None
        if found is not None:
            wanted = pull.wanted(found, claim.query.get("modalities") or pull.MODALITIES)
            with self.database.read() as session:
                ours = batches.own_series(session, wanted)
            series = [uid for uid in wanted if uid not in ours]
            if not series:
                only = "only results of ours" if wanted else "no series of a modality that was asked for"
                return 0, only
        sent = source.retrieve(study, series, basket, batches.move_id(claim.item_id))
        if archive.kind == "dimse" and archive.retrieve == "move":
            basket.received = self._moved(source, claim, series, sent, began)
        return sent, None if sent or basket.received else "the archive sent nothing"

    def _moved(
        self, source: pull.Source, claim: Claim, series: list[str] | None, sent: int, began: datetime
    ) -> int:
        """How many objects of a move have come. Where the archive does not say for whom it moves, what came
        is known by the names of the instances."""
        with self.database.read() as session:
            counted = batches.received(session, claim.item_id)
        instances = getattr(source, "instances", None)
        if counted >= sent or instances is None:
            return counted
        with self.database.read() as session:
            return max(counted, batches.came(session, instances(claim.study_instance_uid, series), began))

    def _judge(self, archive: Archive, claim: Claim, basket: Basket, sent: int, note: str | None) -> Ending:
        """What a retrieval that went to its end amounts to."""
        if basket.refused:
            why = "; ".join(dict.fromkeys(basket.refused))
            note = f"{len(basket.refused)} of {sent} objects were refused: {why}"
            return Ending("fetched" if basket.received else "failed", basket.received, note)
        if basket.received < sent:
            return Ending(
                "attempt",
                basket.received,
                f"{archive.name} says that it sent {sent} objects, {basket.received} came",
            )
        if basket.known:
            note = f"{basket.known} of {basket.received} objects were here already"
        return Ending("fetched", basket.received, note)
