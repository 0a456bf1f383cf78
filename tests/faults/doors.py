"""What a modality and a program do at a node's doors, and what they are answered."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from contextlib import suppress

from pydicom import Dataset, dcmwrite
from pynetdicom import AE
from sqlalchemy import select

from db import people
from db.models import Job, Source
from tests.faults.node import Node, wait_until


def send(node: Node, ds: Dataset) -> int:
    ae = AE(ae_title="MODALITY")
    ae.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
    assoc = ae.associate("127.0.0.1", node.dicom_port, ae_title="CXR_SR")
    assert assoc.is_established
    try:
        return int(assoc.send_c_store(ds).Status)
    finally:
        assoc.release()


def ask(node: Node, path: str, body: bytes | None = None, kind: str = "", token: str = "") -> tuple[int, str]:
    """Status and text of an answer of the pages."""
    request = urllib.request.Request(f"http://127.0.0.1:{node.web_port}{path}", data=body)
    if kind:
        request.add_header("Content-Type", kind)
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def upload(node: Node, ds: Dataset, token: str) -> tuple[int, str]:
    head = '--x\r\nContent-Disposition: form-data; name="file"; filename="a.dcm"\r\n\r\n'
    body = head.encode() + part10(ds) + b"\r\n--x--\r\n"
    return ask(node, "/api/v1/jobs", body, "multipart/form-data; boundary=x", token)


def stow(node: Node, ds: Dataset, token: str) -> tuple[int, str]:
    body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + part10(ds) + b"\r\n--x--\r\n"
    kind = 'multipart/related; type="application/dicom"; boundary=x'
    return ask(node, "/dicomweb/studies", body, kind, token)


def part10(ds: Dataset) -> bytes:
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def begin(node: Node) -> str:
    """Start the node and wait until it can work; a token for its programs."""
    node.start()
    wait_until(node.receives, 120, "the receiver listens")
    wait_until(lambda: ready(node)[0] == 200, 120, "the node is ready")
    with node.database.write() as session:
        user = people.add_user(session, "ada", "radiologist", "a horse that was correct")
        return people.create_token(session, user, "program")[0]


def ready(node: Node) -> tuple[int, str]:
    with suppress(OSError):
        return ask(node, "/readyz")
    return 0, ""


def jobs(node: Node) -> list[Job]:
    with node.database.read() as session:
        return list(session.scalars(select(Job)))


def received(node: Node) -> set[str]:
    with node.database.read() as session:
        return {str(uid) for uid in session.scalars(select(Source.sop_instance_uid))}
