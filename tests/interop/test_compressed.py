"""Results that travel compressed: what dcmtk and Orthanc take, keep and decode is what we stored."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from config import Destination
from db.objects import LocalStore
from pacs_node import codecs, transcode
from pacs_node.echo import echo
from tests import dicom_variants as variants
from tests import peers
from tests.pacs_node.nodes import PATIENT, eventually, make_database, make_settings
from tests.pacs_node.office import Office


@pytest.fixture
def office(tmp_path) -> Iterator[Office]:
    settings = make_settings(tmp_path / "node", dicom=PATIENT)
    office = Office(settings, make_database(settings), LocalStore(settings.data_dir / "objects"))
    try:
        yield office
    finally:
        office.stop.set()
        office.sender.drain(60)
        office.database.close()


@pytest.mark.parametrize(
    ("accepts", "wanted", "syntax"),
    [
        ("+xt", "jpeg-ls", codecs.JPEG_LS_LOSSLESS),
        ("+xv", "jpeg-2000", codecs.JPEG_2000_LOSSLESS),
        ("+x=", "jpeg-ls", codecs.EXPLICIT_VR_LITTLE_ENDIAN),
        ("+xa", "htj2k", codecs.EXPLICIT_VR_LITTLE_ENDIAN),
    ],
    ids=["JPEG-LS", "JPEG 2000", "no compression", "everything but HTJ2K"],
)
@pytest.mark.peer("storescp", "dcmdjpls")
def test_storescp_gets_what_it_takes_and_else_uncompressed(
    tmp_path, office, free_port, dcmtk, accepts, wanted, syntax
):
    port, folder = free_port(), tmp_path / "pacs"
    folder.mkdir()
    destination = Destination(
        name="pacs", ae_title="PACS", host="127.0.0.1", port=port, transfer_syntax=wanted
    )
    command = [
        str(peers.require("storescp")),
        accepts,
        "-aet",
        "PACS",
        "-od",
        str(folder),
        "--fork",
        str(port),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            assert eventually(lambda: echo(destination, office.settings.dicom).ok, 30)
            ds = variants.cr()
            office.post(ds, destination)
            assert office.work(office.settled, 60)
            assert office.deliveries()[0].state == "stored", office.deliveries()[0].comment
        finally:
            process.terminate()
    (file,) = folder.iterdir()
    arrived = dcmread(file)
    assert arrived.file_meta.TransferSyntaxUID == syntax
    assert arrived.SOPInstanceUID == ds.SOPInstanceUID
    assert np.array_equal(arrived.pixel_array, ds.pixel_array)
    if syntax == codecs.JPEG_LS_LOSSLESS:
        done = dcmtk("dcmdjpls", file, tmp_path / "decoded.dcm")
        assert done.returncode == 0, done.stdout
        assert dcmread(tmp_path / "decoded.dcm").PixelData == ds.PixelData, "another's decoder says the same"


@pytest.mark.parametrize("wanted", ["jpeg-ls", "jpeg-2000"])
@pytest.mark.peer("orthanc")
def test_orthanc_keeps_the_pixels_of_a_compressed_result(office, orthanc, wanted):
    ds = variants.cr()
    office.post(ds, orthanc.destination.model_copy(update={"transfer_syntax": wanted}))
    assert office.work(office.settled, 60)
    assert office.deliveries()[0].state == "stored", office.deliveries()[0].comment
    arrived = dcmread(io.BytesIO(orthanc.file(ds.SOPInstanceUID)))
    assert arrived.file_meta.TransferSyntaxUID == transcode.SYNTAXES[wanted]
    assert np.array_equal(arrived.pixel_array, ds.pixel_array)
    if wanted == "jpeg-ls":  # Orthanc decodes JPEG 2000 with a plug-in alone
        picture = orthanc.request(
            f"/instances/{orthanc.instance(ds.SOPInstanceUID)}/image-uint16", accept="image/png"
        )
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(picture))), ds.pixel_array)


@pytest.mark.peer("orthanc")
def test_orthanc_knows_no_htj2k_and_gets_the_result_uncompressed(office, orthanc):
    ds = variants.cr()
    office.post(ds, orthanc.destination.model_copy(update={"transfer_syntax": "htj2k"}))
    assert office.work(office.settled, 60)
    arrived = dcmread(io.BytesIO(orthanc.file(ds.SOPInstanceUID)))
    assert arrived.file_meta.TransferSyntaxUID == codecs.EXPLICIT_VR_LITTLE_ENDIAN
    assert np.array_equal(arrived.pixel_array, ds.pixel_array)


@pytest.mark.parametrize("wanted", list(transcode.SYNTAXES))
@pytest.mark.peer("orthanc", "orthanc-dicomweb")
def test_orthanc_keeps_the_pixels_of_a_result_that_came_compressed_over_the_web(office, orthanc, wanted):
    ds = variants.cr()
    url = f"http://127.0.0.1:{orthanc.http_port}/dicom-web"
    office.post(ds, Destination(name="web", kind="dicomweb", url=url, transfer_syntax=wanted))
    assert office.work(office.settled, 60)
    assert office.deliveries()[0].state == "stored", office.deliveries()[0].comment
    arrived = dcmread(io.BytesIO(orthanc.file(ds.SOPInstanceUID)))
    assert arrived.file_meta.TransferSyntaxUID in (
        transcode.SYNTAXES[wanted],
        codecs.EXPLICIT_VR_LITTLE_ENDIAN,
    )
    assert np.array_equal(arrived.pixel_array, ds.pixel_array)
