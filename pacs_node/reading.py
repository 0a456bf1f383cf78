"""Reading what real devices write: tolerant of odd values, strict about nothing that we only carry along.

`clean_header` turns a data set of any encoding into Explicit VR Little Endian bytes without pixels that
can be read, changed and written again without surprises: texts keep their bytes, what cannot be read at
all is dropped.
"""

from __future__ import annotations

import struct
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import config, dcmread
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import correct_ambiguous_vr, write_data_element
from pydicom.tag import BaseTag
from pydicom.valuerep import VR

from pacs_node.codecs import DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
from pacs_node.decode import MAX_PIXELS
from pacs_node.errors import Reason, Refusal, Refused
from pacs_node.outline import Stored, survey, walk

MAX_ELEMENT = 4 << 20
"""Longest value of an element that is carried along, in bytes."""
MAX_ELEMENTS = 20_000
"""Elements within one sequence: each takes far more memory in whoever reads it than in the file."""
MAX_HEADER = 16 << 20
"""Longest header without pixels, in bytes."""
MAX_HEADER_ELEMENTS = 50_000
"""Elements of a header, those within sequences included."""
MAX_VALUES = 65_536
"""Values of one element: each number of a text takes hundreds of bytes once it is read."""
_BYTES_A_PIXEL = 6
"""Three samples of 16 bits."""
_PIXELS = 0x7FE0
_UNDEFINED_LENGTH = 0xFFFFFFFF
_WORDS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_BYTES = {VR.OB, VR.OW, VR.OF, VR.OL, VR.OD, VR.OV}
_TEXT = {VR.LO, VR.SH, VR.PN, VR.ST, VR.LT, VR.UT, VR.UC, VR.CS, VR.AE, VR.UI, VR.DA, VR.TM, VR.DT, VR.AS}


def be_tolerant() -> None:
    """Neither warn nor fail about values of others that break a rule of their VR (process-wide, in
    pydicom)."""
    config.settings.reading_validation_mode = config.IGNORE
    warnings.filterwarnings("ignore", category=UserWarning, module="pydicom")


def read(path: Path, *, max_pixels: int = MAX_PIXELS) -> tuple[Dataset, str, Refusal | None]:
    """The data set of a file with its pixels, its transfer syntax, and why its pixels were left out.

    max_pixels: of an image; more bytes than it can have are not read. Raises :class:`Refused`.
    """
    be_tolerant()
    most = max_pixels * _BYTES_A_PIXEL + 2 * MAX_HEADER
    bare = _looks_like_a_data_set(path)
    outline = survey(path, most_bytes=most) if bare or _is_part10(path) else None
    excess: Refusal | None = None
    if outline is not None and outline.pixel_bytes > most:
        excess = Refusal(Reason.TOO_LARGE, f"The pixels take more than {most >> 20} MiB.")
        if outline.cut:
            excess = Refusal(Reason.TRUNCATED, "The DICOM file ends early, within its pixels.")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ds = dcmread(path, force=bare, stop_before_pixels=excess is not None)
    except InvalidDicomError as error:
        raise Refused(Reason.NOT_AN_IMAGE, "This is neither DICOM nor a picture that we know.") from error
    except MemoryError:
        raise
    except (EOFError, struct.error) as error:
        raise Refused(Reason.TRUNCATED, "The DICOM file ends early.") from error
    except Exception as error:
        raise Refused(Reason.UNREADABLE, "The DICOM file cannot be read.") from error
    if excess is not None:
        ds.add_new("PixelData", "OB", b"")
    elif _ends_early(ds, path) or any("end of file" in str(warning.message).lower() for warning in caught):
        raise Refused(Reason.TRUNCATED, "The DICOM file ends early.")
    syntax = str(getattr(ds, "file_meta", Dataset()).get("TransferSyntaxUID") or "")
    if not syntax:
        implicit, little = ds.original_encoding
        syntax = "1.2.840.10008.1.2" if implicit else f"1.2.840.10008.1.2.{1 if little else 2}"
    if "SOPClassUID" not in ds and "PixelData" not in ds:
        raise Refused(Reason.UNREADABLE, "The file is DICOM but holds no image object.")
    try:
        ds.get("PixelData")
    except MemoryError:
        raise
    except Exception as error:  # a VR that does not exist
        raise Refused(Reason.UNREADABLE, "The pixels of the object cannot be read.") from error
    return ds, syntax, excess


def clean_header(ds: Dataset) -> tuple[bytes, list[str]]:
    """`ds` without pixels in Explicit VR Little Endian, and the keywords (or tags) of what had to be
    dropped."""
    dropped = _drop_excess(ds)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    encodings = convert_encodings(ds.get("SpecificCharacterSet") or "ISO_IR 6")
    as_is = ds.original_encoding == (False, True)
    if not as_is:
        _resolve_ambiguity(ds)
    for tag in sorted(ds.keys()):
        if tag.group == _PIXELS or tag.group <= 2 or (tag.element == 0 and tag.group > 6):
            continue
        try:
            encoded = _encode(ds, tag, encodings, as_is)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - pydicom raises anything for odd values
            encoded = b""
        if not encoded or len(encoded) > MAX_ELEMENT:
            dropped.append(_name(tag))
            continue
        buffer.write(encoded)
    header = buffer.getvalue()
    if len(header) > MAX_HEADER:
        raise Refused(
            Reason.TOO_LARGE, f"The header holds more than {MAX_HEADER >> 20} MiB beside the pixels."
        )
    return header, dropped


