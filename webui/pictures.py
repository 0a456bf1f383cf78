"""Pictures of a result that are made when someone asks: all its depth, and before and after for a talk.

Few are made at a time (:func:`webui.dicomweb.rendered.turn`); each needs some bytes a pixel while it is made
and lies in a nameless file of the spool until it is sent.
"""

from __future__ import annotations

import tempfile
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from db.objects import ObjectStore
from webui import comparison
from webui.dicomweb import frames, header, picture
from webui.dicomweb.header import NATIVE, Header
from webui.dicomweb.picture import Pixels
from webui.dicomweb.rendered import turn
from webui.errors import Conflict, NotFound
from webui.outcome import Box, Made, Values

PANEL = 1000
"""Longest side of each half of a before/after picture, in pixels."""


def full_depth(store: ObjectStore, made: Made, values: Values = "shown") -> BinaryIO:
    """The result as a PNG of 16 bits, in a file that its reader closes.

    `stored`: the stored values as they are (signed ones plus half their range). `shown`: the same placed in
    the highest bits, and turned round where the object says that low is bright, so that any viewer shows it
    right; `sBIT` and the texts of the file say how to come back. Nothing is lost in either.
    Raises :class:`webui.errors.Conflict` where the pixels cannot be read.
    """
    most = made.rows * made.columns * 2 + (8 << 20)
    with turn():
        try:
            with header.opened(store, made.result_key, most=most, sha256=made.result_sha256) as found:
                pixels = _native(found)
                shades, how = placed(pixels, values)
                length = frames.frame_length(found)
                grey = np.zeros(pixels.rows * pixels.columns, np.uint16)
                at = 0
                for block in picture.containers(pixels, lambda: frames.frame_chunks(found, length)):
                    grey[at : at + block.size] = shades[block]
                    at += block.size
        except (header.Unreadable, AttributeError, TypeError, ValueError) as error:
            raise Conflict("The pixels of this object cannot be read.", kind="unreadable") from error
        image = Image.fromarray(grey.reshape(pixels.rows, pixels.columns))
        return _saved(store, image, _told(made, how, pixels.stored if values == "shown" else None))


def placed(pixels: Pixels, values: Values) -> tuple[npt.NDArray[np.uint16], str]:
    """UInt16[2**allocated]: where each state of a container goes in 16 bits, and how in words."""
    stored = pixels.values().astype(np.int64)
    words = [f"Stored values of {pixels.stored} bits"]
    if pixels.signed:
        stored += 1 << (pixels.stored - 1)
        words.append(f"plus {1 << (pixels.stored - 1)}")
    if values == "shown":
        if picture.inverted(pixels.ds):
            stored = (1 << pixels.stored) - 1 - stored
            words.append(f"taken from {(1 << pixels.stored) - 1}")
        if pixels.stored < 16:
            stored <<= 16 - pixels.stored
            words.append(f"times {1 << (16 - pixels.stored)}")
    return stored.astype(np.uint16), ", ".join(words)


def before_after(store: ObjectStore, made: Made, box: Box | None = None) -> BinaryIO:
    """Original and result side by side, as a PNG of 8 bits in a file that its reader closes.

    box: left, top, right and lower edge in pixels of the result; None: the whole image. Each half is shown
    through its own window. Raises :class:`webui.errors.Conflict` where the pixels cannot be read or say that
    text is burned into them, :class:`webui.errors.NotFound` where there is no picture of the original.
    """
    size = (made.columns, made.rows)
    box = box or (0, 0, *size)
    with turn():
        result, source = (made.result_key, made.result_sha256), (made.source_key, made.source_sha256)
        after = _shown(store, result, made.rows, made.columns, quiet=False)
        if after is None:
            raise Conflict("The pixels of this object cannot be read.", kind="unreadable")
        after = comparison.region(after, box, size)
        before = None
        if made.source_is_dicom:
            before = _shown(store, source, made.source_rows, made.source_columns, quiet=True)
        if before is None:
            before = _preview(store, made)
        before = comparison.region(before, box, size)
        whole = box == (0, 0, *size)
        left = f"Original, {made.source_columns} x {made.source_rows}" + ("" if whole else ", enlarged")
        right = f"AI-processed{f' x{made.scale}' if made.scale else ''} ({made.model}); not for diagnosis"
        talk = comparison.framed(
            comparison.fitted(before, PANEL), comparison.fitted(after, PANEL), left, right
        )
        told = _told(made, "Before and after, each through its own window", None)
        return _saved(store, talk, told)


def middle(made: Made) -> Box:
    """A detail at its own size: the middle of a lung, where there are vessels to see, not the spine."""
    wide, high = min(PANEL, made.columns), min(PANEL, made.rows)
    x = min(max(round(made.columns * 0.33) - wide // 2, 0), made.columns - wide)
    y = min(max(round(made.rows * 0.45) - high // 2, 0), made.rows - high)
    return x, y, x + wide, y + high


def _native(found: Header) -> Pixels:
    if found.syntax not in NATIVE:
        raise ValueError("compressed pixels")
    return Pixels.of(found.ds)


def _shown(
    store: ObjectStore, which: tuple[str, str], rows: int, columns: int, *, quiet: bool
) -> Image.Image | None:
    """A stored object, by key and digest, through its own window; None where its pixels are not native or
    not grey."""
    key, sha256 = which
    try:
        with header.opened(store, key, most=rows * columns * 2 + (8 << 20), sha256=sha256) as found:
            if str(found.ds.get("BurnedInAnnotation") or "").strip().upper() == "YES":
                raise Conflict(
                    "The image says that text is burned into its pixels; no picture for a talk is made.",
                    kind="burned-in",
                )
            pixels = _native(found)
            length = frames.frame_length(found)
            return Image.fromarray(picture.render(pixels, lambda: frames.frame_chunks(found, length)))
    except (header.Unreadable, AttributeError, TypeError, ValueError):
        return None
    except Conflict as problem:
        if quiet and problem.kind == "pixels-refused":
            return None
        raise


def _preview(store: ObjectStore, made: Made) -> Image.Image:
    if made.source_preview_key is None:
        raise NotFound("There is no picture of the original.")
    with store.open(made.source_preview_key) as stream, Image.open(stream, formats=["PNG"]) as preview:
        return preview.convert("L")


def _told(made: Made, how: str, bits: int | None) -> PngInfo:
    """What a picture says of itself: that it is AI-processed, by what, and how its values lie."""
    told = PngInfo()
    scale = f" x{made.scale}" if made.scale else ""
    told.add_text("Description", f"AI-processed{scale} by {made.model}. Research use; not for diagnosis.")
    told.add_text("Comment", f"{how}.")
    told.add_text("Software", "cxr-sr")
    if bits is not None:
        told.add(b"sBIT", bytes([bits]))
    return told


def _saved(store: ObjectStore, image: Image.Image, told: PngInfo) -> BinaryIO:
    file = cast(BinaryIO, tempfile.TemporaryFile(dir=store.spool))  # noqa: SIM115 - its reader closes it
    try:
        image.save(file, "PNG", compress_level=1, pnginfo=told)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file
