"""One supervisor for the roles of a node: starts them as processes, restarts one that dies, drains them at
the end.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from cxr_sr.failure import Failure
from cxr_sr.roles import keep_to_itself, stop_on_signals

if TYPE_CHECKING:
    from config import Settings

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.2
DRAIN_SECONDS = 30.0
"""Time the roles have to finish or hand back what they hold, before they are killed."""
SETTLED_SECONDS = 20.0
"""A role that ran this long and dies is restarted at once, as if it had never failed."""
LONGEST_WAIT = 30.0
LOCK_SECONDS = 5.0


def restart_wait(failures: int) -> float:
    """Seconds before the next start after that many failures in a row: half a second, doubling to half a
    minute.
    """
    return 0.0 if failures <= 0 else float(min(LONGEST_WAIT, 0.5 * 2.0 ** (failures - 1)))


@dataclass
class Child:
    """One role: its process, and how it has fared."""

    role: str
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    failures: int = 0
    start_at: float = 0.0


def role_command(config: Path | None) -> Callable[[str, int], list[str]]:
    """How a role of this program is started."""

    def command(role: str, lifeline: int) -> list[str]:
        words = [sys.executable, "-m", "cxr_sr", "serve", "--role", role, "--lifeline", str(lifeline)]
        return words if config is None else [*words, "--config", str(config)]

    return command


@dataclass
class Supervisor:
    """Keeps the roles running until told to stop; uses no signals itself, so it may run in a thread.

    `command` gives the command line of a role; its second argument is the number of the lifeline's
    descriptor. `environment` is added to that of the children; the descriptor `output`, where given, takes
    their stdout and stderr.
    """

    roles: Sequence[str]
    command: Callable[[str, int], list[str]]
    environment: dict[str, str] = field(default_factory=dict)
    output: int | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self.children = [Child(role) for role in self.roles]
        self._reading, self._writing = os.pipe()

    def run(self, stop: threading.Event, kill: threading.Event | None = None) -> None:
        """Start every role and watch them; when `stop` is set drain them. `kill` shortens the drain."""
        try:
            while not stop.is_set():
                for child in self.children:
                    self._tend(child)
                stop.wait(POLL_SECONDS)
        finally:
            self._drain(kill or threading.Event())
            os.close(self._writing)
            os.close(self._reading)

    def pids(self) -> dict[str, int]:
        """Process ids of the roles that run now."""
        return {c.role: c.process.pid for c in self.children if c.process and c.process.poll() is None}

    def _tend(self, child: Child) -> None:
        now = self.clock()
        if child.process is not None:
            status = child.process.poll()
            if status is None:
                return
            child.process = None
            child.failures = 1 if now - child.started_at >= SETTLED_SECONDS else child.failures + 1
            wait = restart_wait(child.failures)
            child.start_at = now + wait
            log.error("role-died", role=child.role, status=status, restart_in_seconds=wait)
        if now >= child.start_at:
            self._start(child, now)

    def _start(self, child: Child, now: float) -> None:
        child.started_at = now
        child.process = subprocess.Popen(
            self.command(child.role, self._reading),
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=self.output,
            env={**os.environ, **self.environment},
            pass_fds=(self._reading,),
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which then drains them in order
        )
        log.info("role-started", role=child.role, pid=child.process.pid)

    def _drain(self, kill: threading.Event) -> None:
        running = [c.process for c in self.children if c.process is not None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        deadline = self.clock() + DRAIN_SECONDS
        while any(p.poll() is None for p in running) and self.clock() < deadline and not kill.wait(0.05):
            pass
        for process in running:
            if process.poll() is None:
                log.error("role-killed", pid=process.pid, reason="it did not end in time")
                process.kill()
            process.wait()


@contextmanager
def node_lock(data_dir: Path, *, seconds: float = LOCK_SECONDS) -> Iterator[None]:
    """Hold the data folder as the only node; waits a little for one that is just ending. Raises
    :class:`Failure`.
    """
    from db.files import private_folder

    private_folder(data_dir)
    path = data_dir / "node.lock"
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "a+") as file:
        deadline = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    file.seek(0)
                    owner = file.read().strip() or "unknown"
                    raise Failure(
                        f"another node (process {owner}) already uses {data_dir}; "
                        "stop it, or give this one its own data_dir"
                    ) from None
                time.sleep(0.1)
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield


def prepare(settings: Settings) -> tuple[str, str] | None:
    """Bring the schema up to date; returns name and password of the first administrator when one was just
    made.
    """
    from db import Database, adrift, people, schema
    from db.files import private_folder
    from db.objects import store_of

    keep_to_itself()
    private_folder(settings.data_dir)
    database = Database(settings.database_url)
    try:
        adrift.check_start(database, store_of(settings))
        schema.upgrade(database)
        return people.first_administrator(database)
    finally:
        database.close()


def welcome(administrator: tuple[str, str] | None) -> None:
    """Tell the first administrator's name and password, on the terminal and nowhere else."""
    if administrator is not None:
        name, password = administrator
        line = f"First start: log in as {name} with the password {password} (shown only once)."
        print(line, file=sys.stderr, flush=True)


