"""Which roles are alive: each process leaves a row and touches it every few seconds."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from config.standing import Standing
from db import audit, measurements
from db.engine import Database
from db.load import Load
from db.models import RoleInstance
from db.trouble import trouble
from db.types import utcnow

_log = structlog.get_logger(__name__)

MEASURE_SECONDS = 15.0
"""How often a process looks at itself."""
KEEP_SECONDS = 60.0
"""How often that is written down for charts."""


class Presence:
    """Shows that this process does a role's work, until the block ends.

    Its start and its end stand in the audit trail. A beat that fails is only logged: whoever waits for the
    database does so in its own work. With the beats it tells what the process uses of its machine, and what
    `gauge` measures beside that (names of :data:`db.measurements.MERGES`).
    """

    def __init__(
        self,
        database: Database,
        role: str,
        info: dict[str, Any] | None = None,
        *,
        every: float = 5.0,
        gauge: Callable[[], dict[str, float]] | None = None,
    ) -> None:
        self.database, self.role, self.every = database, role, every
        self._gauge, self._load = gauge, Load()
        self._measured_at = self._kept_at = time.monotonic()
        self.id = f"{role}-{uuid.uuid4().hex[:12]}"
        self._info: dict[str, Any] = dict(info or {})
        self._started_at = utcnow()
        self._unwritten = Standing(_log, "presence could not be written")
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
            now = time.monotonic()
            if now - self._measured_at >= MEASURE_SECONDS:
                self._measure(now)
            self._write()

    def _measure(self, now: float) -> None:
        """Tell what is used now, and write it down every minute."""
        self._measured_at = now
        figures = self._load.look() | (self._gauge() if self._gauge else {})
        with self._lock:
            self._info["load"] = figures
        if now - self._kept_at < KEEP_SECONDS:
            return
        self._kept_at = now
        subject = f"{self.role} {socket.gethostname()}"
        try:
            with self.database.write() as session:
                measurements.record(session, figures, subject)
        except SQLAlchemyError as error:
            _log.warning("figures could not be written", role=self.role, error=type(error).__name__)

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
            self._unwritten.there("warning", role=self.role, why=trouble(error).value)
        else:
            self._unwritten.over()


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
