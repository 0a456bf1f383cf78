"""Our own objects in a lossless compressed transfer syntax, for destinations that want them so.

The pixels are the same bit for bit, and so is the SOP Instance UID (PS3.4 B.4.1.3: a lossless change of
encoding is the same instance). Each code stream is decoded again and compared before anything is sent.
"""

from __future__ import annotations

import io
import threading
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import structlog
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID

from pacs_node import codecs
from pacs_node.carrier import Parcel

log = structlog.get_logger(__name__)

SYNTAXES: dict[str, str] = {
    "jpeg-ls": codecs.JPEG_LS_LOSSLESS,
    "jpeg-2000": codecs.JPEG_2000_LOSSLESS,
    "htj2k": codecs.HTJ2K_LOSSLESS,
}
"""Transfer syntax of each value of `destinations.transfer_syntax` but `uncompressed`."""

_SSIZ = 42
"""Where the precision of the only component stands in a code stream (ISO 15444-1 A.5.1): SOC, then SIZ."""


_ONE_AT_A_TIME = threading.Lock()
"""An image is held in memory as a whole, several times over: whatever the number of destinations, one is."""


class NotCompressed(Exception):
    """The object stays uncompressed; the message says why."""


def compressed(stream: BinaryIO, syntax: str) -> Dataset:
    """A DICOM file with its pixels in `syntax`, a value of :data:`SYNTAXES`; nothing else in it differs.

    `stream`: a whole file in an uncompressed little endian syntax, one frame, one sample a pixel. The data
    set has its file meta information with it. Raises :class:`NotCompressed`.
    """
    with _ONE_AT_A_TIME:
        return _compressed(dcmread(stream), syntax)


def _compressed(ds: Dataset, syntax: str) -> Dataset:
    if ds.file_meta.TransferSyntaxUID != codecs.EXPLICIT_VR_LITTLE_ENDIAN or "PixelData" not in ds:
        raise NotCompressed("only uncompressed images are compressed")
    if ds.get("SamplesPerPixel") != 1 or int(ds.get("NumberOfFrames") or 1) != 1:
        raise NotCompressed("only single greyscale frames are compressed")
    try:
        pixels = ds.pixel_array
        if syntax == codecs.HTJ2K_LOSSLESS:
            _encapsulate(ds, _htj2k(pixels, int(ds.BitsStored), signed=bool(ds.PixelRepresentation)))
        else:
            ds.compress(syntax, generate_instance_uid=False)
        same = np.array_equal(ds.pixel_array, pixels)
    except Exception as error:  # whatever an encoder does: the object travels uncompressed then
        raise NotCompressed(f"the encoder failed: {type(error).__name__}") from error
    if not same:
        raise NotCompressed("the code stream does not give the pixels back")
    ds._pixel_array, ds._pixel_id = None, {}  # they would stay in memory while the object is sent
    return ds


def as_wanted(parcel: Parcel) -> Dataset | None:
    """One of our objects in the encoding that its destination wants, as :func:`compressed` makes it.

    None where it goes as it is. The stream is at its beginning afterwards.
    """
    wanted = SYNTAXES.get(parcel.destination.transfer_syntax)
    if wanted is None or not parcel.ours:
        return None
    try:
        parcel.stream.seek(0)
        return compressed(parcel.stream, wanted)
    except NotCompressed as error:
        log.info("delivery.uncompressed", destination=parcel.destination.name, why=str(error))
        return None
    finally:
        parcel.stream.seek(0)


def whole_file(ds: Dataset) -> BinaryIO:
    """The DICOM file of :func:`compressed`."""
    buffer = io.BytesIO()
    dcmwrite(buffer, ds, enforce_file_format=True)
    buffer.seek(0)
    return buffer


def data_set(ds: Dataset) -> BinaryIO:
    """The encoded data set of :func:`compressed`, as it goes over the wire."""
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, ds)
    buffer.seek(0)
    return io.BytesIO(buffer.getvalue())


def _htj2k(pixels: np.ndarray[Any, Any], bits_stored: int, *, signed: bool) -> bytes:
    """A High-Throughput JPEG 2000 code stream, reversible, with the precision that BitsStored says.

    The encoder knows 16 bits alone. The level of unsigned samples is therefore shifted here (as ISO 15444-1
    G.1.2 does for that precision) and the precision written into the code stream afterwards.
    """
    if bits_stored == 16:
        return bytes(imagecodecs.htj2k_encode(pixels, reversible=True))
    shift = 0 if signed else 1 << (bits_stored - 1)
    shifted = (pixels.astype(np.int32) - shift).astype(np.int16)
    stream = bytearray(imagecodecs.htj2k_encode(shifted, reversible=True))
    if stream[:4] != b"\xff\x4f\xff\x51" or stream[_SSIZ] != 0x80 | 15:
        raise ValueError("not the code stream that was expected")
    stream[_SSIZ] = (0x80 if signed else 0) | bits_stored - 1
    return bytes(stream)


def _encapsulate(ds: Dataset, stream: bytes) -> None:
    ds.PixelData = encapsulate([stream])
    element = ds["PixelData"]
    element.VR, element.is_undefined_length = "OB", True
    ds._pixel_array, ds._pixel_id = None, {}
    ds.file_meta.TransferSyntaxUID = UID(codecs.HTJ2K_LOSSLESS)
