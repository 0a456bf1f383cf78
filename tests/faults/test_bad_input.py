"""Whatever arrives gets its clear answer, and the next good image still works."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import JPEG2000Lossless, generate_uid
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import CTImageStorage  # type: ignore[attr-defined]
from sqlalchemy import select

from db.models import Job, Source
from db.states import JobState
from tests.faults.node import Node, RecordingArchive, wait_until


@pytest.fixture(scope="module")
def recorder():
    archive = RecordingArchive()
    yield archive
    archive.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory, recorder):
    """A running node, shared by the tests of this file: each leaves it able to work."""
    made = Node(Path(tmp_path_factory.mktemp("bad")) / "node", destination_port=recorder.port)
    made.start()
    wait_until(made.receives, 60, "the receiver listens")
    yield made
    made.close()


def send(node: Node, ds: Dataset) -> int | None:
    """C-STORE an object; its status, or None where its context was not accepted."""
    ae = AE(ae_title="MODALITY")
    ae.add_requested_context(ds.SOPClassUID, ds.file_meta.TransferSyntaxUID)
    assoc = ae.associate("127.0.0.1", node.dicom_port, ae_title="CXR_SR")
    if not assoc.is_established:
        return None
    try:
        return assoc.send_c_store(ds).get("Status")
    finally:
        assoc.release()


def send_bytes(node: Node, like: Dataset, content: bytes) -> Any:
    """C-STORE bytes that need be no data set under the UIDs of `like`; the response."""
    ae = AE(ae_title="MODALITY")
    ae.add_requested_context(like.SOPClassUID, like.file_meta.TransferSyntaxUID)
    assoc = ae.associate("127.0.0.1", node.dicom_port, ae_title="CXR_SR")
    assert assoc.is_established
    try:
        req = C_STORE()
        req.MessageID = 1
        req.AffectedSOPClassUID, req.AffectedSOPInstanceUID = like.SOPClassUID, like.SOPInstanceUID
        req.Priority = 2
        req.DataSet = io.BytesIO(content)
        assoc._reactor_checkpoint.clear()
        assoc.dimse.send_msg(req, assoc.accepted_contexts[0].context_id)
        _, rsp = assoc.dimse.get_msg(block=True)
        assoc._reactor_checkpoint.set()
        return rsp
    finally:
        assoc.release()


def job_of(node: Node, ds: Dataset) -> Job:
    """The job of an object when nothing more happens to it by itself."""
    query = select(Job).join(Source).where(Source.sop_instance_uid == str(ds.SOPInstanceUID))

    def ended() -> Job | None:
        with node.database.read() as session:
            job = session.scalar(query)
            return job if job is not None and job.state not in {JobState.QUEUED, JobState.RUNNING} else None

    wait_until(ended, 90, "the job ends")
    job = ended()
    assert job is not None
    return job


numbers = iter(range(100, 200))


@pytest.fixture
def good_image(small_image):
    return small_image(next(numbers) % 144)


@pytest.fixture(autouse=True)
def _the_next_good_image_still_works(node, recorder, small_image):
    yield
    ds = small_image(next(numbers) % 144)
    assert send(node, ds) == 0x0000
    job = job_of(node, ds)
    assert job.state in {JobState.DELIVERING, JobState.DONE}
    wait_until(lambda: job.result_sop_uid in recorder.copies(), 30, "its result is delivered")
    assert set(node.roles()) == {"receiver", "worker", "sender", "web", "scheduler"}
    assert "Traceback" not in node.said()


@pytest.mark.slow
def test_a_text_is_refused_as_no_data_set(node, good_image):
    rsp = send_bytes(node, good_image, b"Dear radiologist,\nplease find enclosed no image at all.\n" * 50)
    assert rsp.Status == 0xC000
    assert rsp.ErrorComment


@pytest.mark.slow
def test_an_object_without_pixels_ends_with_its_reason(node, good_image):
    del good_image.PixelData
    assert send(node, good_image) == 0x0000
    job = job_of(node, good_image)
    assert job.state in {JobState.SKIPPED, JobState.FAILED}
    assert job.reason


@pytest.mark.slow
def test_truncated_pixels_end_with_their_reason(node, good_image):
    good_image.PixelData = good_image.PixelData[: len(good_image.PixelData) // 2]
    assert send(node, good_image) == 0x0000
    job = job_of(node, good_image)
    assert job.state == JobState.FAILED
    assert job.reason


@pytest.mark.slow
def test_a_bomb_of_a_hundred_megapixels_is_refused_before_it_costs_memory(node, good_image):
    good_image.Rows = good_image.Columns = 10_000
    good_image.file_meta.TransferSyntaxUID = JPEG2000Lossless
    good_image.PixelData = (
        b"\xfe\xff\x00\xe0\0\0\0\0\xfe\xff\x00\xe0\x04\0\0\0\xff\x4f\xff\x51\xfe\xff\xdd\xe0\0\0\0\0"
    )
    good_image["PixelData"].is_undefined_length = True
    assert send(node, good_image) == 0x0000
    job = job_of(node, good_image)
    assert job.state in {JobState.SKIPPED, JobState.FAILED}
    assert job.reason


@pytest.mark.slow
def test_an_unknown_sop_class_is_not_negotiated(node, good_image):
    good_image.SOPClassUID = CTImageStorage
    good_image.SOPInstanceUID = generate_uid(entropy_srcs=["a CT"])
    assert send(node, good_image) is None


@pytest.mark.slow
def test_uploads_that_are_no_images_are_answered_with_a_problem_document(node):
    assert node.run("user", "add", "ada", "--role", "radiologist", stdin="correct horse\n").returncode == 0
    token = node.run("token", "create", "ada", "--name", "test").stdout.strip()
    boundary = "----x"
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="letter.dcm"\r\n'
        f"Content-Type: application/dicom\r\n\r\nDear radiologist\r\n--{boundary}--\r\n"
    ).encode()

    def post(authorization: str) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{node.web_port}/api/v1/jobs",
            data=body,
            headers={
                "Content-Type": f"multipart/form-data; boundary={boundary}",
                "Authorization": authorization,
            },
        )
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=30)
        with caught.value as answer:
            assert answer.headers.get_content_type() == "application/problem+json"
            return answer.code, json.load(answer)

    status, problem = post(f"Bearer {token}")
    assert 400 <= status < 500
    assert problem["title"]
    assert post("Bearer cxrsr_wrong")[0] == 401
