"""From native stored values to an 8-bit picture: the grey scale pipeline of PS3.4, N.2, as one table.

A table of every value that a pixel's container can hold is sent through Modality LUT, VOI LUT or window and
presentation; then each pixel is looked up in it, some rows at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels import apply_modality_lut, apply_voi

Grey = npt.NDArray[np.uint8]
Blocks = Callable[[], Iterator[bytes]]
"""The bytes of the pixels in little endian, in pieces of any size; asked for once or twice."""

FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG", "image/gif": "GIF"}
FUNCTIONS = ("linear", "linear-exact", "sigmoid")
_BLOCK_BYTES = 4 << 20


class OutsideImage(Exception):
    """The region that is asked for lies outside of the image."""


@dataclass(frozen=True)
class Window:
    """Centre and width in units of the Modality LUT's output, and the function (PS3.3, C.11.2.1.2 and 3)."""

    centre: float
    width: float
    function: str = "linear"


@dataclass(frozen=True)
class Viewport:
    """Largest size of the picture, and the region of the source image (of the whole, where sizes are zero).

    A negative size of the region mirrors it.
    """

    width: int
    height: int
    left: float = 0
    top: float = 0
    region_width: float = 0
    region_height: float = 0


@dataclass(frozen=True)
class Pixels:
    """How the pixels lie: columns and rows, bits, sign (Image Pixel module), and what makes them grey."""

    ds: Dataset
    rows: int
    columns: int
    allocated: int
    stored: int
    high: int
    signed: bool

    @classmethod
    def of(cls, ds: Dataset) -> Pixels:
        """Of a data set whose pixels are accepted. Raises ValueError for what is not grey of 8 or 16 bits."""
        allocated = int(ds.BitsAllocated)
        stored = int(ds.get("BitsStored") or allocated)
        high = int(ds.get("HighBit") or stored - 1)
        if allocated not in (8, 16) or not 1 <= stored <= high + 1 <= allocated:
            raise ValueError("pixels of another depth")
        if int(ds.get("SamplesPerPixel") or 1) != 1:
            raise ValueError("pixels in colour")
        signed = bool(int(ds.get("PixelRepresentation") or 0))
        return cls(ds, int(ds.Rows), int(ds.Columns), allocated, stored, high, signed)

    def values(self) -> npt.NDArray[np.int32]:
        """Int32[2**allocated]: the stored value in each state of the container."""
        values = np.arange(1 << self.allocated, dtype=np.int32) >> (self.high + 1 - self.stored)
        values &= (1 << self.stored) - 1
        if self.signed:
            values[values >= 1 << (self.stored - 1)] -= 1 << self.stored
        return values


def render(pixels: Pixels, blocks: Blocks, window: Window | None = None) -> Grey:
    """UInt8[rows, columns]: the image through a window, its own where none is given."""
    shades = _shades(pixels, blocks, window)
    shown = np.empty(pixels.rows * pixels.columns, np.uint8)
    at = 0
    for block in containers(pixels, blocks):
        shown[at : at + block.size] = shades[block]
        at += block.size
    shown[at:] = 0
    return shown.reshape(pixels.rows, pixels.columns)


def fit(picture: Image.Image, viewport: Viewport | None, size: tuple[int, int]) -> Image.Image:
    """The region of a picture scaled into the viewport, its proportions kept.

    size: columns and rows that the region counts in; the picture may be a smaller copy. Raises
    :class:`OutsideImage`.
    """
    if viewport is None:
        return picture
    across, down = picture.width / size[0], picture.height / size[1]
    width = viewport.region_width or size[0] - viewport.left
    height = viewport.region_height or size[1] - viewport.top
    box = (
        round(viewport.left * across),
        round(viewport.top * down),
        round(min(size[0], viewport.left + abs(width)) * across),
        round(min(size[1], viewport.top + abs(height)) * down),
    )
    if box[2] <= box[0] or box[3] <= box[1]:
        raise OutsideImage
    if box != (0, 0, *picture.size):
        picture = picture.crop(box)
    if width < 0:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if height < 0:
        picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    scale = min(viewport.width / picture.width, viewport.height / picture.height)
    wanted = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    if wanted == picture.size:
        return picture
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    return picture.resize(wanted, how)


def encode(picture: Image.Image, media: str, quality: int = 90) -> bytes:
    """The picture as a file. quality: 1 to 100, of a JPEG."""
    buffer = BytesIO()
    options: dict[str, dict[str, Any]] = {
        "image/jpeg": {"quality": quality},
        "image/png": {"compress_level": 1},
    }
    picture.save(buffer, FORMATS[media], **options.get(media, {}))
    return buffer.getvalue()


def containers(pixels: Pixels, blocks: Blocks) -> Iterator[npt.NDArray[Any]]:
    """UInt[n] containers of pixels, pieces of the image, all of it and nothing after it."""
    width = pixels.allocated // 8
    left = pixels.rows * pixels.columns * width
    rest = b""
    for data in blocks():
        data = (rest + data)[:left]
        whole = len(data) - len(data) % width
        rest = data[whole:]
        left -= whole
        yield np.frombuffer(data[:whole], f"<u{width}")


