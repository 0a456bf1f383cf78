"""A real node for the tests to hurt, and an archive that remembers everything it was ever sent."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.dimse_primitives import C_STORE

from db import Database
from pacs_node import commitment
from tests.peers import ROOT

ROLES = ("receiver", "worker", "sender", "web", "scheduler")


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Poll until `condition` holds; fail with `what` when time runs out."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RecordingArchive:
    """A storage SCP that keeps a digest of the data set of every C-STORE, in the order of arrival, and
    promises to keep what it is asked about, each time it is asked.
    """

    def __init__(self) -> None:
        self.arrivals: list[tuple[str, str]] = []
        self.promised: list[str] = []
        """SOP Instance UIDs of the promises that were made, in their order; nobody need have heard them."""
        self._lock = threading.Lock()
        self._answering: list[threading.Thread] = []
        ae = AE(ae_title="RECORDER")
        ae.supported_contexts = AllStoragePresentationContexts
        ae.add_supported_context("1.2.840.10008.1.1")
        ae.add_supported_context(commitment.SOP_CLASS)
        handlers: Any = [(evt.EVT_C_STORE, self._stored), (evt.EVT_N_ACTION, self._asked)]
        server: Any = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        self._server = server
        self.port = int(server.socket.getsockname()[1])

    def _stored(self, event: evt.Event) -> int:
        assert isinstance(event.request, C_STORE)
        assert event.request.DataSet is not None
        digest = hashlib.sha256(event.request.DataSet.getvalue()).hexdigest()
        with self._lock:
            self.arrivals.append((str(event.request.AffectedSOPInstanceUID), digest))
        return 0x0000

    def _asked(self, event: evt.Event) -> tuple[int, None]:
        thread = threading.Thread(target=self._promise, args=(event.assoc, event.action_information))
        with self._lock:
            self._answering.append(thread)
        thread.start()
        return 0x0000, None

    def _promise(self, assoc: Any, asked: Dataset) -> None:
        transaction, instances = commitment.read_action(asked)
        event_type, ds = commitment.event_information(transaction, dict.fromkeys(instances))
        with self._lock:
            self.promised += [uid for _, uid in instances]
        with suppress(RuntimeError, OSError):  # whoever asked may be gone
            assoc.send_n_event_report(ds, event_type, commitment.SOP_CLASS, commitment.SOP_INSTANCE)

    def copies(self) -> dict[str, list[str]]:
        """For each SOP Instance UID the digests of all its copies."""
        found: dict[str, list[str]] = {}
        with self._lock:
            for uid, digest in self.arrivals:
                found.setdefault(uid, []).append(digest)
        return found

    def close(self) -> None:
        self._server.shutdown()
        for thread in self._answering:
            thread.join(60)


class Node:
    """`cxr-sr serve` with a configuration of its own in `folder`; started and killed at will."""

    def __init__(
        self, folder: Path, *, destination_port: int, more: str = "", lease_seconds: float = 2
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.dicom_port, self.web_port = free_port(), free_port()
        self.config = folder / "cxr-sr.toml"
        self.log = folder / "node.log"
        self.config.write_text(f"""
data_dir = "{folder / "var"}"
[dicom]
port = {self.dicom_port}
[web]
port = {self.web_port}
[storage]
reserve_bytes = 0
reserve_percent = 0
[queue]
lease_seconds = {lease_seconds}
retry_base_seconds = 0.2
retry_max_seconds = 1
max_attempts = 50
poll_seconds = 0.1
[scheduler]
lease_seconds = 0.5
[[destinations]]
name = "recorder"
ae_title = "RECORDER"
host = "127.0.0.1"
port = {destination_port}
{more}
""")
        self.database = Database(f"sqlite:///{folder / 'var' / 'cxr-sr.db'}")
        self._process: subprocess.Popen[bytes] | None = None
        self.under: list[str] = []
        """A command that is to start the node, as strace."""

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CXR_SR_")}
        return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "cxr_sr", *arguments, "--config", str(self.config)]

    def run(self, *arguments: str, stdin: str = "", seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a `cxr-sr` command on this node's configuration."""
        return subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment(),
            timeout=seconds,
        )

    def start(self, *roles: str) -> None:
        """Start the supervisor; returns at once."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*self.under, *self.command("serve", *(word for role in roles for word in ("--role", role)))],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=self.environment(),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def receives(self) -> bool:
        """Whether somebody listens at the DICOM port."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.dicom_port)) == 0

    def roles(self) -> dict[str, int]:
        """Process ids of the roles that the supervisor runs now."""
        found: dict[str, int] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                stat = (entry / "stat").read_text()
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            state, parent = stat.rsplit(")", 1)[1].split()[:2]
            if int(parent) == self.pid and state != "Z" and b"--role" in words:
                found[words[words.index(b"--role") + 1].decode()] = int(entry.name)
        return found

    def kill_role(self, role: str) -> bool:
        """SIGKILL one role; False when it does not run at the moment."""
        pid = self.roles().get(role)
        if pid is None:
            return False
        os.kill(pid, signal.SIGKILL)
        return True

    def kill_all(self) -> None:
        """SIGKILL the supervisor and every role at once, as a power cut of the process table."""
        pids = [self.pid, *self.roles().values()]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        assert self._process is not None
        self._process.wait()

    def kill_supervisor(self) -> None:
        """SIGKILL the supervisor alone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self, seconds: float = 45) -> int:
        """SIGTERM the supervisor and wait until it has drained; returns its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(seconds)

    def close(self) -> None:
        """Leave no process behind."""
        if self._process is not None and self._process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.kill_all()
        self.database.close()

    def said(self) -> str:
        """Everything the node has logged."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""
