from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset

from pacs_node import codecs, transcode
from tests.pacs_node.nodes import make_object


def image(stored: int = 12, *, signed: bool = False, allocated: int = 16, rows: int = 61) -> Dataset:
    """An object whose pixels take the lowest and the highest value that BitsStored holds."""
    ds = make_object()
    ds.Rows, ds.Columns = rows, 47
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = (
        allocated,
        stored,
        stored - 1,
        signed,
    )
    lowest, highest = (-(1 << stored - 1), (1 << stored - 1) - 1) if signed else (0, (1 << stored) - 1)
    pixels = np.random.default_rng(stored).integers(lowest, highest + 1, (rows, 47))
    pixels[0, :2] = lowest, highest
    data = pixels.astype(f"{'i' if signed else 'u'}{allocated // 8}").tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    return ds


def written(ds: Dataset) -> io.BytesIO:
    stream = io.BytesIO()
    dcmwrite(stream, ds, enforce_file_format=True)
    stream.seek(0)
    return stream


def read_again(ds: Dataset) -> Dataset:
    """What a peer makes of the bytes that go over the wire."""
    file = io.BytesIO()
    header = Dataset()
    header.file_meta = ds.file_meta
    dcmwrite(file, header, enforce_file_format=True)
    return dcmread(io.BytesIO(file.getvalue() + transcode.data_set(ds).read()))


@pytest.mark.parametrize("name", list(transcode.SYNTAXES))
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
@pytest.mark.parametrize("stored", [8, 10, 12, 14, 16])
def test_pixels_are_the_same_bit_for_bit_and_the_instance_is_the_same(name, signed, stored):
    ds = image(stored, signed=signed, allocated=8 if stored == 8 else 16)
    syntax = transcode.SYNTAXES[name]
    back = read_again(transcode.compressed(written(ds), syntax))
    assert back.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(back.pixel_array, ds.pixel_array)
    assert back.SOPInstanceUID == ds.SOPInstanceUID == back.file_meta.MediaStorageSOPInstanceUID
    others = [[e for e in one if e.keyword != "PixelData"] for one in (ds, back)]
    assert others[0] == others[1]


def test_a_high_throughput_code_stream_says_the_precision_of_the_image():
    ds = transcode.compressed(written(image(12)), codecs.HTJ2K_LOSSLESS)
    frame = ds.PixelData[ds.PixelData.index(b"\xff\x4f\xff\x51") :]
    assert frame[42] == 11, "Ssiz is the precision less one, and unsigned"


def test_a_code_stream_that_loses_something_is_never_used(monkeypatch):
    exact = imagecodecs.htj2k_encode
    monkeypatch.setattr(imagecodecs, "htj2k_encode", lambda a, **kw: exact(a // 2, **kw))
    with pytest.raises(transcode.NotCompressed, match="does not give the pixels back"):
        transcode.compressed(written(image(16)), codecs.HTJ2K_LOSSLESS)


def test_an_encoder_that_fails_leaves_the_object_uncompressed(monkeypatch):
    def fail(*_: object, **__: object) -> bytes:
        raise RuntimeError

    monkeypatch.setattr(imagecodecs, "htj2k_encode", fail)
    with pytest.raises(transcode.NotCompressed, match="the encoder failed: RuntimeError"):
        transcode.compressed(written(image()), codecs.HTJ2K_LOSSLESS)


def test_what_is_no_uncompressed_greyscale_image_stays_as_it_is():
    note = make_object()
    del note.PixelData
    colour = image(8, allocated=8)
    colour.SamplesPerPixel = 3
    for ds in (note, colour):
        with pytest.raises(transcode.NotCompressed):
            transcode.compressed(written(ds), codecs.JPEG_LS_LOSSLESS)
