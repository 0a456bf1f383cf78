"""The roles of a node: which module runs each, and how a process becomes one."""

from __future__ import annotations

import importlib
import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cxr_sr.failure import Failure

if TYPE_CHECKING:
    from config import Settings

ROLES: dict[str, str] = {
    "receiver": "pacs_node.receiver",
    "worker": "pacs_node.worker",
    "sender": "pacs_node.sender",
    "web": "webui.server",
    "scheduler": "cxr_sr.scheduler",
}
"""Name of each role and the module whose `run(settings, stop)` is it."""

ORPHAN_GRACE_SECONDS = 10.0
"""Time a role has to drain after its supervisor has vanished."""


def run_role(name: str, settings: Settings, *, lifeline: int | None = None) -> None:
    """Be the role `name` in this process until SIGTERM or SIGINT; returns when it has drained.

    `lifeline` is the reading end of a pipe whose other end only the supervisor holds: when it closes, the
    supervisor is gone, however it died, and the role ends too, so that a new supervisor never meets a twin of
    its own roles.
    """
    from config.log import configure

    keep_to_itself()
    configure(settings.log, name)
    stop = threading.Event()
    stop_on_signals(stop)
    if lifeline is not None:
        _watch(lifeline, stop)
    run: Callable[[Settings, threading.Event], None] = importlib.import_module(ROLES[name]).run
    with _job_log(settings, name):
        run(settings, stop)
    if not stop.is_set():
        raise Failure(f"the {name} ended by itself")


def keep_to_itself() -> None:
    """This process's files are for its user alone, and a crash leaves no image of its memory behind."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


@contextmanager
def _job_log(settings: Settings, role: str) -> Iterator[None]:
    """Keep what is logged of jobs in the database while the role runs."""
    from config import log
    from db import Database
    from db.joblog import JobLog

    database = Database(settings.database_url, pool_size=1)
    try:
        with JobLog(database, role) as kept:
            log.listen(kept)
            try:
                yield
            finally:
                log.listen(None)
    finally:
        database.close()


def stop_on_signals(stop: threading.Event) -> None:
    """SIGTERM, SIGINT and a closed terminal set `stop`."""

    def asked(_number: int, _frame: object) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, asked)
    signal.signal(signal.SIGINT, asked)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # not under nohup
        signal.signal(signal.SIGHUP, asked)


def _watch(lifeline: int, stop: threading.Event) -> None:
    def watch() -> None:
        while os.read(lifeline, 1):
            pass
        stop.set()
        os.kill(
            os.getpid(), signal.SIGTERM
        )  # a role with a signal loop of its own (gunicorn) hears only this
        threading.Event().wait(ORPHAN_GRACE_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
