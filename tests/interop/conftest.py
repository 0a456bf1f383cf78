"""Real peers for the node: dcmtk's programs and an Orthanc of our own."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from config import Destination
from enhancer.modelfile import write_model
from enhancer.networks.generator import Generator, Tail
from tests import peers
from tests.pacs_node.nodes import eventually

Dcmtk = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def dcmtk() -> Dcmtk:
    """Return a function that runs one of dcmtk's programs to its end; its output is in `stdout`."""

    def run(program: str, *arguments: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(peers.require(program)), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            env=os.environ | {"TCP_NODELAY": "1"},
        )

    return run


@dataclass
class Orthanc:
    """A running Orthanc and its REST interface."""

    http_port: int
    dicom_port: int
    credentials: tuple[str, str] | None = None
    """User and password, where it asks for them."""

    @property
    def destination(self) -> Destination:
        return Destination(name="orthanc", ae_title="ORTHANC", host="127.0.0.1", port=self.dicom_port)

    def request(self, path: str, method: str = "GET", body: Any = None, accept: str = "*/*") -> bytes:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http_port}{path}",
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Accept": accept} | self._signed_in(),
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return bytes(response.read())

    def _signed_in(self) -> dict[str, str]:
        if self.credentials is None:
            return {}
        encoded = base64.b64encode(":".join(self.credentials).encode()).decode()
        return {"Authorization": f"Basic {encoded}"}

    def get(self, path: str) -> Any:
        return json.loads(self.request(path))

    def find(self, level: str, **query: str) -> list[dict[str, Any]]:
        """Resources of a level (`Study`, `Series`, `Instance`) whose attributes are exactly these."""
        body = {"Level": level, "Query": query, "Expand": True}
        return list(json.loads(self.request("/tools/find", "POST", body)))

    def instance(self, sop_instance_uid: str) -> str | None:
        """Orthanc's name of an instance, once it is there."""
        found = self.find("Instance", SOPInstanceUID=sop_instance_uid)
        return str(found[0]["ID"]) if found else None

    def file(self, sop_instance_uid: str) -> bytes:
        """The whole DICOM file of an instance."""
        return self.request(f"/instances/{self.instance(sop_instance_uid)}/file")

    def clear(self) -> None:
        for study in self.get("/studies"):
            self.request(f"/studies/{study}", "DELETE")

    def answers(self) -> bool:
        try:
            return bool(self.get("/system"))
        except (urllib.error.URLError, ConnectionError):
            return False


@contextmanager
def running_orthanc(folder: Path, **more: Any) -> Iterator[Orthanc]:
    """An Orthanc with its data in `folder` and these settings besides."""
    program, plugin = peers.require("orthanc"), peers.require("orthanc-dicomweb")
    for attempt in range(3):  # it cannot bind port 0, and another may be quicker with a free one
        orthanc = Orthanc(_free_port(), _free_port())
        for user, password in more.get("RegisteredUsers", {}).items():
            orthanc.credentials = (user, password)
        configuration = {
            "Name": "test",
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "Plugins": [str(plugin)],
            "HttpPort": orthanc.http_port,
            "DicomPort": orthanc.dicom_port,
            "DicomAet": "ORTHANC",
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "SaveJobs": False,
            "StableAge": 1,
            "DicomWeb": {"Enable": True},
            **more,
        }
        (folder / "orthanc.json").write_text(json.dumps(configuration))
        with (folder / f"orthanc-{attempt}.log").open("wb") as log:
            process = subprocess.Popen([program, folder / "orthanc.json"], stdout=log, stderr=log)
        try:
            if _started(orthanc, process):
                yield orthanc
                return
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    pytest.fail("Orthanc does not start: " + (folder / "orthanc-2.log").read_text()[-2000:])


@pytest.fixture(scope="session")
def _orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as orthanc:
        yield orthanc


def _started(orthanc: Orthanc, process: subprocess.Popen[bytes]) -> bool:
    return eventually(lambda: orthanc.answers() or process.poll() is not None, 20) and process.poll() is None


@pytest.fixture
def orthanc(_orthanc: Orthanc) -> Orthanc:
    """Return an empty Orthanc."""
    _orthanc.clear()
    return _orthanc


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a network of the real kind, narrow enough for large images on one core."""
    torch.manual_seed(3)
    generator = Generator(channels=8, blocks=1)
    with torch.no_grad():
        for tail in generator.tails.values():
            assert isinstance(tail, Tail)
            tail.last.weight.normal_(std=0.02)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    write_model(path, generator, name="small", version="0", channels=8, blocks=1)
    return path


class Roles:
    """Roles of the node in threads of this process, until the block ends."""

    def __init__(self, settings: Any, *runs: Callable[[Any, threading.Event], None]) -> None:
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=run, args=(settings, self.stop)) for run in runs]

    def __enter__(self) -> Roles:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        deadline = time.monotonic() + 20
        for thread in self.threads:
            thread.join(max(0.1, deadline - time.monotonic()))
        assert not any(thread.is_alive() for thread in self.threads)
