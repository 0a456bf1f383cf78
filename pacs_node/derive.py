"""The derived object: the source's data set with new pixels, and everything that is no longer true put right.

What the derivation does not touch travels with the result unchanged, down to the bytes of texts in
character sets of any kind. What no longer holds is scaled, recomputed or dropped, and what is dropped is
said.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID

from pacs_node import codecs, colour, geometry, identity, overlays, provenance, recipe, stored
from pacs_node.decode import PixelFormat
from pacs_node.geometry import Enlargement
from pacs_node.provenance import Derivation


def derive(
    header: Dataset,
    values: npt.NDArray[Any],
    source: PixelFormat,
    how: Derivation,
    *,
    transfer_syntax: str = codecs.EXPLICIT_VR_LITTLE_ENDIAN,
    stored_bytes: int | None = None,
    source_is_ours: bool = False,
    unreadable: Sequence[str] = (),
) -> Dataset:
    """A new data set, ready to be written in Explicit VR Little Endian, with file meta information of its
    own.

    header: the source's data set (its pixels are not looked at), left as it is; values: Int[H*s, W*s],
    stored values in the source's format; transfer_syntax and stored_bytes: how the source was encoded and
    how long its compressed pixels were, for the lossy history; source_is_ours: the source is our Secondary
    Capture of an upload. Raises ValueError where `values` do not fit the format, KeyError where `header`
    lacks its own UIDs.
    """
    _check(values, source)
    ds = copy_header(header)
    by = Enlargement((source.rows, source.columns), (values.shape[0], values.shape[1]))
    _right_our_vrs(ds)
    left_out = _drop_what_no_longer_holds(ds, by, how.keep_private)
    if not stored.is_grey(ds):
        colour.drop_colour(ds, source.bits_stored)
        left_out.append("the colours that its grey was written in")
    if unreadable:
        left_out.append("unreadable attributes")
    geometry.scale_spacings(ds, by)
    if any(keyword in header and keyword not in ds for keyword in recipe.SPACINGS):
        left_out.append("unusable pixel spacing")
    geometry.scale_shapes(ds, by)

    provenance.tell_source(ds)
    provenance.tell_equipment(ds, how, source_is_ours=source_is_ours)
    provenance.tell_times(ds, how)
    samples = 3 if str(header.get("PhotometricInterpretation") or "") in colour.THREE_SAMPLES else 1
    pixel_bytes = source.rows * source.columns * source.bits_allocated // 8 * samples
    provenance.tell_lossy_history(ds, transfer_syntax, stored_bytes, pixel_bytes)
    provenance.tell_derivation(ds, how, left_out)
    provenance.warn_reader(ds, how)

    ds.ImageType = ["DERIVED", "SECONDARY", "", provenance.OWN_IMAGE_TYPE]
    ds.SOPInstanceUID = how.uids.instance
    ds.SeriesInstanceUID = how.uids.series
    ds.SeriesNumber = provenance.series_number(ds.get("SeriesNumber"), how.scale)
    _complete(ds)
    put_pixels(ds, values, source)
    ds.file_meta = file_meta(ds)
    return ds


def copy_header(header: Dataset) -> Dataset:
    """A copy of `header` as Explicit VR Little Endian, without pixels; untouched elements keep their
    bytes."""
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, header[:0x7FE00000])
    length = buffer.tell()
    buffer.seek(0)
    return read_dataset(cast(BinaryIO, buffer), False, True, bytelength=length)


def _right_our_vrs(ds: Dataset) -> None:
    """Give what we write or scale the VR of the dictionary: devices write sizes as IS and spacings as LO.

    What cannot be understood so is dropped.
    """
    for keyword in (*recipe.WRITTEN, *recipe.SPACINGS, *recipe.SHAPES, *recipe.NAMED):
        tag = tag_for_keyword(keyword)
        element = ds.get_item(tag) if tag is not None and tag in ds else None
        if tag is None or element is None:
            continue
        vr = dictionary_VR(tag)
        if element.VR in (None, vr, "UN") or " or " in vr:
            continue
        value = ds[tag].value
        del ds[tag]
        try:
            numbers = value if isinstance(value, (list, MultiValue)) else [value]
            if vr in ("US", "SS"):
                value = [int(number) for number in numbers]
            elif vr != "SQ" and not isinstance(value, bytes):
                value = [str(number) for number in numbers]
            if not isinstance(value, bytes) and vr != "SQ":
                ds.add_new(tag, vr, value)
        except (TypeError, ValueError):
            continue


def _complete(ds: Dataset) -> None:
    """Add what the class demands and the source left out: empty where it is not known."""
    if ds.SOPClassUID == recipe.DX_FOR_PRESENTATION:
        ds.PresentationIntentType = "FOR PRESENTATION"
    elif ds.SOPClassUID == recipe.SECONDARY_CAPTURE and not ds.get("ConversionType"):
        ds.ConversionType = "WSD"
    for keyword in recipe.TYPE_2.get(str(ds.SOPClassUID), ()):
        if keyword not in ds:
            setattr(ds, keyword, Items() if keyword.endswith("Sequence") else "")


def put_pixels(ds: Dataset, values: npt.NDArray[Any], fmt: PixelFormat) -> None:
    """Write `values` into `ds` in the format `fmt`, but for rows and columns, which are those of `values`.

    Smallest and largest value are recomputed where `ds` states them.
    """
    for keyword in ("PixelData", "PixelRepresentation", "Rows", "Columns"):  # whatever VR they had
        if keyword in ds:
            del ds[keyword]
    ds.Rows, ds.Columns = values.shape
    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = fmt.photometric
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = fmt.bits_allocated, fmt.bits_stored, fmt.high_bit
    ds.PixelRepresentation = int(fmt.signed)
    if "NumberOfFrames" in ds:
        del ds.NumberOfFrames
    for keyword, extreme in (("SmallestImagePixelValue", values.min), ("LargestImagePixelValue", values.max)):
        if keyword in ds:
            del ds[keyword]
            ds.add_new(keyword, "SS" if fmt.signed else "US", int(extreme()))
    shift = fmt.high_bit + 1 - fmt.bits_stored
    container = np.left_shift(values, shift) if shift else values
    data = container.astype(fmt.dtype.newbyteorder("<"), copy=False).tobytes()
    ds.add_new("PixelData", "OB" if fmt.bits_allocated == 8 else "OW", data + b"\0" * (len(data) % 2))


def file_meta(ds: Dataset) -> FileMetaDataset:
    """File meta information of an object that we write: our implementation, Explicit VR Little Endian."""
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = ds.SOPClassUID
    meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    meta.TransferSyntaxUID = UID(codecs.EXPLICIT_VR_LITTLE_ENDIAN)
    meta.ImplementationClassUID = UID(identity.IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = identity.IMPLEMENTATION_VERSION_NAME
    return meta


def write_file(ds: Dataset, path: Path) -> None:
    """Write an object of ours as a DICOM file (PS3.10)."""
    ds.save_as(path, enforce_file_format=True)


def _check(values: npt.NDArray[Any], fmt: PixelFormat) -> None:
    if values.ndim != 2 or values.dtype != fmt.dtype:
        raise ValueError(f"expected a matrix of {fmt.dtype}, not {values.dtype} of {values.ndim} dimensions")
    if max(values.shape) > 65535:
        raise ValueError(f"{values.shape} is more than Rows and Columns can say")
    if int(values.min()) < fmt.lowest or int(values.max()) > fmt.highest:
        raise ValueError(f"values outside {fmt.lowest} to {fmt.highest}")


def _drop_what_no_longer_holds(ds: Dataset, by: Enlargement, keep_private: frozenset[str]) -> list[str]:
    """Remove or scale it, and return in words what a reader might miss."""
    left_out: list[str] = []
    lost = overlays.scale_overlays(ds, by)
    if lost:
        left_out.append("overlays")
        geometry.drop_bitmap_shutter(ds, lost)
    curves = [tag for tag in ds.keys() if tag.group in range(0x5000, 0x5020, 2)]  # noqa: SIM118 - raw tags
    if curves:
        left_out.append("curves")
    for tag in curves:
        del ds[tag]
    if any(keyword in ds for keyword in recipe.DOSE):
        left_out.append("dose figures")
    for keyword in (keyword for group in recipe.GONE.values() for keyword in group):
        if keyword in ds:
            del ds[keyword]
    if _drop_private(ds, keep_private):
        left_out.append("private attributes")
    return left_out


def _drop_private(ds: Dataset, keep: frozenset[str]) -> bool:
    """Remove private elements, in sequences too, but for the blocks of creators in `keep`; whether any
    went."""
    dropped = False
    for tag in list(ds.keys()):
        if tag.is_private:
            creator = _creator(ds, tag)
            if creator is None or creator not in keep:
                del ds[tag]
                dropped = True
            continue
        raw = ds.get_item(tag)
        if raw is None or (raw.VR is not None and raw.VR != "SQ"):
            continue
        element = ds[tag]
        if element.VR == "SQ":
            for item in element.value:
                dropped |= _drop_private(item, keep)
    return dropped


def _creator(ds: Dataset, tag: BaseTag) -> str | None:
    if tag.is_private_creator:
        return str(ds[tag].value or "").strip()
    creator = Tag(tag.group, tag.element >> 8)
    return str(ds[creator].value or "").strip() if creator in ds else None
