from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pytest

from cxr_sr import supervisor
from cxr_sr.failure import Failure
from cxr_sr.supervisor import Supervisor, node_lock, restart_wait


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.fixture
def supervised():
    """Run a supervisor in a thread; every process is gone when the test ends."""
    running = []

    def start(script: str, roles: tuple[str, ...] = ("receiver",)) -> Supervisor:
        made = Supervisor(roles, lambda role, lifeline: [sys.executable, "-c", script, role, str(lifeline)])
        stop = threading.Event()
        thread = threading.Thread(target=made.run, args=(stop,))
        thread.start()
        running.append((stop, thread))
        return made

    yield start
    for stop, thread in running:
        stop.set()
        thread.join(timeout=15)
        assert not thread.is_alive()


SLEEPER = "import time; time.sleep(60)"


def test_a_role_that_is_killed_is_started_again(supervised):
    node = supervised(SLEEPER, ("receiver", "worker"))
    wait_until(lambda: len(node.pids()) == 2)
    before = node.pids()
    os.kill(before["worker"], signal.SIGKILL)
    wait_until(lambda: node.pids().get("worker") not in {None, before["worker"]})
    assert node.pids()["receiver"] == before["receiver"]


def test_the_wait_before_a_restart_doubles_up_to_half_a_minute():
    assert [restart_wait(n) for n in (0, 1, 2, 3, 7, 50)] == [0, 0.5, 1, 2, 30, 30]


def test_a_role_that_dies_at_once_is_not_restarted_in_a_hurry(supervised, monkeypatch):
    node = supervised("raise SystemExit(3)")
    wait_until(lambda: node.children[0].failures >= 2)
    assert node.children[0].start_at - node.children[0].started_at >= 0.5


def test_a_role_that_ran_a_while_counts_as_settled(supervised, monkeypatch):
    monkeypatch.setattr(supervisor, "SETTLED_SECONDS", 0.0)
    node = supervised("raise SystemExit(3)")
    time.sleep(1.3)
    assert node.children[0].failures == 1


def test_draining_asks_politely_and_waits(tmp_path):
    note = tmp_path / "note"
    script = textwrap.dedent("""
        import pathlib, signal, sys, time
        note = pathlib.Path(sys.argv[1])
        def asked(*_):
            time.sleep(0.3)
            note.write_text("drained")
            sys.exit(0)
        signal.signal(signal.SIGTERM, asked)
        note.write_text("ready")
        time.sleep(60)
    """)
    node = Supervisor(("a",), lambda role, fd: [sys.executable, "-c", script, str(note)])
    stop = threading.Event()
    thread = threading.Thread(target=node.run, args=(stop,))
    thread.start()
    wait_until(note.exists)
    stop.set()
    thread.join(timeout=10)
    assert note.read_text() == "drained"


def test_a_role_that_will_not_end_is_killed(supervised, monkeypatch):
    monkeypatch.setattr(supervisor, "DRAIN_SECONDS", 0.3)
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    node = Supervisor(("a",), lambda role, fd: [sys.executable, "-c", script])
    stop = threading.Event()
    thread = threading.Thread(target=node.run, args=(stop,))
    thread.start()
    wait_until(node.pids)
    pid = node.pids()["a"]
    time.sleep(0.3)
    stop.set()
    thread.join(timeout=10)
    assert gone(pid)


def test_the_roles_end_when_the_supervisor_is_killed(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import sys, threading
        import structlog
        from cxr_sr.supervisor import Supervisor
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
        role = (
            "import sys, threading; from cxr_sr import roles; stop = threading.Event();"
            "roles.stop_on_signals(stop); roles._watch(int(sys.argv[1]), stop); stop.wait(60)"
        )
        node = Supervisor(("a", "b"), lambda name, fd: [sys.executable, "-c", role, str(fd)])
        threading.Thread(target=node.run, args=(threading.Event(),), daemon=True).start()
        while len(node.pids()) < 2:
            pass
        print(*node.pids().values(), flush=True)
        threading.Event().wait(60)
        """)
    )
    with subprocess.Popen(
        [sys.executable, str(program)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    ) as running:
        assert running.stdout is not None
        pids = [int(word) for word in running.stdout.readline().split()]
        time.sleep(0.5)  # let the roles begin to watch
        running.kill()
    wait_until(lambda: all(gone(pid) for pid in pids))


def test_two_nodes_do_not_share_a_data_folder(tmp_path):
    with node_lock(tmp_path, seconds=0):
        with pytest.raises(Failure, match=f"another node .process {os.getpid()}. already uses"):
            with node_lock(tmp_path, seconds=0):
                pass
    with node_lock(tmp_path, seconds=0):
        pass