def _drop_excess(ds: Dataset) -> list[str]:
    """Take out what would cost much once its value is asked for; the names of it.

    Raises :class:`Refused` for a header of too many elements in all.
    """
    dropped, total = [], 0
    for tag in list(ds.keys()):
        element: Any = ds.get_item(tag)
        if tag.group == _PIXELS or not isinstance(element, RawDataElement):
            continue
        if _is_excess(element):
            del ds[tag]
            dropped.append(_name(tag))
        elif element.VR == VR.SQ or (element.VR in (None, VR.UN) and _is_sequence(tag)):
            total += _count_within(element)
            if total > MAX_HEADER_ELEMENTS:
                raise Refused(Reason.TOO_LARGE, f"The header has more than {MAX_HEADER_ELEMENTS:,} elements.")
    return dropped


def _is_excess(element: RawDataElement) -> bool:
    """Whether an element is too long, has too many values, or is a sequence of too many elements."""
    value = element.value or b""
    if len(value) > MAX_ELEMENT or (
        element.VR not in _BYTES and len(value) > MAX_VALUES and value.count(b"\\") > MAX_VALUES
    ):
        return True
    if element.VR == VR.SQ or (element.VR in (None, VR.UN) and _is_sequence(element.tag)):
        try:
            return _count_within(element) > MAX_ELEMENTS
        except (Refused, struct.error):
            return True
    return False


def _count_within(element: RawDataElement) -> int:
    """Elements of a sequence that has not been read yet. Raises :class:`Refused`, struct.error."""
    source, explicit = Stored(BytesIO(element.value or b"")), not element.is_implicit_VR
    little = element.is_little_endian
    return walk(source, little=little, explicit=explicit, deep=True, max_elements=MAX_ELEMENTS + 1).elements


def _name(tag: BaseTag) -> str:
    return keyword_for_tag(tag) or f"({tag.group:04X},{tag.element:04X})"


def _encode(ds: Dataset, tag: BaseTag, encodings: list[str], as_is: bool) -> bytes:
    element: Any = ds.get_item(tag)
    if isinstance(element, RawDataElement):
        parsed = convert_raw_data_element(element, encoding=encodings, ds=ds)  # fails here, not in the parent
        if isinstance(parsed, DataElement) and _elements(parsed, MAX_ELEMENTS) > MAX_ELEMENTS:
            raise ValueError("too many elements")
        vr = element.VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else None)
        if not as_is or element.VR is None:
            if vr in _TEXT and element.value is not None and len(element.value) < 0xFFFE:
                element = element._replace(VR=vr, is_implicit_VR=False, is_little_endian=True)
            else:
                element = ds[tag]
    if ds.original_encoding == (False, False) and isinstance(element, DataElement):
        element = _with_turned_words(element)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_data_element(buffer, element, encodings)
    return buffer.getvalue()


def _with_turned_words(element: DataElement) -> DataElement:
    """An element of a big endian data set with the bytes of its words turned round, as no library does.

    Without that, LUTs and overlays would become noise.
    """
    size = _WORDS.get(str(element.VR))
    if size is not None and isinstance(element.value, bytes):
        words = np.frombuffer(element.value, f"u{size}", count=len(element.value) // size)
        return DataElement(element.tag, element.VR, words.byteswap().tobytes())
    if element.VR == VR.SQ:
        items = []
        for item in element.value:
            turned = Dataset()
            turned.update({inner.tag: _with_turned_words(inner) for inner in item})
            items.append(turned)
        return DataElement(element.tag, VR.SQ, items)
    return element


def _elements(element: DataElement, limit: int) -> int:
    """Number of elements within a sequence, nested ones too; counted no further than `limit`."""
    if element.VR != VR.SQ:
        return 1
    count = 0
    for item in element.value:
        count += 1
        for tag in item.keys():  # noqa: SIM118 - raw elements
            inner: Any = item.get_item(tag)
            if isinstance(inner, RawDataElement) and _is_excess(inner):
                return limit + 1
            count += _elements(item[tag], limit - count)
            if count > limit:
                return count
        if count > limit:
            return count
    return count


def _resolve_ambiguity(ds: Dataset) -> None:
    try:
        correct_ambiguous_vr(ds, True)
    except Exception:  # noqa: BLE001, S110 - what stays ambiguous is dropped element by element
        pass


def _ends_early(ds: Dataset, path: Path) -> bool:
    """Whether the file was cut before its pixels, within an element or its head: pydicom reads that in
    silence."""
    last = max(ds.keys(), default=None)
    element: Any = ds.get_item(last) if last is not None and last.group != _PIXELS else None
    if not isinstance(element, RawDataElement) or element.length == _UNDEFINED_LENGTH:
        return False
    end = element.value_tell + element.length
    deflated = str(ds.file_meta.get("TransferSyntaxUID") or "") == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
    return len(element.value or b"") < element.length or (not deflated and end < path.stat().st_size)


def _is_sequence(tag: BaseTag) -> bool:
    return dictionary_has_tag(tag) and dictionary_VR(tag) == VR.SQ


def _is_part10(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _looks_like_a_data_set(path: Path) -> bool:
    """Whether a file without preamble begins like a data set: group 0002 or 0008, an even element."""
    with path.open("rb") as stream:
        start = stream.read(8)
    if len(start) < 8:
        return False
    group, element = struct.unpack("<HH", start[:4])
    if group not in (0x0002, 0x0008) or element > 0x0020:
        return False
    return start[4:6].isalpha() or struct.unpack("<I", start[4:8])[0] < 256
