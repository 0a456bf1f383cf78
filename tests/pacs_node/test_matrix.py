"""Every transfer syntax with a decoder, at every depth, in both photometric interpretations, made by others'
encoders from one real radiograph: decoded exactly and derived soundly, by our rules and by a validator.

Encoders: dcmtk (native, RLE, JPEG, JPEG-LS), GDCM (JPEG 2000 lossless), imagecodecs (lossy JPEG 2000, HTJ2K).
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import gdcm
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames

from db.states import JobState
from pacs_node import codecs, decode
from pacs_node.errors import Reason
from tests import dicom_variants as variants
from tests import peers
from tests.derived_checks import check_derived, errors, new_errors
from tests.pacs_node.clinic import open_clinic
from tests.pacs_node.test_derive import through_files

Encode = Callable[[Path, Path], None]


def dcmtk(program: str, *options: str) -> Encode:
    def encode(source: Path, target: Path) -> None:
        subprocess.run([peers.require(program), *options, source, target], check=True, capture_output=True)

    return encode


def with_gdcm(kind: int) -> Encode:
    def encode(source: Path, target: Path) -> None:
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(source))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(kind))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()

    return encode


def with_imagecodecs(uid: str) -> Encode:
    def encode(source: Path, target: Path) -> None:
        variants.written(variants.encoded(dcmread(source), uid), target)

    return encode


class Way(NamedTuple):
    """How an encoding is made, at which depths, and how far values may be off, in parts of the range."""

    encode: Encode
    bits: tuple[int, ...] = (8, 10, 12, 16)
    off: float = 0.0


WAYS = {
    codecs.EXPLICIT_VR_LITTLE_ENDIAN: Way(dcmtk("dcmconv", "+te")),
    codecs.IMPLICIT_VR_LITTLE_ENDIAN: Way(dcmtk("dcmconv", "+ti")),
    codecs.EXPLICIT_VR_BIG_ENDIAN: Way(dcmtk("dcmconv", "+tb")),
    codecs.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Way(dcmtk("dcmconv", "+td")),
    codecs.RLE_LOSSLESS: Way(dcmtk("dcmcrle")),
    codecs.JPEG_LOSSLESS_SV1: Way(dcmtk("dcmcjpeg", "+e1")),
    codecs.JPEG_LOSSLESS: Way(dcmtk("dcmcjpeg", "+el")),
    codecs.JPEG_LS_LOSSLESS: Way(dcmtk("dcmcjpls", "+el")),
    codecs.JPEG_2000_LOSSLESS: Way(with_gdcm(gdcm.TransferSyntax.JPEG2000Lossless)),
    codecs.HTJ2K_LOSSLESS: Way(with_imagecodecs(codecs.HTJ2K_LOSSLESS)),
    codecs.HTJ2K_LOSSLESS_RPCL: Way(with_imagecodecs(codecs.HTJ2K_LOSSLESS_RPCL)),
    codecs.JPEG_BASELINE: Way(dcmtk("dcmcjpeg", "+eb", "+q", "95"), (8,), 0.05),
    codecs.JPEG_EXTENDED: Way(dcmtk("dcmcjpeg", "+ee", "+q", "95"), (8, 12), 0.05),
    codecs.JPEG_LS_NEAR_LOSSLESS: Way(dcmtk("dcmcjpls", "+en", "+md", "2"), off=2 / 255),
    codecs.JPEG_2000: Way(with_imagecodecs(codecs.JPEG_2000), off=0.02),
    codecs.HTJ2K: Way(with_imagecodecs(codecs.HTJ2K), off=0.0),
}
SIGNED = (12, 16)
"""Depths at which signed values are tried too, where the encoding is lossless."""
CASES = [
    (uid, bits, photometric, signed)
    for uid, way in WAYS.items()
    for bits in way.bits
    for photometric in ("MONOCHROME1", "MONOCHROME2")
    for signed in ((False, True) if bits in SIGNED and photometric == "MONOCHROME2" else (False,))
    if not (signed and way.off)
]


def named(value: object) -> str:
    return codecs.CODECS[value].name if isinstance(value, str) and value in codecs.CODECS else str(value)


def crop(bits: int, *, signed: bool) -> np.ndarray:
    """64 x 48 pixels of a real radiograph with its noise, over the whole range of `bits`: Int[48, 64]."""
    lung = dcmread(variants.SAMPLES / "chest_pa_fuji_440.dcm").pixel_array[150:198, 90:154].astype(float)
    values = np.rint((lung - lung.min()) / np.ptp(lung) * ((1 << bits) - 1))
    values -= (1 << (bits - 1)) if signed else 0
    return values.astype(f"{'i' if signed else 'u'}{1 if bits <= 8 else 2}")


def test_the_matrix_has_every_transfer_syntax_that_we_can_read():
    assert sorted(WAYS) == sorted(codecs.decodable())


@pytest.mark.parametrize(("uid", "bits", "photometric", "signed"), CASES, ids=named)
def test_an_encoding_is_decoded_exactly_and_derived_soundly(
    uid, bits, photometric, signed, require_peer, tmp_path
):
    validator = require_peer("dciodvfy")
    values = crop(bits, signed=signed)
    plain = variants.written(variants.cr(values, bits=bits, photometric=photometric), tmp_path / "plain.dcm")
    path = tmp_path / "source.dcm"
    WAYS[uid].encode(plain, path)

    image = decode.decode(*_read(path))
    assert image.format.photometric == photometric
    assert image.values.dtype == values.dtype
    off = np.abs(image.values.astype(int) - values.astype(int)).max()
    assert off <= WAYS[uid].off * (1 << bits)

    source, derived = through_files(path, tmp_path / "derived.dcm")
    check_derived(source, derived, 2)
    found = errors(validator, tmp_path / "derived.dcm")
    assert not found or new_errors(validator, path, tmp_path / "derived.dcm") == []


def _read(path):
    ds = dcmread(path)
    return ds, str(ds.file_meta.TransferSyntaxUID)


def test_a_broken_code_stream_fails_that_job_alone_in_every_syntax(tmp_path):
    compressed = [uid for uid in WAYS if codecs.CODECS[uid].encapsulated]
    with open_clinic(tmp_path / "node") as clinic:
        jobs = {}
        for uid in compressed:
            bits = 8 if 8 in WAYS[uid].bits else 12
            ds = variants.encoded(variants.cr(crop(bits, signed=False), bits=bits), uid)
            stream = next(generate_frames(ds.PixelData, number_of_frames=1))
            ds.PixelData = encapsulate([stream[: len(stream) // 2]])
            jobs[uid] = clinic.receive(ds).job_id
        whole = clinic.receive(variants.encoded(variants.cr(), codecs.JPEG_LS_LOSSLESS)).job_id

        clinic.work()

        assert clinic.job(whole).state is JobState.DELIVERING
        for uid, job_id in jobs.items():
            job = clinic.job(job_id)
            assert job.state is JobState.FAILED, named(uid)
            assert job.reason_code in (Reason.TRUNCATED, Reason.BROKEN_STREAM), named(uid)
            assert job.reason.endswith(".")
