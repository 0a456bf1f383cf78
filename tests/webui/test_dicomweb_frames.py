from __future__ import annotations

import tracemalloc
from typing import Any

import imagecodecs
import numpy as np
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import UID

from db import Database
from db.models import AuditEvent, Job, Source
from db.objects import ObjectStore
from db.states import JobState
from pacs_node import codecs
from tests import dicom_variants as variants
from tests.webui.cabinet import Cabinet, parts, path_of
from tests.webui.conftest import Person
from webui.dicomweb import answers, frames

OCTETS = 'multipart/related; type="application/octet-stream"'
NATIVE = (
    codecs.EXPLICIT_VR_LITTLE_ENDIAN,
    codecs.IMPLICIT_VR_LITTLE_ENDIAN,
    codecs.EXPLICIT_VR_BIG_ENDIAN,
    codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
)


@pytest.fixture
def cabinet(database: Database, store: ObjectStore) -> Cabinet:
    return Cabinet(database, store)


def in_syntax(ds: Any, syntax: str) -> Any:
    if syntax == codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        ds.file_meta.TransferSyntaxUID = UID(syntax)
        return ds
    return variants.encoded(ds, syntax)


@pytest.mark.parametrize("bits", [8, 12])
@pytest.mark.parametrize("syntax", NATIVE)
def test_native_pixels_go_out_in_little_endian_whatever_they_are_stored_in(
    anna: Person, cabinet: Cabinet, syntax: str, bits: int
) -> None:
    values = variants.chest_values(bits, 33, 27)
    ds = in_syntax(variants.cr(values, bits=bits), syntax)
    cabinet.source(ds)
    answer = anna.get(f"{path_of(ds)}/frames/1", headers={"Accept": OCTETS})
    ((kind, data),) = parts(answer)
    assert kind == f"application/octet-stream; transfer-syntax={codecs.EXPLICIT_VR_LITTLE_ENDIAN}"
    assert data == values.tobytes()
    assert int(answer.headers["Content-Length"]) == len(answer.data)
    one = anna.get(f"{path_of(ds)}/frames/1", headers={"Accept": "application/octet-stream"})
    assert (one.mimetype, one.data) == ("application/octet-stream", values.tobytes())


@pytest.mark.parametrize(
    ("syntax", "media", "decoded"),
    [
        (codecs.JPEG_LOSSLESS_SV1, "image/jpeg", imagecodecs.ljpeg_decode),
        (codecs.JPEG_LS_LOSSLESS, "image/jls", imagecodecs.jpegls_decode),
        (codecs.JPEG_2000_LOSSLESS, "image/jp2", imagecodecs.jpeg2k_decode),
        (codecs.HTJ2K_LOSSLESS, "image/jphc", imagecodecs.jpeg2k_decode),
    ],
)
def test_compressed_pixels_go_out_as_they_are_stored_to_who_says_so(
    anna: Person, cabinet: Cabinet, syntax: str, media: str, decoded: Any
) -> None:
    values = variants.chest_values(12, 64, 48)
    ds = variants.encoded(variants.cr(values), syntax)
    cabinet.source(ds)
    address = f"{path_of(ds)}/frames/1"
    octets = "application/octet-stream"
    as_viewers_ask = "multipart/related; type=application/octet-stream; transfer-syntax=*"  # no quotes
    for accept, expected in (
        (as_viewers_ask, octets),
        (
            f'multipart/related; type="application/octet-stream"; transfer-syntax={syntax}',
            "application/octet-stream",
        ),
        (f'multipart/related; type="{media}"; transfer-syntax={syntax}', media),
        (f'multipart/related; type="{media}"', media),
        ("*/*", media),
    ):
        ((kind, data),) = parts(anna.get(address, headers={"Accept": accept}))
        assert kind == f"{expected}; transfer-syntax={syntax}", accept
        np.testing.assert_array_equal(decoded(data), values)
    for accept in (OCTETS, 'multipart/related; type="image/png"', "text/html"):
        refused = anna.get(address, headers={"Accept": accept})
        assert (refused.status_code, refused.mimetype) == (406, "application/problem+json"), accept


def test_a_frame_in_several_fragments_is_handed_out_in_one_piece(anna: Person, cabinet: Cabinet) -> None:
    values = variants.chest_values(12, 64, 48)
    ds = variants.encoded(variants.cr(values), codecs.JPEG_LS_LOSSLESS)
    (stream,) = generate_frames(ds.PixelData, number_of_frames=1)
    ds.PixelData = encapsulate([stream], fragments_per_frame=5, has_bot=True)
    cabinet.source(ds)
    ((_kind, data),) = parts(anna.get(f"{path_of(ds)}/frames/1", headers={"Accept": "*/*"}))
    assert data.rstrip(b"\0") == stream.rstrip(b"\0")
    np.testing.assert_array_equal(imagecodecs.jpegls_decode(data), values)


def test_frames_are_told_by_numbers_and_there_is_one(anna: Person, cabinet: Cabinet) -> None:
    ds = variants.cr(variants.chest_values(12, 8, 8))
    cabinet.source(ds)
    status = {
        numbers: anna.get(f"{path_of(ds)}/frames/{numbers}").status_code
        for numbers in ("1", "1,1", "2", "1,2", "0", "-1", "one", "1,", "1%2C1")
    }
    assert status == {
        "1": 200, "1,1": 200, "2": 404, "1,2": 404, "0": 400, "-1": 400, "one": 400, "1,": 400, "1%2C1": 200,
    }  # fmt: skip
    assert anna.get("/dicomweb/studies/1.2/series/1.3/instances/1.4/frames/1").status_code == 404


