"""Labels in the image: a copy of a result that says visibly that it was enhanced, in an overlay or burned in.

The copy is an object of its own. Everything else in it is the result's; its label lies in the corner of the
image that shows least, off what a shutter hides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.pixels import pack_bits

from pacs_node import decode, geometry, stored
from pacs_node.decode import StoredImage
from pacs_node.derive import file_meta, put_pixels
from pacs_node.uids import ResultUids

OVERLAY, BURNED = "overlay", "burned"
_OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
_SERIES_AFTER = {OVERLAY: 10, BURNED: 20}
_SMALLEST_FONT = 9
_HEIGHT = 1 / 55
"""Height of a line, as part of the image's long side."""
_WIDTH = 0.42
"""Widest label, as part of the image's width, unless letters would become too small."""


def label_lines(scale: int, model: str, version: str) -> tuple[str, ...]:
    """What a label says, in ASCII."""
    made = f"{model} {version}".encode("ascii", "replace").decode().strip()
    return (f"AI-ENHANCED x{scale}  {made}", "RESEARCH ONLY - NOT FOR DIAGNOSIS")


def labelled(ds: Dataset, label: str, lines: Sequence[str], names: ResultUids) -> Dataset:
    """`ds`, a result of ours with its pixels, as an object of its own with a label; `ds` itself is changed.

    label: :data:`OVERLAY` or :data:`BURNED`. The same arguments make the same bytes. Raises
    :class:`pacs_node.errors.Refused` where the pixels cannot be read, ValueError for another label.
    """
    if label not in (OVERLAY, BURNED):
        raise ValueError(f"expected overlay or burned, not {label!r}")
    image = decode.decode(ds, str(ds.file_meta.TransferSyntaxUID), max_pixels=1 << 31)
    rows, columns = image.values.shape
    mask = draw_text(lines, rows, columns)
    hidden = geometry.shutter_mask(ds, rows, columns)
    top, left = choose_place(image.values, hidden, (mask.shape[0], mask.shape[1]))
    if label == OVERLAY:
        _put_overlay(ds, mask, top, left, rows, columns, " / ".join(lines))
        said = "label in an overlay"
    else:
        put_pixels(ds, _burned(image, mask, top, left, dark_is_high=stored.high_is_dark(ds)), image.format)
        ds.BurnedInAnnotation = "YES"
        said = "label burned into the pixels"
    ds.SOPInstanceUID, ds.SeriesInstanceUID = names.instance, names.series
    ds.SeriesNumber = min(int(ds.get("SeriesNumber") or 0) + _SERIES_AFTER[label], 2**31 - 1)
    ds.DerivationDescription = f"{said.capitalize()}; {ds.get('DerivationDescription') or ''}"[:1024].rstrip()
    ds.file_meta = file_meta(ds)
    return ds


