"""dcmtk's programs as modality, and its storescp as PACS."""

from __future__ import annotations

import os
import subprocess

import pytest
from pydicom import dcmread
from sqlalchemy import select

from config import Destination
from db.models import Source
from db.objects import LocalStore
from pacs_node import codecs
from pacs_node.echo import echo
from tests import dicom_variants, peers
from tests.pacs_node.nodes import CR, PATIENT, eventually, make_database, make_settings, receiving
from tests.pacs_node.office import Office

PROPOSE = {
    codecs.EXPLICIT_VR_LITTLE_ENDIAN: "-xe",
    codecs.IMPLICIT_VR_LITTLE_ENDIAN: "-xi",
    codecs.EXPLICIT_VR_BIG_ENDIAN: "-xb",
    codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: "-xd",
    codecs.JPEG_BASELINE: "-xy",
    codecs.JPEG_LOSSLESS_SV1: "-xs",
    codecs.JPEG_LS_LOSSLESS: "-xt",
    codecs.JPEG_2000_LOSSLESS: "-xv",
    codecs.RLE_LOSSLESS: "-xr",
}
"""storescu's option for each transfer syntax that it can propose."""


@pytest.fixture
def node(tmp_path):
    with receiving(make_settings(tmp_path / "node", dicom=PATIENT)) as node:
        yield node


def received(node) -> list[Source]:
    with node.database.read() as session:
        return list(session.scalars(select(Source).order_by(Source.id)))


@pytest.mark.peer("echoscu")
def test_echoscu_is_answered(node, dcmtk):
    assert dcmtk("echoscu", "-aec", "CXR_SR", "127.0.0.1", node.port).returncode == 0
    assert dcmtk("echoscu", "-aec", "NOBODY", "127.0.0.1", node.port).returncode != 0


@pytest.mark.peer("storescu")
def test_storescu_sends_each_sample_in_its_own_transfer_syntax(node, dcmtk, shared_data):
    files = sorted(shared_data("dicom").glob("*.dcm"))
    for file in files:
        syntax = str(dcmread(file, stop_before_pixels=True).file_meta.TransferSyntaxUID)
        done = dcmtk("storescu", PROPOSE[syntax], "-R", "-aec", "CXR_SR", "127.0.0.1", node.port, file)
        assert done.returncode == 0, done.stdout
        source = received(node)[-1]
        assert source.transfer_syntax_uid == syntax
        with node.store.open(source.object_key) as stream:
            assert dcmread(stream).PixelData == dcmread(file).PixelData
    assert len(received(node)) == len(files)


@pytest.mark.peer("dcmsend")
def test_dcmsend_sends_all_samples_over_one_association(node, dcmtk, samples_dir):
    files = sorted(samples_dir.glob("*.dcm"))
    done = dcmtk("dcmsend", "-dn", "-aec", "CXR_SR", "127.0.0.1", node.port, *files)
    assert done.returncode == 0, done.stdout
    assert len(received(node)) == len(files)
    again = dcmtk("dcmsend", "-dn", "-aec", "CXR_SR", "127.0.0.1", node.port, *files)
    assert again.returncode == 0
    assert [source.times_received for source in received(node)] == [2] * len(files)


@pytest.mark.peer("storescu")
def test_storescu_is_told_why_an_object_was_refused(tmp_path, dcmtk, samples_dir):
    settings = make_settings(tmp_path / "node", queue={"max_waiting": 1})
    with receiving(settings) as node:
        first, second, *_ = sorted(samples_dir.glob("*.dcm"))
        assert dcmtk("storescu", "-aec", "CXR_SR", "127.0.0.1", node.port, first).returncode == 0
        done = dcmtk("storescu", "-v", "-aec", "CXR_SR", "127.0.0.1", node.port, second)
        assert "Refused: OutOfResources" in done.stdout


@pytest.mark.peer("storescu")
def test_a_storescu_that_is_killed_in_the_middle_leaves_nothing(node, tmp_path):
    file = tmp_path / "large.dcm"
    dicom_variants.written(dicom_variants.cr(dicom_variants.chest_values(12, 96, 80)), file)
    ds = dcmread(file)
    ds.Rows, ds.Columns = 4000, 4000
    ds.PixelData = bytes(4000 * 4000 * 2)
    ds.save_as(file)
    command = [str(peers.require("storescu")), "-aec", "CXR_SR", "127.0.0.1", str(node.port), str(file)]
    with subprocess.Popen(command, env=os.environ | {"TCP_NODELAY": "1"}) as process:
        assert eventually(lambda: node.spooled or process.poll() is not None)
        process.kill()
    if process.returncode != 0:
        assert eventually(lambda: not node.spooled)
        assert received(node) == []


@pytest.mark.peer("storescp")
def test_storescp_gets_an_echo_and_a_result(tmp_path, free_port, samples_dir):

    port, folder = free_port(), tmp_path / "pacs"
    folder.mkdir()
    settings = make_settings(tmp_path / "node")
    destination = Destination(name="pacs", ae_title="PACS", host="127.0.0.1", port=port)
    command = [str(peers.require("storescp")), "-aet", "PACS", "-od", str(folder), "--fork", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            assert eventually(lambda: echo(destination, settings.dicom).ok)
            office = Office(settings, make_database(settings), LocalStore(settings.data_dir / "objects"))
            ds = dicom_variants.cr()
            office.post(ds, destination)
            assert office.work(office.settled)
            office.sender.drain()
            (delivery,) = office.deliveries()
            assert (delivery.state, delivery.status_code) == ("stored", 0)
            (arrived,) = folder.iterdir()
            read = dcmread(arrived)
            assert (read.SOPClassUID, read.SOPInstanceUID) == (CR, ds.SOPInstanceUID)
            assert read.PixelData == ds.PixelData
            office.database.close()
        finally:
            process.terminate()


@pytest.mark.slow
@pytest.mark.peer("dcmsend")
def test_a_hundred_images_come_in_over_one_association(node, dcmtk, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(100):
        dicom_variants.written(dicom_variants.cr(), folder / f"{number}.dcm")
    done = dcmtk("dcmsend", "-aec", "CXR_SR", "127.0.0.1", node.port, "--scan-directories", folder)
    assert done.returncode == 0, done.stdout
    assert len(received(node)) == 100
