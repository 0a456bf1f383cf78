"""Pictures that are not DICOM (PNG, JPEG, TIFF) as grey values, at the depth that they have.

Runs in the disposable child, as decoders of pictures break on broken input too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from pacs_node import colour
from pacs_node.errors import Reason, Refused

FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "TIFF": "image/tiff"}
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*")
_WHITE_IS_ZERO = 0
_PHOTOMETRIC_TAG = 262


@dataclass(frozen=True, slots=True)
class Picture:
    """values: UInt8[H, W] or UInt16[H, W], bright is high. lossy_ratio: of a JPEG, else None."""

    values: npt.NDArray[Any]
    media_type: str
    lossy_ratio: float | None = None


def is_picture(path: Path) -> bool:
    """Whether the file begins like a PNG, JPEG or TIFF and is not DICOM: DICOM may begin like a TIFF."""
    with path.open("rb") as stream:
        start = stream.read(132)
    return start.startswith(MAGIC) and start[128:132] != b"DICM"


def read_picture(path: Path, *, max_pixels: int) -> Picture:
    """The grey values of a picture. Raises :class:`Refused`, for its size before anything is decoded."""
    Image.MAX_IMAGE_PIXELS = None  # our own limit stands below, as an error and not as a warning
    try:
        with Image.open(path, formats=tuple(FORMATS)) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise Refused(
                    Reason.TOO_LARGE,
                    f"The picture has {width} x {height} pixels;"
                    f" at most {max_pixels / 1e6:g} million are decoded.",
                )
            if getattr(image, "n_frames", 1) != 1:
                raise Refused(
                    Reason.MULTI_FRAME, "The file holds several pictures; only single ones are enhanced."
                )
            image.load()
            values = np.ascontiguousarray(_grey(image))
            media_type = FORMATS[image.format or "PNG"]
    except Refused:
        raise
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise Refused(Reason.NOT_AN_IMAGE, "This is not a PNG, JPEG or TIFF picture.") from error
    except Exception as error:  # truncated data, broken compression, impossible headers
        raise Refused(Reason.BROKEN_STREAM, "The picture is damaged or ends early.") from error
    ratio = values.nbytes / max(1, path.stat().st_size) if media_type == "image/jpeg" else None
    return Picture(values, media_type, ratio)


def _grey(image: Image.Image) -> npt.NDArray[Any]:
    white_is_zero = False
    if image.format == "TIFF":
        white_is_zero = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO
    image = ImageOps.exif_transpose(image) or image
    if image.mode.startswith("I"):  # 16 bits; I is what Pillow makes of some of them
        values = np.asarray(image)
        if values.dtype.itemsize > 2 or values.dtype.kind == "i":
            if values.min() < 0 or values.max() > 65535:
                raise Refused(
                    Reason.UNSUPPORTED_BITS, "The picture has more than 16 bits or negative values."
                )
            values = values.astype("u2")
        values = values.astype("u2", copy=False)
        return 65535 - values if white_is_zero else values
    if image.mode == "F":
        raise Refused(
            Reason.UNSUPPORTED_BITS, "The picture holds floating-point values, which are not handled."
        )
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    if "A" in image.mode or image.mode == "P" or "transparency" in image.info:
        rgba = image.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, rgba)
    grey = colour.grey_channel(np.asarray(image.convert("RGB")), 8)
    if grey is None:
        raise Refused(Reason.COLOUR, "The picture is in colour; only greyscale radiographs are enhanced.")
    return grey
