"""Originals without their compression, for destinations that take them in no other way.

What others compressed is decoded in a disposable process, as everywhere; the pixels are those that any
decoder gives. All else stays as it is, and so does the SOP Instance UID.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from pacs_node import codecs, header
from pacs_node.errors import Refused
from pacs_node.examine import Examiner, Limits

_GREY = ("MONOCHROME1", "MONOCHROME2")


class NotUnpacked(Exception):
    """The object goes as it is or not at all; the message says why."""


def uncompressed(stream: BinaryIO, limits: Limits) -> Dataset:
    """A DICOM file with its pixels in Explicit VR Little Endian; nothing else in it differs.

    `stream`: a whole file with one greyscale frame. Where its encoding loses something the result says so
    (PS3.3 C.7.6.1.1.5), whether the original did or not. Raises :class:`NotUnpacked`, OSError.
    """
    codec = codecs.codec_of(header.read_part10(stream).transfer_syntax_uid)
    if codec is None or not codec.encapsulated:  # deflated ones may swell, big endian ones hide words to turn
        raise NotUnpacked("what is deflated or big endian is sent as it is alone")
    stream.seek(0)
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file, Examiner(limits) as examiner:
        shutil.copyfileobj(stream, file)
        file.flush()
        try:
            examination = examiner.examine(Path(file.name))
        except Refused as error:
            raise NotUnpacked(str(error)) from error
    image = examination.image
    if image is None:
        raise NotUnpacked(examination.refusal.sentence if examination.refusal else "it has no pixels")
    fmt = image.format
    if fmt.photometric not in _GREY or fmt.high_bit != fmt.bits_stored - 1:
        raise NotUnpacked("only plain greyscale images are sent without their compression")
    stream.seek(0)
    ds = dcmread(stream)
    data = image.values.tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OW" if fmt.bits_allocated == 16 else "OB"
    ds["PixelData"].is_undefined_length = False
    if codec.lossy and ds.get("LossyImageCompression") != "01":
        ds.LossyImageCompression = "01"
        ds.LossyImageCompressionMethod = codec.method
    ds.file_meta.TransferSyntaxUID = UID(codecs.EXPLICIT_VR_LITTLE_ENDIAN)
    return ds