def free_port(host: str) -> int:
    """A TCP port that nobody listens on at the moment."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def fixed_ports(settings: Settings) -> dict[str, str]:
    """For each port 0 in the settings a free one, as environment of the roles, so that a restart keeps it."""
    chosen = {}
    if settings.dicom.port == 0:
        chosen["CXR_SR_DICOM__PORT"] = str(free_port(settings.dicom.host))
    if settings.dicom.tls and settings.dicom.tls.port == 0:
        chosen["CXR_SR_DICOM__TLS__PORT"] = str(free_port(settings.dicom.host))
    if settings.web.port == 0:
        chosen["CXR_SR_WEB__PORT"] = str(free_port(settings.web.host))
    return chosen


def web_url(settings: Settings, environment: dict[str, str] | None = None) -> str:
    """Where the pages are, for a person on this machine."""
    port = (environment or {}).get("CXR_SR_WEB__PORT", str(settings.web.port))
    host = settings.web.host if settings.web.host not in {"0.0.0.0", "::"} else socket.gethostname()  # noqa: S104 - a question, no binding
    return f"{'https' if settings.web.tls_cert else 'http'}://{f'[{host}]' if ':' in host else host}:{port}/"


def wait_for_roles(
    settings: Settings, roles: Sequence[str], since: datetime, stop: threading.Event, seconds: float
) -> bool:
    """Wait until each of `roles` runs and began after `since`; False when time ran out or `stop` was set."""
    from db import Database, presence

    database = Database(settings.database_url)
    try:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not stop.is_set():
            with database.read() as session:
                if set(roles) <= {i.role for i in presence.alive(session) if i.started_at >= since}:
                    return True
            stop.wait(0.2)
        return False
    finally:
        database.close()


def serve_roles(settings: Settings, config: Path | None, roles: Sequence[str]) -> None:
    """The whole of `cxr-sr serve`: lock, supervise, say where things are, drain on a signal."""
    from config.log import configure

    configure(settings.log, "supervisor")
    stop = threading.Event()
    kill = threading.Event()
    stop_on_signals(stop)
    _second_signal_kills(stop, kill)
    with node_lock(settings.data_dir):
        welcome(prepare(settings))
        environment = fixed_ports(settings)
        supervisor = Supervisor(roles, role_command(config), environment)
        told = (settings, environment, roles, datetime.now(UTC), stop)
        announcer = threading.Thread(target=_announce, args=told, daemon=True)
        announcer.start()
        supervisor.run(stop, kill)
        announcer.join(timeout=2)


def _announce(
    settings: Settings,
    environment: dict[str, str],
    roles: Sequence[str],
    since: datetime,
    stop: threading.Event,
) -> None:
    up = wait_for_roles(settings, roles, since, stop, 60)
    if stop.is_set():
        return
    if not up:
        print("Not every role is up after a minute: see the log lines above.", file=sys.stderr, flush=True)
        return
    lines = []
    if "web" in roles:
        lines.append(f"Pages:  {web_url(settings, environment)}")
    if "receiver" in roles:
        dicom = settings.dicom
        port = environment.get("CXR_SR_DICOM__PORT", str(dicom.port))
        doors = [] if dicom.tls and dicom.tls.only else [f"{dicom.host}:{port}"]
        if dicom.tls:
            port = environment.get("CXR_SR_DICOM__TLS__PORT", str(dicom.tls.port))
            doors.append(f"{dicom.host}:{port} with TLS")
        lines.append(f"DICOM:  {dicom.ae_title} at {' and '.join(doors)}")
    print("\n".join(lines), file=sys.stderr, flush=True)


def _second_signal_kills(stop: threading.Event, kill: threading.Event) -> None:
    def asked(_number: int, _frame: object) -> None:
        if stop.is_set():
            kill.set()
        stop.set()

    signal.signal(signal.SIGTERM, asked)
    signal.signal(signal.SIGINT, asked)
