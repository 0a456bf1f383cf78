"""How a worker writes down what became of a job: one last transaction under its lease."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from config.settings import QueueSettings
from db import Database, queue
from db.leases import Lease, LeaseLost
from db.trouble import trouble

_log = structlog.get_logger(__name__)

Step = Callable[[Session], object]


class Endings:
    """Ends jobs for the worker `owner`. What cannot be written while the database is away is owed, and
    written first when it is back: such a time costs no job an attempt."""

    def __init__(self, database: Database, limits: QueueSettings, owner: str) -> None:
        self._database, self._limits, self._owner = database, limits, owner
        self._owed: tuple[Lease, Step] | None = None

    def end(self, lease: Lease, step: Step) -> None:
        """One transaction about the job, unless it is another's by now. Raises SQLAlchemyError."""
        try:
            with self._database.write() as session:
                step(session)
        except LeaseLost:
            _log.warning("the lease was lost", job=lease.id)
        except SQLAlchemyError as error:
            if trouble(error).passes:
                self._owed = (lease, step)
            raise

    def settle(self) -> None:
        """Write what is owed. Raises SQLAlchemyError."""
        if self._owed is not None:
            (lease, step), self._owed = self._owed, None
            self.end(lease, step)

    def fail(self, lease: Lease, code: str, reason: str) -> None:
        """Another attempt would end the same."""
        self.end(lease, lambda session: queue.fail(session, lease, code, reason, actor=self._owner))

    def retry(self, lease: Lease, code: str, reason: str) -> None:
        """Another attempt after a growing wait, while some are left."""
        limits = self._limits
        self.end(
            lease,
            lambda session: queue.retry_later(
                session,
                lease,
                code,
                reason,
                max_attempts=limits.max_attempts,
                base=limits.retry_base_seconds,
                longest=limits.retry_max_seconds,
                actor=self._owner,
            ),
        )

    def postpone(self, lease: Lease, code: str, reason: str, seconds: float) -> None:
        """Another time; what stood in the way is no fault of the job's."""
        wait = timedelta(seconds=seconds)
        self.end(
            lease, lambda session: queue.postpone(session, lease, code, reason, wait=wait, actor=self._owner)
        )

    def interrupted(self, lease: Lease, error: SQLAlchemyError, pause: float) -> None:
        """The database failed in the middle of the job. Raises SQLAlchemyError."""
        code, reason = "database", "The database did not take what was found or made."
        if trouble(error).passes:
            self.postpone(lease, code, reason, pause)
        else:
            self.retry(lease, code, reason)
