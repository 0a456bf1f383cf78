"""Callers that were turned away, in the audit trail: the first at once, repetitions counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from db import Database, audit
from pacs_node.received import Caller

log = structlog.get_logger(__name__)

EVERY_SECONDS = 60.0
MAX_KNOWN = 1000
"""Different callers that are told apart within that time; all further ones are one."""
_OTHERS = Caller("", "", "")


@dataclass
class _Seen:
    since: float
    untold: int = 0


class Refusals:
    """Writes who was refused; safe to call from any thread.

    A modality that knocks every second all night, or a scan of ports, makes one row a minute for each reason.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.database, self._clock = database, clock
        self._lock = threading.Lock()
        self._seen: dict[tuple[Caller, str], _Seen] = {}

    def note(self, caller: Caller, why: str) -> None:
        """`caller` was refused; what cannot be written is only logged, it was refused all the same."""
        now = self._clock()
        with self._lock:
            due = self._take(lambda seen: now - seen.since >= EVERY_SECONDS)
            key = (caller, why)
            if key not in self._seen and len(self._seen) >= MAX_KNOWN:
                key = (_OTHERS, why)
            known = self._seen.get(key)
            if known is None:
                self._seen[key] = _Seen(now)
                due.append((*key, 1))
            else:
                known.untold += 1
        self._write(due)

    def close(self) -> None:
        """Write what was only counted so far."""
        with self._lock:
            due = self._take(lambda _: True)
        self._write(due)

    def _take(self, over: Callable[[_Seen], bool]) -> list[tuple[Caller, str, int]]:
        """Forget those whose time is over; returns the counts that are still to be told."""
        gone = [key for key, seen in self._seen.items() if over(seen)]
        return [(*key, count) for key in gone if (count := self._seen.pop(key).untold)]

    def _write(self, due: list[tuple[Caller, str, int]]) -> None:
        if not due:
            return
        try:
            with self.database.write() as session:
                for caller, why, times in due:
                    audit.record(
                        session,
                        "receiver",
                        "association.refused",
                        object_type="peer",
                        object_id=caller.address or None,
                        address=caller.address or None,
                        outcome="refused",
                        detail={
                            "calling": caller.ae_title,
                            "called": caller.called_ae_title,
                            "why": why,
                            "times": times,
                        },
                    )
        except SQLAlchemyError as error:
            log.warning("refusal.unrecorded", error=type(error).__name__, refusals=len(due))
