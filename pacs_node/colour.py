"""Grey radiographs that a device wrote in colour: RGB, YBR or PALETTE COLOR whose pixels hold grey alone.

Scanners of films and screen grabbers do so. What is grey is worked with as one channel, MONOCHROME2; what is
coloured is refused with the reason.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from pacs_node.errors import Reason, Refused

LUMINANCE_FIRST = ("YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
THREE_SAMPLES = ("RGB", *LUMINANCE_FIRST)
PALETTE = "PALETTE COLOR"
GREY_TOLERANCE = 6
"""How far the channels of a grey picture may lie apart, of 255: lossy compression rounds each of them."""
COLOURED_SHARE = 1 / 1000
"""Share of pixels that may be further apart."""
_BLOCK = 1 << 20
_PALETTE_OW = [
    f"{segmented}{colour}PaletteColorLookupTableData"
    for segmented in ("", "Segmented")
    for colour in ("Red", "Green", "Blue")
]

MEANINGLESS_IN_GREY = (
    "PlanarConfiguration", "PaletteColorLookupTableUID", "ICCProfile", "ColorSpace", "PixelPresentation",
    *(f"{colour}PaletteColorLookupTable{part}" for colour in ("Red", "Green", "Blue", "Alpha")
      for part in ("Descriptor", "Data")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue", "Alpha")),
    # a colour image has no grey pipeline: what stands there applied to nothing and would now apply
    "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction", "VOILUTSequence",
    "RescaleIntercept", "RescaleSlope", "RescaleType", "ModalityLUTSequence", "PresentationLUTShape",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "SmallestImagePixelValue", "LargestImagePixelValue",
)  # fmt: skip
"""Attributes of a colour image that its one grey channel does not have."""


def grey_channel(
    samples: npt.NDArray[Any], bits: int, *, luminance_first: bool = False
) -> npt.NDArray[Any] | None:
    """The one grey channel of `samples`: UInt[H, W, 3] of `bits` each -> UInt[H, W]; None where they are
    coloured.

    luminance_first: the channels are luminance and two chrominances (PS3.3 C.7.6.3.1.2). Devices label the
    one as the other now and then, so both readings are tried, the stated one first. Channels that are equal
    come out exactly, those that differ by rounding as their luminance (ITU-R BT.601).
    """
    for reading in (_luminance, _equal) if luminance_first else (_equal, _luminance):
        grey = reading(samples, bits)
        if grey is not None:
            return grey
    return None


def coloured() -> Refused:
    """The refusal of an image in colour."""
    return Refused(Reason.COLOUR, "The image is in colour; only greyscale images are enhanced.")


def palette_levels(ds: Dataset, bits: int, *, big_endian: bool = False) -> tuple[npt.NDArray[Any], int]:
    """The grey level of every index that `bits` can hold, and the bits of a level (8 or 16).

    Levels: Int32[2**bits], -1 where the palette's entry is coloured. Raises :class:`Refused` for a palette
    that cannot be read. Sixteen bits that only repeat eight become eight.
    """
    try:
        _check_segments(ds)
        indices = np.arange(1 << bits, dtype="u2").reshape(1, -1)
        table = apply_color_lut(indices, _with_little_endian_palette(ds) if big_endian else ds)[0]
        depth = int(ds.RedPaletteColorLookupTableDescriptor[2])
    except Exception as error:
        raise Refused(Reason.MISSING_ATTRIBUTE, "The colour palette cannot be read.") from error
    table = table.astype(np.int32)
    if depth <= 8 and table.max() > 255:  # eight bits in the upper half of a word
        table >>= 8
    if depth > 8 and (np.all(table & 0xFF == 0) or np.all(table >> 8 == table & 0xFF)):
        table, depth = table >> 8, 8
    depth = 8 if depth <= 8 else 16
    tolerance = GREY_TOLERANCE << (depth - 8)
    grey = np.where(np.ptp(table, axis=1) == 0, table[:, 0], _luma(table))
    return np.where(np.ptp(table, axis=1) > tolerance, -1, grey).astype(np.int32), depth


def _check_segments(ds: Dataset) -> None:
    """Raise ValueError for segments that would become more than a palette can hold (PS3.3 C.7.9.2)."""
    for keyword in _PALETTE_OW[3:]:
        words = np.frombuffer(ds.get(keyword) or b"", "<u2")
        at = total = 0
        while at + 1 < words.size:
            kind, length = int(words[at]), int(words[at + 1])
            if kind > 1:  # segments that are taken from elsewhere: how often, nobody can tell beforehand
                raise ValueError("indirect segments")
            total += length
            at += 2 + (length if kind == 0 else 1)
            if total > 1 << 16:
                raise ValueError("segments of more entries than a palette has")


def through_palette(
    indices: npt.NDArray[Any], levels: npt.NDArray[Any], depth: int
) -> npt.NDArray[Any] | None:
    """UInt[H, W] of indices as grey levels of `depth` bits, or None where too many are coloured."""
    used = np.bincount(indices.ravel(), minlength=levels.size)[: levels.size]
    if used[levels < 0].sum() > indices.size * COLOURED_SHARE:
        return None
    grey: npt.NDArray[Any] = np.maximum(levels, 0).astype(f"u{depth // 8}")[indices]
    return grey


def drop_colour(ds: Dataset, bits: int) -> None:
    """Turn the header of a colour image into one of its grey channel: MONOCHROME2, shown over all `bits`."""
    for keyword in MEANINGLESS_IN_GREY:
        if keyword in ds:
            del ds[keyword]
    ds.WindowCenter, ds.WindowWidth = str(1 << (bits - 1)), str(1 << bits)  # black to white, as in colour


def _equal(samples: npt.NDArray[Any], bits: int) -> npt.NDArray[Any] | None:
    tolerance, apart, exact = GREY_TOLERANCE << (bits - 8), 0, True
    blocks = _blocks(samples)
    for rows in blocks:
        spread = np.ptp(samples[rows].astype(np.int32), axis=2)
        exact = exact and not spread.any()
        apart += int(np.count_nonzero(spread > tolerance))
        if apart > samples.shape[0] * samples.shape[1] * COLOURED_SHARE:
            return None
    if exact:
        return np.ascontiguousarray(samples[..., 0])
    grey = np.empty(samples.shape[:2], samples.dtype)
    for rows in blocks:
        grey[rows] = _luma(samples[rows].astype(np.int32))
    return grey


def _luminance(samples: npt.NDArray[Any], bits: int) -> npt.NDArray[Any] | None:
    tolerance, apart, middle = GREY_TOLERANCE << (bits - 8), 0, 1 << (bits - 1)
    for rows in _blocks(samples):
        off = np.abs(samples[rows][..., 1:].astype(np.int32) - middle).max(axis=2)
        apart += int(np.count_nonzero(off > tolerance))
    if apart > samples.shape[0] * samples.shape[1] * COLOURED_SHARE:
        return None
    return np.ascontiguousarray(samples[..., 0])


def _luma(rgb: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return (299 * rgb[..., 0] + 587 * rgb[..., 1] + 114 * rgb[..., 2] + 500) // 1000


def _blocks(samples: npt.NDArray[Any]) -> list[slice]:
    step = max(1, _BLOCK // max(1, samples.shape[1]))
    return [slice(start, start + step) for start in range(0, samples.shape[0], step)]


def _with_little_endian_palette(ds: Dataset) -> Dataset:
    """The palette of a big endian data set, whose words no library turns round."""
    turned = Dataset()
    for keyword in (*_PALETTE_OW, "RedPaletteColorLookupTableDescriptor"):
        if keyword in ds:
            turned[keyword] = ds[keyword]
    for keyword in _PALETTE_OW:
        if keyword in ds:
            data = np.frombuffer(ds[keyword].value, "u2").byteswap().tobytes()
            turned.add_new(keyword, "OW", data)
    turned.set_original_encoding(False, True)
    return turned
