"""What the network tests are made of: a node's settings and state, small objects, peers that misbehave."""

from __future__ import annotations

import io
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, generate_uid
from pynetdicom.association import Association
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import build_context
from sqlalchemy import select

from config import Destination, Settings
from config.settings import DicomSettings, QueueSettings, StorageSettings
from db import Database
from db.models import Job, Source
from db.objects import LocalStore
from db.schema import upgrade
from pacs_node import codecs
from pacs_node.receiver import Receiver
from pacs_node.scu import hang_up
from pacs_node.sockets import ClosingAE

CR = "1.2.840.10008.5.1.4.1.1.1"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
DX_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
SC = "1.2.840.10008.5.1.4.1.1.7"
CT = "1.2.840.10008.5.1.4.1.1.2"
PATIENT = {"acse_timeout": 30, "dimse_timeout": 60, "network_timeout": 60, "connection_timeout": 10}
"""Waits long enough for a peer on a busy machine; `make_settings` has short ones, for tests of silence."""

EXPLICIT, IMPLICIT = codecs.EXPLICIT_VR_LITTLE_ENDIAN, codecs.IMPLICIT_VR_LITTLE_ENDIAN


def make_settings(
    data_dir: Path,
    *,
    dicom: dict[str, Any] | None = None,
    queue: dict[str, Any] | None = None,
    destinations: tuple[Destination, ...] = (),
) -> Settings:
    """Settings on loopback with a port of the system's choice, short waits and no reserve on disk."""
    quick = {"port": 0, "acse_timeout": 3, "dimse_timeout": 5, "network_timeout": 5, "connection_timeout": 3}
    waits = {"poll_seconds": 0.05, "retry_base_seconds": 0.2, "retry_max_seconds": 1}
    return Settings(
        data_dir=data_dir,
        dicom=DicomSettings(**(quick | (dicom or {}))),
        queue=QueueSettings(**(waits | (queue or {}))),
        storage=StorageSettings(reserve_bytes=0, reserve_percent=0),
        destinations=destinations,
    )


@cache
def _empty_tables() -> bytes:
    """A database file as the migrations leave it; made once, since each test needs one."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "empty.db"
        database = Database(f"sqlite:///{file}")
        upgrade(database)
        database.close()
        return file.read_bytes()


def make_database(settings: Settings) -> Database:
    """The node's database in its data folder, made where it is missing."""
    file = settings.data_dir / "cxr-sr.db"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        file.write_bytes(_empty_tables())
    return Database(settings.database_url)


@dataclass
class Node:
    settings: Settings
    database: Database
    store: LocalStore
    receiver: Receiver

    @property
    def port(self) -> int:
        return self.receiver.server.port

    @property
    def tls_port(self) -> int:
        return self.receiver.server.tls_port

    @property
    def spooled(self) -> list[Path]:
        """Files of objects on their way in."""
        return [p for p in self.store.spool.rglob("*") if p.is_file() and p.suffix != ".lock"]


@contextmanager
def receiving(settings: Settings, store: LocalStore | None = None) -> Iterator[Node]:
    """A receiver at work in this process."""
    database = make_database(settings)
    store = store or LocalStore(settings.data_dir / "objects")
    receiver = Receiver(settings, database, store)
    try:
        yield Node(settings, database, store, receiver)
    finally:
        receiver.close(0.5)
        database.close()


