"""Between stored values and the network: one invertible affine map for the whole image, undone exactly.

The network sees high values as bright and [0, 1] as the range of this image's own pixels. Padding, and
what lies under a shutter outside that range, does not count towards it and does not pass through the
network: it is put back as it was, each source pixel enlarged to a block. Nothing else is ever clipped on
the way in.

Why it is exact: stored values have at most 16 bits, so (v - lowest) / span in float32 is off by less than
span * 2**-24, a 256th of a stored unit; back in float64, rounding to the nearest integer restores it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from pacs_node import lookup
from pacs_node.decode import PixelFormat, StoredImage

_BLOCK = 1 << 22
"""Pixels converted at a time, so that no float64 copy of a whole image is made."""


@dataclass(frozen=True, slots=True)
class GreyMap:
    """x = (v - lowest) / span, or (highest - v) / span where high stored values are dark."""

    lowest: int
    highest: int
    inverted: bool

    @property
    def span(self) -> int:
        """Stored units from 0 to 1; never zero."""
        return max(1, self.highest - self.lowest)


@dataclass(frozen=True, slots=True)
class NetworkInput:
    """lr: Float32[H, W] in [0, 1], bright is high; kept_out: Bool[H, W] of pixels that bypass the network,
    or None."""

    lr: npt.NDArray[np.float32]
    grey_map: GreyMap
    kept_out: npt.NDArray[np.bool_] | None


def high_is_dark(ds: Dataset) -> bool:
    """Whether high stored values are shown dark.

    MONOCHROME1 says so; so does PresentationLUTShape INVERSE, which DX writes beside MONOCHROME1 (one
    inversion, not two). A falling rescale slope or Modality LUT turns it round, and so does a falling VOI LUT
    that has no window beside it. Grey that is written in colour is bright where it is high.
    """
    return is_grey(ds) and shows_inverted(ds) != (lookup.modality_falls(ds) != lookup.voi_falls(ds))


def is_grey(ds: Dataset) -> bool:
    """Whether `ds` says that its pixels are grey; one that says nothing is taken at our word for it."""
    photometric = str(ds.get("PhotometricInterpretation") or "").strip().upper()
    return photometric.startswith("MONOCHROME") or not photometric


def shows_inverted(ds: Dataset) -> bool:
    """Whether the lowest of the values to be shown is white."""
    return (
        str(ds.get("PhotometricInterpretation") or "").strip().upper() == "MONOCHROME1"
        or str(ds.get("PresentationLUTShape") or "").strip().upper() == "INVERSE"
    )


def to_network(
    image: StoredImage, *, inverted: bool, shuttered: npt.NDArray[np.bool_] | None = None
) -> NetworkInput:
    """Stored values as the network's input.

    inverted: whether high stored values are dark (:func:`high_is_dark`); shuttered: Bool[H, W], true where
    a shutter hides the pixel, or None.
    """
    values = image.values
    hidden = _padding_mask(values, image.padding)
    if shuttered is not None:
        hidden = shuttered if hidden is None else hidden | shuttered
    shown = values if hidden is None else values[~hidden]
    if shown.size == 0:  # everything is hidden: its own values are all there is to take a range from
        shown = values
    grey_map = GreyMap(int(shown.min()), int(shown.max()), inverted)
    kept_out: npt.NDArray[np.bool_] | None = None
    if hidden is not None:
        # What is hidden but lies in range may pass, except padding, which must come back as it is.
        kept_out = hidden & ((values < grey_map.lowest) | (values > grey_map.highest))
        padding = _padding_mask(values, image.padding)
        if padding is not None:
            kept_out |= padding
        if not kept_out.any():
            kept_out = None
    lr = np.empty(values.shape, np.float32)
    for rows in row_blocks(values.shape):
        part = np.clip(values[rows].astype(np.float64), grey_map.lowest, grey_map.highest)
        part = grey_map.highest - part if inverted else part - grey_map.lowest
        lr[rows] = part / grey_map.span
    return NetworkInput(lr, grey_map, kept_out)


def from_network(sr: npt.NDArray[np.float32], source: StoredImage, given: NetworkInput) -> npt.NDArray[Any]:
    """The network's output as stored values in the source's format.

    sr: Float32[H*s, W*s]. Rounded to the nearest integer and clamped to what BitsStored holds; pixels that
    bypassed the network are put back, enlarged; no other pixel takes a value that means padding.
    """
    fmt, grey_map = source.format, given.grey_map
    scale_rows, scale_columns = sr.shape[0] // fmt.rows, sr.shape[1] // fmt.columns
    if (
        (fmt.rows * scale_rows, fmt.columns * scale_columns) != sr.shape
        or scale_rows < 1
        or scale_columns < 1
    ):
        raise ValueError(f"{sr.shape} is no whole multiple of {fmt.rows} x {fmt.columns}")
    out = np.empty(sr.shape, fmt.dtype)
    for rows in row_blocks(sr.shape):
        part = sr[rows].astype(np.float64) * grey_map.span
        part = grey_map.highest - part if grey_map.inverted else part + grey_map.lowest
        np.rint(part, out=part)
        np.clip(part, fmt.lowest, fmt.highest, out=part)
        out[rows] = part.astype(fmt.dtype)
    if source.padding is not None:
        _avoid(out, source.padding, grey_map, fmt)
    if given.kept_out is not None:
        mask = np.repeat(np.repeat(given.kept_out, scale_rows, 0), scale_columns, 1)
        kept = np.repeat(np.repeat(source.values, scale_rows, 0), scale_columns, 1)
        np.copyto(out, kept, where=mask)
    return out


def _avoid(out: npt.NDArray[Any], padding: tuple[int, int], grey_map: GreyMap, fmt: PixelFormat) -> None:
    """Move pixels that would read as padding to the nearest value beside it, on the side of the image's
    own range."""
    first, last = padding
    clash = (out >= first) & (out <= last)
    if not clash.any():
        return
    below, above = first - 1, last + 1
    if grey_map.lowest > last:
        below = above
    elif grey_map.highest < first:
        above = below
    if below < fmt.lowest:
        below = above
    if above > fmt.highest:
        above = below
    if not fmt.lowest <= below <= fmt.highest:  # every value means padding: nothing can be avoided
        return
    middle = (first + last) / 2
    out[clash] = np.where(out[clash] <= middle, below, above).astype(fmt.dtype)


def _padding_mask(values: npt.NDArray[Any], padding: tuple[int, int] | None) -> npt.NDArray[np.bool_] | None:
    if padding is None:
        return None
    mask: npt.NDArray[np.bool_] = (values >= padding[0]) & (values <= padding[1])
    return mask if mask.any() else None


def row_blocks(shape: tuple[int, ...]) -> list[slice]:
    """Slices of rows that cover an image of that shape, each of a few million pixels."""
    step = max(1, _BLOCK // max(1, shape[1]))
    return [slice(start, start + step) for start in range(0, shape[0], step)]