def _shades(pixels: Pixels, blocks: Blocks, window: Window | None) -> Grey:
    """UInt8[2**allocated]: the shade of each state of the container; padding is black."""
    stored = pixels.values()
    values = _modality(stored, pixels.ds)
    hidden = _padding(stored, pixels)
    window = window or own_window(pixels.ds)
    table = None
    if window is not None:
        table = through(values, window)
    elif pixels.ds.get("VOILUTSequence"):
        table = _voi(values, pixels.ds)
    if table is None:
        low, high = _range(pixels, blocks, values, hidden)
        table = np.clip((values - low) / max(high - low, 1e-9), 0, 1)
    if inverted(pixels.ds):
        table = 1 - table
    shades: Grey = np.rint(table * 255).astype(np.uint8)
    if hidden is not None:
        shades[hidden] = 0
    return shades


def through(values: npt.NDArray[Any], window: Window) -> npt.NDArray[np.float64]:
    """Float64 in [0, 1]: values through a window (PS3.3, C.11.2.1.2.1 and C.11.2.1.3)."""
    found: npt.NDArray[np.float64]
    x = values.astype(np.float64) - window.centre
    if window.function == "sigmoid":
        found = 1 / (1 + np.exp(np.clip(-4 * x / window.width, -700, 700)))
    elif window.function == "linear-exact":
        found = x / window.width + 0.5
    else:
        found = (x + 0.5) / max(window.width - 1, 1e-9) + 0.5
    return np.clip(found, 0, 1)


def own_window(ds: Dataset) -> Window | None:
    """The first window of a header; None where it has none that can be used."""
    try:
        window = Window(_first(ds.WindowCenter), _first(ds.WindowWidth))
    except (AttributeError, TypeError, ValueError, IndexError):
        return None
    function = str(ds.get("VOILUTFunction") or "LINEAR").strip().lower().replace("_", "-")
    least = 1 if function == "linear" else 1e-9
    if not np.isfinite(window.centre + window.width) or window.width < least:
        return None
    return Window(window.centre, window.width, function if function in FUNCTIONS else "linear")


def _first(value: Any) -> float:
    return float(value[0] if isinstance(value, (MultiValue, list)) else value)


def _modality(stored: npt.NDArray[np.int32], ds: Dataset) -> npt.NDArray[Any]:
    try:
        found: npt.NDArray[Any] = apply_modality_lut(stored, ds)
    except Exception:  # noqa: BLE001 - pydicom raises anything for odd tables; then there is none
        return stored
    return found


def _voi(values: npt.NDArray[Any], ds: Dataset) -> npt.NDArray[np.float64] | None:
    try:
        found = apply_voi(np.rint(values).astype(np.int32), ds).astype(np.float64)
    except Exception:  # noqa: BLE001 - pydicom raises anything for odd tables; then there is none
        return None
    low, high = float(found.min()), float(found.max())
    return (found - low) / max(high - low, 1e-9)


def _padding(stored: npt.NDArray[np.int32], pixels: Pixels) -> npt.NDArray[np.bool_] | None:
    """Bool[2**allocated]: which states of the container mean that there is no pixel (PS3.3, C.7.5.1.1.2)."""
    ds, half = pixels.ds, 1 << (pixels.allocated - 1)
    try:
        ends = [int(ds.PixelPaddingValue), int(ds.get("PixelPaddingRangeLimit", ds.PixelPaddingValue))]
    except (AttributeError, TypeError, ValueError):
        return None
    if pixels.signed:  # written as unsigned by some
        ends = [end - 2 * half if end >= half else end for end in ends]
    return (stored >= min(ends)) & (stored <= max(ends))


def _range(
    pixels: Pixels, blocks: Blocks, values: npt.NDArray[Any], hidden: npt.NDArray[np.bool_] | None
) -> tuple[float, float]:
    """What lies between the darkest and the brightest thousandth of the image."""
    counts = np.zeros(1 << pixels.allocated, np.int64)
    for block in containers(pixels, blocks):
        counts += np.bincount(block, minlength=counts.size)
    if hidden is not None and counts[~hidden].any():
        counts[hidden] = 0
    order = np.argsort(values, kind="stable")
    share = np.cumsum(counts[order]) / max(1, counts.sum())
    places = np.minimum(np.searchsorted(share, (0.001, 0.999)), order.size - 1)
    low, high = values[order[places]]
    return float(low), float(max(high, low + 1))


def inverted(ds: Dataset) -> bool:
    """MONOCHROME1 says so, and so does PresentationLUTShape INVERSE, which may stand beside it."""
    return (
        str(ds.get("PhotometricInterpretation") or "").strip().upper() == "MONOCHROME1"
        or str(ds.get("PresentationLUTShape") or "").strip().upper() == "INVERSE"
    )
