"""The DICOM JSON model of a data set (PS3.18, F), with long binary values told by their URI."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr_element
from pydicom.tag import BaseTag
from pydicom.valuerep import AMBIGUOUS_VR, BYTES_VR, STANDARD_VR

from webui.dicomweb.header import BULK_BYTES, PIXEL_DATA, Header

Model = dict[str, Any]
Uri = Callable[[str], str]
"""From the path of a value (`60003000`, or `00880200/0/7FE00010` within a sequence) to its URI."""

_WORDS = {"OW": "<u2", "OL": "<u4", "OF": "<u4", "OD": "<u8", "OV": "<u8"}
_NUMBERS = {"DS", "IS"}
_VRS = {str(vr) for vr in STANDARD_VR}


def of_header(header: Header, uri: Uri) -> Model:
    """Every attribute of a stored object; texts are in UTF-8, whatever they were stored in."""
    found = dict(_attributes(header.ds, uri, "", _is_little(header.ds)))
    for tag, bulk in header.bulk.items():
        found[f"{tag:08X}"] = {"vr": bulk.vr, "BulkDataURI": uri(f"{tag:08X}")}
    if header.pixels is not None or header.fragments:
        vr = "OB" if header.pixels is None else header.pixels.vr
        found[f"{int(PIXEL_DATA):08X}"] = {"vr": vr, "BulkDataURI": uri(f"{int(PIXEL_DATA):08X}")}
    found["00083002"] = {"vr": "UI", "Value": [header.syntax]}
    if "00080005" in found:
        found["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
    return dict(sorted(found.items()))


def attribute(ds: Dataset, tag: int) -> Model | None:
    """One attribute of a data set; None where it is not there. Binary values are left out."""
    if BaseTag(tag) not in ds:
        return None
    found = dict(_one(ds, BaseTag(tag), lambda _path: "", "", _is_little(ds)))
    model: Model | None = found.get(f"{tag:08X}")
    return None if model is None or {"InlineBinary", "BulkDataURI"} & set(model) else model


def binary(ds: Dataset, path: str) -> tuple[str, bytes] | None:
    """VR and little endian bytes of a binary value within a data set, by its path; None where it is not."""
    steps = path.split("/")
    try:
        for at in range(0, len(steps) - 1, 2):
            ds = ds[BaseTag(int(steps[at], 16))].value[int(steps[at + 1])]
        element = ds[BaseTag(int(steps[-1], 16))]
    except Exception:  # noqa: BLE001 - pydicom raises anything for odd values; what is not found is not there
        return None
    if element.VR not in BYTES_VR or not isinstance(element.value, bytes):
        return None
    return str(element.VR), _little(element, _is_little(ds))


def _attributes(ds: Dataset, uri: Uri, path: str, little: bool) -> Iterator[tuple[str, Model]]:
    for tag in sorted(ds.keys()):
        yield from _one(ds, tag, uri, path, little)


def _one(ds: Dataset, tag: BaseTag, uri: Uri, path: str, little: bool) -> Iterator[tuple[str, Model]]:
    raw: Any = None
    name = f"{tag:08X}"
    try:
        raw = ds.get_item(tag)
        element = ds[tag]
        if element.VR in AMBIGUOUS_VR:
            element = cast(DataElement, correct_ambiguous_vr_element(element, ds, little))
        yield name, _model(element, uri, f"{path}{name}", little)
    except Exception:  # noqa: BLE001 - pydicom raises anything for odd values
        if isinstance(raw, RawDataElement) and raw.VR is not None and raw.VR in _VRS - {"SQ"}:
            yield name, _as_text(raw)


def _model(element: DataElement, uri: Uri, path: str, little: bool) -> Model:
    vr = str(element.VR)
    if vr == "SQ":
        items = [
            dict(_attributes(item, uri, f"{path}/{number}/", little))
            for number, item in enumerate(element.value)
        ]
        return {"vr": vr, "Value": items} if items else {"vr": vr}
    if vr in BYTES_VR:
        if not element.value:
            return {"vr": vr}
        if len(element.value) > BULK_BYTES:
            return {"vr": vr, "BulkDataURI": uri(path)}
        return {"vr": vr, "InlineBinary": base64.b64encode(_little(element, little)).decode()}
    if element.is_empty:
        return {"vr": vr}
    values = list(element.value) if element.VM > 1 else [element.value]
    return {"vr": vr, "Value": [_value(vr, value) for value in values]}


def _value(vr: str, value: Any) -> Any:
    if vr == "PN":
        groups = zip(("Alphabetic", "Ideographic", "Phonetic"), value.components, strict=False)
        return {name: text for name, text in groups if text}
    if value is None or value == "":
        return None
    if vr == "AT":
        return f"{int(value):08X}"
    if vr == "IS":
        return int(value)
    if vr in {"DS", "FL", "FD"}:
        number = float(value)
        return number if math.isfinite(number) else None
    return value if isinstance(value, (int, float)) else str(value)


def _as_text(raw: RawDataElement) -> Model:
    """A value that breaks the rules of its VR, as it was written: better than leaving it out."""
    text = (raw.value or b"").decode("ascii", "replace").strip("\0 ")
    values = [part.strip() or None for part in text.split("\\")]
    return {"vr": raw.VR, "Value": values} if text else {"vr": raw.VR}


def _little(element: DataElement, little: bool) -> bytes:
    value = bytes(element.value)
    width = _WORDS.get(str(element.VR))
    if little or width is None or len(value) % int(width[-1]):
        return value
    return np.frombuffer(value, width).byteswap().tobytes()


def _is_little(ds: Dataset) -> bool:
    return ds.original_encoding[1] is not False