def draw_text(lines: Sequence[str], rows: int, columns: int) -> npt.NDArray[np.bool_]:
    """Bool[h, w], the lines in letters that suit an image of `rows` x `columns`, with a margin around them.

    h and w never exceed the image.
    """
    size = max(_SMALLEST_FONT, round(max(rows, columns) * _HEIGHT))
    while size > _SMALLEST_FONT and _extent(lines, size)[0] > columns * _WIDTH:
        size = max(_SMALLEST_FONT, int(size * 0.9))
    if _extent(lines, size)[0] > columns:
        lines = _broken(lines)
    width, height = _extent(lines, size)
    margin = max(2, size // 3)
    canvas = Image.new("1", (width + 2 * margin, height + 2 * margin))
    ImageDraw.Draw(canvas).multiline_text(
        (margin, margin), "\n".join(lines), fill=1, font=_font(size), spacing=size // 4, anchor="la"
    )
    return np.asarray(canvas, dtype=np.bool_)[:rows, :columns]


def choose_place(
    values: npt.NDArray[Any], hidden: npt.NDArray[np.bool_] | None, size: tuple[int, int]
) -> tuple[int, int]:
    """Top and left of a box of `size` in the corner that shows least: nothing hidden, then the flattest.

    values: Int[H, W]; hidden: Bool[H, W], true where a shutter hides the image, or None.
    """
    height, width = size
    best, place = (np.inf, np.inf), (0, 0)
    for top, left in _corners(values.shape, hidden, size):
        box = (slice(top, top + height), slice(left, left + width))
        covered = 0.0 if hidden is None else float(hidden[box].mean())
        score = (covered, float(np.std(values[box], dtype=np.float64)))
        if score < best:
            best, place = score, (top, left)
    return place


def _corners(
    shape: tuple[int, ...], hidden: npt.NDArray[np.bool_] | None, size: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    """The corners of the image; with a shutter those of its opening, each moved inwards until none of the box
    is hidden (a round opening has no corners)."""
    last_top, last_left = shape[0] - size[0], shape[1] - size[1]
    if hidden is None:
        yield from ((top, left) for left in (0, last_left) for top in (0, last_top))
        return
    seen_rows, seen_columns = np.flatnonzero(~hidden.all(axis=1)), np.flatnonzero(~hidden.all(axis=0))
    tops = (int(seen_rows[0]), int(seen_rows[-1]) + 1 - size[0])
    lefts = (int(seen_columns[0]), int(seen_columns[-1]) + 1 - size[1])
    middle = (sum(tops) / 2, sum(lefts) / 2)
    for left in (*lefts, middle[1]):
        for top in tops:
            for step in np.linspace(0, 1, 25):
                row = round(min(max(0, top + (middle[0] - top) * step), last_top))
                column = round(min(max(0, left + (middle[1] - left) * step), last_left))
                if not hidden[row : row + size[0], column : column + size[1]].any():
                    break
            yield row, column


def _burned(
    image: StoredImage, mask: npt.NDArray[np.bool_], top: int, left: int, *, dark_is_high: bool
) -> npt.NDArray[Any]:
    """The stored values with the label: bright letters on a dark ground, both within the image's own range,
    so that no window moves and nothing becomes padding."""
    values = image.values.copy()
    shown: Any = True
    if image.padding is not None:
        shown = (values < image.padding[0]) | (values > image.padding[1])
    lowest = int(values.min(where=shown, initial=image.format.highest))
    highest = int(values.max(where=shown, initial=image.format.lowest))
    bright, dark = (lowest, highest) if dark_is_high else (highest, lowest)
    height, width = mask.shape
    values[top : top + height, left : left + width] = np.where(mask, bright, dark).astype(values.dtype)
    return values


def _put_overlay(
    ds: Dataset, mask: npt.NDArray[np.bool_], top: int, left: int, rows: int, columns: int, text: str
) -> None:
    """A graphics overlay plane over the whole image (PS3.3 C.9.2), in the first group that is free.

    Where none is, the last one gives way: saying what the image is goes first.
    """
    taken = {tag.group for tag in ds.keys()}  # noqa: SIM118 - values are not read
    group = next((group for group in _OVERLAY_GROUPS if group not in taken), _OVERLAY_GROUPS[-1])
    for tag in [tag for tag in ds.keys() if tag.group == group]:  # noqa: SIM118
        del ds[tag]
    plane = np.zeros((rows, columns), np.uint8)
    plane[top : top + mask.shape[0], left : left + mask.shape[1]] = mask
    packed = pack_bits(plane.ravel())
    for element, vr, value in (
        (0x0010, "US", rows),
        (0x0011, "US", columns),
        (0x0022, "LO", text[:64]),
        (0x0040, "CS", "G"),
        (0x0045, "LO", "AUTOMATED"),
        (0x0050, "SS", [1, 1]),
        (0x0100, "US", 1),
        (0x0102, "US", 0),
        (0x1500, "LO", "AI-enhanced, research only"),
        (0x3000, "OW", packed + b"\0" * (len(packed) % 2)),
    ):
        ds.add_new((group, element), vr, value)


def _extent(lines: Sequence[str], size: int) -> tuple[int, int]:
    drawing = ImageDraw.Draw(Image.new("1", (1, 1)))
    box = drawing.multiline_textbbox(
        (0, 0), "\n".join(lines), font=_font(size), spacing=size // 4, anchor="la"
    )
    return round(box[2]) + 1, round(box[3]) + 1


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _broken(lines: Sequence[str]) -> tuple[str, ...]:
    """Every word on a line of its own, for images that are narrower than a line."""
    return tuple(word for line in lines for word in line.split() if word != "-")
