"""Which roles are alive: each process leaves a row and touches it every few seconds."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from datetime import timedelta
from types import TracebackType
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from db import audit
from db.engine import Database
from db.models import RoleInstance
from db.types import utcnow

_log = structlog.get_logger(__name__)


class Presence:
    """Shows that this process does a role's work, until the block ends.

    Its start and its end stand in the audit trail. A beat that fails is only logged: whoever waits for the
    database does so in its own work.
    """

    def __init__(
        self, database: Database, role: str, info: dict[str, Any] | None = None, *, every: float = 5.0
    ) -> None:
        self.database, self.role, self.every = database, role, every
        self.id = f"{role}-{uuid.uuid4().hex[:12]}"
        self._info: dict[str, Any] = dict(info or {})
        self._started_at = utcnow()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._beat, name=f"presence-{role}", daemon=True)

    def __enter__(self) -> Presence:
        self._write("start")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(timeout=10)
        self._write("stop")

    def update(self, **info: Any) -> None:
        """Add or replace facts of this process (bound port, model, device, counts); written at once."""
        with self._lock:
            self._info |= info
        self._write()

    def _beat(self) -> None:
        while not self._stop.wait(self.every):
            self._write()

    def _write(self, turn: str | None = None) -> None:
        """Give a sign of life; `turn`: `start` or `stop`, for the audit trail."""
        with self._lock:
            info = dict(self._info)
        now, host, pid = utcnow(), socket.gethostname()[:255], os.getpid()
        try:
            with self.database.write() as session:
                session.merge(
                    RoleInstance(
                        id=self.id,
                        role=self.role,
                        host=host,
                        pid=pid,
                        started_at=self._started_at,
                        beat_at=now,
                        stopped_at=now if turn == "stop" else None,
                        info=info,
                    )
                )
                if turn is not None:
                    audit.record(
                        session,
                        self.role,
                        f"node.{turn}",
                        object_type="role",
                        object_id=self.id,
                        detail={"host": host, "pid": pid},
                    )
        except SQLAlchemyError as error:
            _log.warning("presence could not be written", role=self.role, error=type(error).__name__)


def alive(session: Session, within_seconds: float = 20) -> list[RoleInstance]:
    """Processes that gave a sign of life lately and have not said that they stop, by role."""
    query = (
        select(RoleInstance)
        .where(
            RoleInstance.stopped_at.is_(None),
            RoleInstance.beat_at >= utcnow() - timedelta(seconds=within_seconds),
        )
        .order_by(RoleInstance.role, RoleInstance.started_at)
    )
    return list(session.scalars(query))