def make_object(
    sop_class: str = CR, syntax: str = EXPLICIT, *, uid: str | None = None, size: int = 16
) -> Dataset:
    """A small object that is whole; its pixels need not be decodable where nobody decodes."""
    ds = Dataset()
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = uid or generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.Modality = "CR"
    ds.PatientName, ds.PatientID = "Test^Case", "0815"
    ds.Rows = ds.Columns = size
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    pixels = bytes(range(256)) * (size * size * 2 // 256 + 1)
    ds.PixelData = pixels[: size * size * 2]
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = UID(syntax)
    ds.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    ds.file_meta.MediaStorageSOPInstanceUID = UID(ds.SOPInstanceUID)
    return ds


def encoded(ds: Dataset, syntax: str = EXPLICIT) -> bytes:
    """The data set as it goes over the wire. Compressed ones carry the same bytes: nobody looks."""
    uid = UID(syntax)
    if uid.is_compressed and not uid.is_deflated:
        uid = UID(EXPLICIT)
    return encode(ds, uid.is_implicit_VR, uid.is_little_endian, uid.is_deflated) or b""


@contextmanager
def associated(
    port: int,
    contexts: list[tuple[str, str]] | None = None,
    *,
    calling: str = "MODALITY",
    called: str = "CXR_SR",
) -> Iterator[Association]:
    """A modality's association; `contexts` are (SOP class, transfer syntax) in the order of their ids."""
    ae = ClosingAE(ae_title=calling)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 15
    proposed = [build_context(sop_class, syntax) for sop_class, syntax in contexts or [(CR, EXPLICIT)]]
    assoc = ae.associate("127.0.0.1", port, contexts=proposed, ae_title=called)
    try:
        yield assoc
    finally:
        if assoc.is_established:
            assoc.release()
        hang_up(assoc)


def command(
    sop_class: str, sop_instance: bytes, *, field: int = 1, message_id: int = 7, data_set: int = 1
) -> bytes:
    """An encoded C-STORE-RQ command set with exactly these bytes as Affected SOP Instance UID."""

    def element(number: int, value: bytes) -> bytes:
        return struct.pack("<HHI", 0, number, len(value)) + value

    uid = sop_class.encode()
    body = (
        element(0x0002, uid + b"\x00" * (len(uid) % 2))
        + element(0x0100, struct.pack("<H", field))
        + element(0x0110, struct.pack("<H", message_id))
        + element(0x0700, struct.pack("<H", 0))
        + element(0x0800, struct.pack("<H", data_set))
        + element(0x1000, sop_instance + b"\x00" * (len(sop_instance) % 2))
    )
    return element(0x0000, struct.pack("<I", len(body))) + body


def send_fragment(assoc: Association, control: int, data: bytes, context_id: int = 1) -> None:
    pdata = P_DATA()
    pdata.presentation_data_value_list.append((context_id, bytes([control]) + data))
    assoc.dul.send_pdu(pdata)


def raw_store(
    assoc: Association, data: bytes, *, sop_class: str = CR, sop_instance: bytes, context_id: int = 1
) -> tuple[int | None, str | None]:
    """C-STORE of any bytes under any name; status and comment of the answer."""
    assoc._reactor_checkpoint.clear()
    while not assoc._is_paused:
        time.sleep(0.001)
    try:
        send_fragment(assoc, 3, command(sop_class, sop_instance), context_id)
        stream, largest = io.BytesIO(data), 16000
        while chunk := stream.read(largest):
            send_fragment(assoc, 0, chunk, context_id)
        send_fragment(assoc, 2, b"", context_id)
        _, rsp = assoc.dimse.get_msg(block=True)
    finally:
        assoc._reactor_checkpoint.set()
    if rsp is None:
        return None, None
    answer: Any = rsp
    return answer.Status, str(answer.ErrorComment) if answer.ErrorComment else None


def store_object(assoc: Association, ds: Dataset, *, context_id: int = 1) -> tuple[int | None, str | None]:
    """C-STORE of an object in the syntax of its file meta information."""
    return raw_store(
        assoc,
        encoded(ds, ds.file_meta.TransferSyntaxUID),
        sop_class=ds.SOPClassUID,
        sop_instance=ds.SOPInstanceUID.encode(),
        context_id=context_id,
    )


def wire(assoc: Association) -> socket.socket:
    """The connection itself, for what no library would send."""
    assert assoc.dul.socket is not None
    assert assoc.dul.socket.socket is not None
    return assoc.dul.socket.socket


def rejection(assoc: Association) -> str:
    """Why the peer rejected an association."""
    assert assoc.is_rejected
    assert assoc.acceptor.primitive is not None
    return str(assoc.acceptor.primitive.reason_str)


def eventually(condition: Callable[[], object], seconds: float = 20.0) -> bool:
    """Whether it becomes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def dicom_threads() -> list[threading.Thread]:
    """Threads of associations in this process."""
    marks = ("AcceptorThread", "RequestorThread", "dicom-", "courier-", "lease-", "Thread-")
    return [t for t in threading.enumerate() if t.name.startswith(marks)]


def sources(node: Node) -> list[Source]:
    with node.database.read() as session:
        return list(session.scalars(select(Source).order_by(Source.id)))


def jobs(node: Node) -> list[Job]:
    with node.database.read() as session:
        return list(session.scalars(select(Job).order_by(Job.id)))


def still_receives(node: Node) -> bool:
    """Whether the next good image is taken, after whatever happened before."""
    before = len(jobs(node))
    with associated(node.port) as assoc:
        status, _ = store_object(assoc, make_object())
    return status == 0 and len(jobs(node)) == before + 1 and eventually(lambda: not node.spooled)
