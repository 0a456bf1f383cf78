"""What the audit trail is told of looking and searching.

A page that keeps itself up to date asks again and again: the same look or search of the same person is one
entry for a while. What was searched for may name patients and the trail is never shortened, so it is written
only where audit messages go out, which must hold it (PS3.15 A.5.3.10).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Mapping

from db import audit
from webui import auth
from webui.security import client_address
from webui.services import services

AGAIN_SECONDS = 600.0
MAX_REMEMBERED = 10_000


class Recent:
    """What was told lately; safe to share between threads."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._told: dict[Hashable, float] = {}

    def first(self, what: Hashable) -> bool:
        """Whether this is to be told: it was not within the last minutes."""
        now = self._clock()
        with self._lock:
            if now - self._told.get(what, float("-inf")) < AGAIN_SECONDS:
                return False
            self._told.pop(what, None)
            self._told[what] = now
            while len(self._told) > MAX_REMEMBERED:
                del self._told[next(iter(self._told))]
        return True


def looked(job_id: int) -> None:
    """The actor looks at the images of a job."""
    here, who = services(), auth.actor().user
    if here.recent.first((who, "view", job_id)):
        with here.database.write() as session:
            audit.record(
                session, who, "job.view", object_type="job", object_id=job_id, address=client_address()
            )


def listed() -> None:
    """The actor looks at a list that says whose images are here."""
    here, who = services(), auth.actor().user
    if here.recent.first((who, "jobs.list")):
        with here.database.write() as session:
            audit.record(session, who, "jobs.list", address=client_address())


def searched(action: str, asked: Mapping[str, str]) -> None:
    """The actor searches for patients, studies or images; `asked` is the query."""
    here, who = services(), auth.actor().user
    asked = {key: value for key, value in asked.items() if value}
    if asked and here.recent.first((who, action, *sorted(asked.items()))):
        with here.database.write() as session:
            audit.record(session, who, action, address=client_address(), detail=kept(asked))


def kept(asked: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """What the trail keeps of a query."""
    return {"query": dict(asked)} if services().settings.audit.messages != "none" else {}
