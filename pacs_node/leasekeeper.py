"""Keeping the lease of a running job: a thread that beats, and the word to stop when it is lost."""

from __future__ import annotations

import threading
from types import TracebackType

import structlog
from sqlalchemy.exc import SQLAlchemyError

from db import Database, queue
from db.leases import CancelRequested, Lease, LeaseLost

_log = structlog.get_logger(__name__)


class Stopping(Exception):
    """The worker is to stop: the job goes back to the queue untouched."""


class LeaseKeeper:
    """Beats until the block ends. `progress` is called between parts of the work and raises why it must end.

    A beat that fails because the database does not answer is tried again; only time can then take the lease.
    """

    def __init__(self, database: Database, lease: Lease, lease_seconds: float, stop: threading.Event) -> None:
        self.database, self.lease, self.lease_seconds, self.stop = database, lease, lease_seconds, stop
        self.every = max(0.05, min(lease_seconds / 4, 5.0))
        self._share = 0.0
        self._lost: LeaseLost | None = None
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease-{lease.id}", daemon=True)

    def __enter__(self) -> LeaseKeeper:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def progress(self, share: float) -> None:
        """Note how much is done, 0 to 1. Raises :class:`LeaseLost`, :class:`CancelRequested` or
        :class:`Stopping`."""
        self._share = share
        self.check()

    def check(self) -> None:
        """Raise why the work must end, if it must."""
        if self._lost is not None:
            raise self._lost
        if self.stop.is_set():
            raise Stopping

    def _beat(self) -> None:
        while not self._done.wait(self.every):
            try:
                with self.database.write() as session:
                    queue.heartbeat(session, self.lease, self.lease_seconds, self._share)
            except (CancelRequested, LeaseLost) as lost:
                self._lost = lost
                return
            except SQLAlchemyError as error:
                _log.warning("heartbeat failed", job=self.lease.id, error=type(error).__name__)