def test_the_pixels_of_a_result_are_our_own_and_exact(anna: Person, cabinet: Cabinet) -> None:
    ds = variants.cr(variants.chest_values(12, 16, 16))
    cabinet.source(ds)
    result = cabinet.result(ds)
    ((_kind, data),) = parts(anna.get(f"{path_of(result)}/frames/1", headers={"Accept": OCTETS}))
    assert data == result.PixelData


def test_pixels_that_were_refused_are_not_handed_out_but_the_object_is(
    anna: Person, cabinet: Cabinet
) -> None:
    ds = variants.cr(variants.chest_values(12, 8, 8))
    ds.NumberOfFrames = 2
    ds.PixelData *= 2
    cabinet.source(ds)
    for what in ("frames/1", "rendered", "bulkdata/7FE00010"):
        answer = anna.get(f"{path_of(ds)}/{what}")
        assert (answer.status_code, answer.get_json()["type"]) == (409, "urn:cxr-sr:problem:pixels-refused")
    assert anna.get(f"{path_of(ds)}/metadata").status_code == 200
    ((_kind, whole),) = parts(anna.get(path_of(ds)))
    assert whole == cabinet.stored(ds.SOPInstanceUID)


def test_what_was_never_examined_is_not_parsed_and_says_so(
    anna: Person, cabinet: Cabinet, database: Database
) -> None:
    ds = variants.cr(variants.chest_values(12, 8, 8))
    job = cabinet.bring(ds)
    for what in ("", "/metadata", "/frames/1", "/rendered", "/thumbnail"):
        answer = anna.get(path_of(ds) + what)
        assert (answer.status_code, answer.get_json()["type"]) == (409, "urn:cxr-sr:problem:not-yet")
        assert answer.headers["Retry-After"]
    with database.write() as session:
        session.get_one(Job, job).state = JobState.FAILED
    answer = anna.get(f"{path_of(ds)}/metadata")
    assert (answer.status_code, answer.get_json()["type"]) == (409, "urn:cxr-sr:problem:unreadable")


def test_what_is_not_kept_any_more_is_gone(anna: Person, cabinet: Cabinet, database: Database) -> None:
    ds = variants.cr(variants.chest_values(12, 8, 8))
    cabinet.source(ds)
    with database.write() as session:
        source = session.query(Source).one()
        source.deleted_at = source.received_at
    assert anna.get(f"{path_of(ds)}/frames/1").status_code == 410
    assert anna.get(path_of(ds)).status_code == 410


def test_a_header_that_lies_about_its_pixels_gets_none(
    anna: Person, cabinet: Cabinet, database: Database
) -> None:
    ds = variants.cr(variants.chest_values(12, 8, 8))
    cabinet.source(ds)
    ds.Rows = 4000
    with database.write() as session:
        row, stored = session.query(Source).one(), cabinet._put(ds)
        row.object_key, row.sha256 = stored.key, stored.sha256
    answer = anna.get(f"{path_of(ds)}/frames/1")
    assert (answer.status_code, answer.get_json()["type"]) == (409, "urn:cxr-sr:problem:pixels-refused")


def test_a_large_frame_is_streamed_and_never_held(anna: Person, cabinet: Cabinet) -> None:
    values = np.zeros((4096, 4096), np.uint16)
    values[-1, -1] = 4095
    ds = variants.cr(values)
    cabinet.source(ds)
    tracemalloc.start()
    try:
        answer = anna.get(f"{path_of(ds)}/frames/1", headers={"Accept": OCTETS}, buffered=False)
        size = sum(len(chunk) for chunk in answer.response)
        answer.close()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size > values.nbytes
    assert peak < 8 * answers.CHUNK


def test_who_takes_pixels_is_written_down_once_for_a_while(
    anna: Person, cabinet: Cabinet, database: Database
) -> None:
    ds = variants.cr(variants.chest_values(12, 8, 8))
    cabinet.source(ds)
    for _ in range(3):
        assert anna.get(f"{path_of(ds)}/frames/1").status_code == 200
    anna.get(f"{path_of(ds)}/frames/1", headers={"Accept": "text/html"})
    with database.read() as session:
        events = session.query(AuditEvent).filter(AuditEvent.action == "dicomweb.frames").all()
    assert [(event.actor, event.object_id) for event in events] == [("anna", ds.SOPInstanceUID)]


def test_head_tells_the_length_and_sends_nothing(anna: Person, cabinet: Cabinet) -> None:
    ds = variants.cr(variants.chest_values(12, 8, 8))
    cabinet.source(ds)
    answer = anna.client.head(f"{path_of(ds)}/frames/1", headers={"Accept": "application/octet-stream"})
    assert (answer.status_code, answer.data, answer.headers["Content-Length"]) == (200, b"", "128")


def test_every_compressed_syntax_that_is_decoded_has_a_media_type() -> None:
    """A gap would send JPEG as plain octets."""
    compressed = {uid for uid, codec in codecs.CODECS.items() if codec.encapsulated}
    assert compressed == set(frames.MEDIA)
