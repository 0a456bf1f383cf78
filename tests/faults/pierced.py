"""Starts processes of the product, each with a named point at which it kills itself.

A server on standard input: it imports the product once and forks for each line, so that a process is there in
a moment. The line is JSON, the answer the process id (see :class:`Nursery`).
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.faults.node import Node
from tests.faults.points import POINTS, Point, find


def pierce(point: Point, mark: Path) -> None:
    """From now on this process dies when it gets to the point; the file `mark` is there then."""
    owner, name, function = find(point.target)
    caller = point.caller and point.caller.rpartition(":")[2].rpartition(".")[2]

    @functools.wraps(function)
    def pierced(*args: Any, **kwargs: Any) -> Any:
        here = caller is None or sys._getframe(1).f_code.co_name == caller
        if here and point.when == "before":
            _die(mark)
        result = function(*args, **kwargs)
        if here and point.when == "after":
            _die(mark)
        return result

    setattr(owner, name, pierced)


def _die(mark: Path) -> None:
    mark.touch()
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def duty(name: str, config: Path) -> int:
    """Do one of the scheduler's duties in this process, once."""
    from config import load_settings
    from cxr_sr.scheduler import Duties
    from db import Database
    from db.objects import store_of
    from db.presence import Presence

    settings = load_settings(config)
    database = Database(settings.database_url)
    with Presence(database, "scheduler") as presence:
        getattr(Duties(settings, database, store_of(settings), presence), name)()
    database.close()
    return 0


def serve() -> None:
    """Fork for each line until standard input ends."""
    from cxr_sr.roles import ROLES

    for module in ROLES.values():
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are gone at once
    print("ready", flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _be(json.loads(line))
        print(pid, flush=True)


def _be(asked: dict[str, Any]) -> None:
    """The forked process: never returns."""
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDONLY)
        log = os.open(asked["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for given, wanted in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(given, wanted)
        if asked["point"]:
            pierce(POINTS[asked["point"]], Path(asked["mark"]))
        if asked["duty"]:
            status = duty(asked["duty"], Path(asked["config"]))
        else:
            from cxr_sr.cli import run

            status = run(["serve", "--role", asked["role"], "--config", asked["config"]])
        for thread in threading.enumerate():
            if thread is not threading.main_thread() and not thread.daemon:
                thread.join(10)
    finally:
        os._exit(status)


class Nursery:
    """Where a test gets the processes of a node from; it leaves none behind."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.pids: dict[str, int] = {}
        self._born: set[int] = set()
        self._marks = 0
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.pierced"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=node.environment(),
            text=True,
        )
        assert self._said() == "ready", node.said()

    def start(self, role: str, point: str = "", duty: str = "") -> Path:
        """Start a role, or one of the scheduler's duties, pierced at `point`; the file that tells that the
        process got there."""
        self._marks += 1
        mark = self.node.folder / f"reached-{self._marks}"
        asked = {
            "role": role, "point": point, "duty": duty, "mark": str(mark),
            "config": str(self.node.config), "log": str(self.node.log),
        }  # fmt: skip
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(asked) + "\n")
        self._server.stdin.flush()
        self.pids[role] = int(self._said())
        self._born.add(self.pids[role])
        return mark

    def runs(self, role: str) -> bool:
        """Whether the process that was started last for a role is there."""
        pid = self.pids.get(role)
        return pid is not None and Path(f"/proc/{pid}").exists()

    def end(self, role: str, number: int = signal.SIGKILL) -> None:
        """Send a role a signal and wait until it is gone."""
        deadline = time.monotonic() + 60
        while self.runs(role):
            os.kill(self.pids[role], number)
            time.sleep(0.05)
            assert time.monotonic() < deadline, f"the {role} does not end"

    def close(self) -> None:
        for pid in self._born:
            if Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(30)
        self._server.stdout.close()

    def _said(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline().strip()


if __name__ == "__main__":
    serve()
