"""A small archive for the demo and for tests: a storage SCP that keeps what it gets in a folder and lists it.

Not a PACS: it checks nobody, queries nothing, and forgets what happened when its folder is removed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pydicom import dcmread
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from pacs_node import codecs, statuses
from pacs_node.consignment import KEY_OBJECT_SELECTION
from pacs_node.received import Answer, Limits, Received
from pacs_node.receiver import SOP_CLASSES
from pacs_node.scp import Server
from pacs_node.spool import Spool

_TAGS = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "SeriesDescription"]
_SYNTAXES = [uid for uid in codecs.CODECS if uid != codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN]


@dataclass(frozen=True, slots=True)
class ArchivedObject:
    """One stored object, as its header says."""

    path: Path
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    series_description: str


class Archive:
    """A listening archive that keeps its objects in `folder`; use it as a context manager.

    `port` is the bound one. Raises OSError when it cannot listen or write.
    """

    def __init__(
        self, folder: Path, *, ae_title: str = "DEMO_PACS", host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.folder, self.ae_title = folder, ae_title
        folder.mkdir(parents=True, exist_ok=True)
        self._spool = Spool(folder / ".spool")
        contexts = [build_context(Verification, _SYNTAXES[:2])]
        contexts += [build_context(uid, _SYNTAXES) for uid in (*SOP_CLASSES, KEY_OBJECT_SELECTION)]
        try:
            self._server = Server(
                ae_title=ae_title,
                host=host,
                port=port,
                contexts=contexts,
                limits=Limits(),
                spool=self._spool,
                admit=lambda _caller: None,
                store=self._store,
            )
        except OSError:
            self._spool.close()
            raise
        self.host, self.port = host, self._server.port

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening; the objects stay where they are."""
        self._server.close(grace=2)
        self._spool.close()

    def objects(self) -> list[ArchivedObject]:
        """Everything stored, in the order of arrival."""
        files = sorted(self.folder.glob("*.dcm"), key=lambda path: (path.stat().st_mtime_ns, path.name))
        return [_describe(path) for path in files]

    def find(self, sop_instance_uid: str) -> Path | None:
        """The file of an object, or None while it has not arrived."""
        path = self._path(sop_instance_uid)
        return path if path.exists() else None

    def _path(self, sop_instance_uid: str) -> Path:
        """A name of our making: nothing a peer sends becomes part of a path."""
        return self.folder / f"{hashlib.sha256(sop_instance_uid.encode()).hexdigest()[:32]}.dcm"

    def _store(self, received: Received) -> Answer:
        target = self._path(received.sop_instance_uid)
        try:
            with received.incoming.path.open("rb") as stream:
                os.fsync(stream.fileno())
            received.incoming.path.replace(target)
        except OSError:
            return Answer(statuses.OUT_OF_RESOURCES, "cannot write")
        return Answer(statuses.SUCCESS)


def serve(folder: Path, port: int = 0, *, ae_title: str = "DEMO_PACS", host: str = "127.0.0.1") -> Archive:
    """An archive at work: a context manager with `port`, `ae_title`, `objects()` and `find()`."""
    return Archive(folder, ae_title=ae_title, host=host, port=port)


def _describe(path: Path) -> ArchivedObject:
    ds = dcmread(path, stop_before_pixels=True, specific_tags=list(_TAGS))
    study, series, instance, sop_class, description = (str(ds.get(keyword, "")) for keyword in _TAGS)
    return ArchivedObject(path, study, series, instance, sop_class, description)


def main(arguments: list[str] | None = None) -> int:
    """Run an archive as a process of its own: prints its port and works until it is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m pacs_node.archive", description=serve.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ae-title", default="DEMO_PACS")
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with serve(options.folder, options.port, ae_title=options.ae_title) as archive:
        sys.stdout.write(f"{archive.port}\n")
        sys.stdout.flush()
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
