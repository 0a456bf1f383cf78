"""How stored values become shades: Modality LUT or rescale, then window or VOI LUT (PS3.3 C.11.1 and C.11.2).

Used to see which way contrast goes and to make previews; a derived object keeps these attributes as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

_MODALITY, _VOI = "ModalityLUTSequence", "VOILUTSequence"


@dataclass(frozen=True, slots=True)
class Table:
    """A look-up table: `entries` (UInt16[N]) for the values from `first` on, each of `bits` bits."""

    entries: npt.NDArray[np.uint16]
    first: int
    bits: int

    @property
    def falls(self) -> bool:
        """Whether high values come out lower than low ones."""
        return int(self.entries[-1]) < int(self.entries[0])

    def of(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Float64[...] through the table; what lies outside takes the entry at its end."""
        index = np.clip(np.rint(values) - self.first, 0, self.entries.size - 1).astype(np.int64)
        return self.entries[index].astype(np.float64)


def modality_falls(ds: Dataset) -> bool:
    """Whether the modality's values fall where stored values rise."""
    table = _table(ds, _MODALITY)
    return table.falls if table is not None else (first_number(ds, "RescaleSlope") or 1.0) < 0


def voi_falls(ds: Dataset) -> bool:
    """Whether what is shown falls where the modality's values rise: a falling VOI LUT without a window."""
    table = _table(ds, _VOI)
    return table is not None and table.falls and _window(ds) is None


def modality_values(ds: Dataset, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Stored values as the modality's: through the Modality LUT, else rescaled, else as they are."""
    table = _table(ds, _MODALITY)
    if table is not None:
        return table.of(values.astype(np.float64))
    slope, intercept = first_number(ds, "RescaleSlope") or 1.0, first_number(ds, "RescaleIntercept") or 0.0
    return values.astype(np.float64) * slope + intercept


def shades(ds: Dataset, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """The modality's values as shades from 0 to 1, by the first window, else the first VOI LUT; None without
    either."""
    window = _window(ds)
    if window is not None:
        centre, width = window
        function = str(ds.get("VOILUTFunction") or "").strip().upper()
        if function == "SIGMOID":
            return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
        if function == "LINEAR_EXACT":
            return np.clip((values - centre) / width + 0.5, 0, 1)
        return np.clip((values - (centre - 0.5)) / max(width - 1, 1e-6) + 0.5, 0, 1)
    table = _table(ds, _VOI)
    return None if table is None else table.of(values) / ((1 << table.bits) - 1)


def first_number(ds: Dataset, keyword: str) -> float | None:
    """The first value of an attribute as a finite number, or None."""
    try:
        value = ds.get(keyword)
        if value is None or value == "":
            return None
        if isinstance(value, (MultiValue, list, tuple)):
            value = value[0]
        number = float(value)
    except (TypeError, ValueError, IndexError):
        return None
    return number if np.isfinite(number) else None


def _window(ds: Dataset) -> tuple[float, float] | None:
    centre, width = first_number(ds, "WindowCenter"), first_number(ds, "WindowWidth")
    if centre is None or width is None or width <= 0:
        return None
    linear = str(ds.get("VOILUTFunction") or "LINEAR").strip().upper() in ("LINEAR", "")
    return None if linear and width < 1 else (centre, width)


def _table(ds: Dataset, keyword: str) -> Table | None:
    """The first table of a sequence; None where there is none, or none that can be read."""
    try:
        items = ds.get(keyword) or []
        if not len(items):
            return None
        item = items[0]
        count, first, bits = (int(value) for value in item.LUTDescriptor)
        count = (count & 0xFFFF) or 1 << 16
        if int(ds.get("PixelRepresentation") or 0) and first >= 1 << 15:
            first -= 1 << 16  # written as US where SS was meant
        data = item.LUTData
        if isinstance(data, bytes):
            wide = len(data) >= 2 * count
            entries = np.frombuffer(data, "<u2" if wide else "u1", count=count).astype("u2")
        else:
            numbers = [data] if isinstance(data, int) else list(data)
            entries = (np.asarray(numbers[:count], np.int64) & 0xFFFF).astype("u2")
    except (TypeError, ValueError, AttributeError, OverflowError):
        return None
    if entries.size < 2 or not 1 <= bits <= 16:
        return None
    return Table(entries, first, max(bits, int(entries.max()).bit_length()))
