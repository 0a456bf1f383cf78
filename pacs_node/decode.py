"""From a data set to stored values, exactly: sign, bit depth and padding understood, nothing scaled or
windowed. Grey that is written in colour becomes one channel.

Runs in the disposable child (see `pacs_node.examine_child`): decoders crash, hang and swell on broken input.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder

from pacs_node import codecs, colour
from pacs_node.codestream import stream_header
from pacs_node.errors import Reason, Refused

MAX_PIXELS = 64_000_000
MAX_SIDE = 65535
PHOTOMETRIC = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How the pixels of a greyscale image are stored (Image Pixel module).

    photometric: MONOCHROME1 or MONOCHROME2; another term only on the way from a colour image to its grey.
    """

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str

    @property
    def lowest(self) -> int:
        """The lowest value that `bits_stored` can hold."""
        return -(1 << (self.bits_stored - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """The highest value that `bits_stored` can hold."""
        return (1 << (self.bits_stored - 1)) - 1 if self.signed else (1 << self.bits_stored) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """int8, uint8, int16 or uint16: the smallest that holds every stored value."""
        return np.dtype(f"{'i' if self.signed else 'u'}{self.bits_allocated // 8}")


@dataclass(frozen=True, slots=True)
class StoredImage:
    """values: Int[H, W] of `format.dtype`, stored values with sign and nothing else in their bits.

    padding: lowest and highest stored value that mean "no pixel here", or None.
    """

    values: npt.NDArray[Any]
    format: PixelFormat
    padding: tuple[int, int] | None = None


def pixel_format(ds: Dataset, *, max_pixels: int = MAX_PIXELS) -> PixelFormat:
    """The pixel format of `ds`, checked before anything is decoded.

    Raises :class:`Refused` for what is not a single frame of up to 16 bits within `max_pixels`, in grey or in
    colours that may hold grey alone (the pixels tell).
    """
    if "PixelData" not in ds:
        if "FloatPixelData" in ds or "DoubleFloatPixelData" in ds:
            raise Refused(
                Reason.UNSUPPORTED_BITS, "The object holds floating-point pixels, which are not handled."
            )
        raise Refused(Reason.NO_PIXELS, "The object holds no pixels.")
    frames = _integer(ds, "NumberOfFrames", 1)
    if frames != 1:
        raise Refused(
            Reason.MULTI_FRAME, f"The object holds {frames} frames; only single images are enhanced."
        )
    photometric = _word(ds, "PhotometricInterpretation")
    if not photometric:
        raise Refused(Reason.MISSING_ATTRIBUTE, "PhotometricInterpretation is missing.")
    expected = 3 if photometric in colour.THREE_SAMPLES else 1
    known = (*PHOTOMETRIC, *colour.THREE_SAMPLES, colour.PALETTE)
    if photometric not in known or _integer(ds, "SamplesPerPixel", expected) != expected:
        raise colour.coloured()
    rows, columns = _integer(ds, "Rows"), _integer(ds, "Columns")
    if rows < 1 or columns < 1 or rows > MAX_SIDE or columns > MAX_SIDE:
        raise Refused(Reason.BAD_GEOMETRY, f"The image says that it has {rows} rows and {columns} columns.")
    if rows * columns > max_pixels:
        raise Refused(
            Reason.TOO_LARGE,
            f"The image has {columns} x {rows} pixels; at most {max_pixels / 1e6:g} million are decoded.",
        )
    allocated = _integer(ds, "BitsAllocated")
    stored = _integer(ds, "BitsStored", allocated)
    high = _integer(ds, "HighBit", stored - 1)
    representation = _integer(ds, "PixelRepresentation", 0)
    if allocated not in (8, 16) or not 1 <= stored <= allocated or representation not in (0, 1):
        raise Refused(
            Reason.UNSUPPORTED_BITS, f"Pixels of {stored} bits in {allocated} are not handled; 8 to 16 are."
        )
    if not stored - 1 <= high < allocated:
        raise Refused(Reason.UNSUPPORTED_BITS, f"HighBit {high} does not fit {stored} bits in {allocated}.")
    if photometric not in PHOTOMETRIC and (representation or (expected == 3 and stored < 8)):
        raise colour.coloured()
    return PixelFormat(rows, columns, allocated, stored, high, bool(representation), photometric)


def padding_range(ds: Dataset, fmt: PixelFormat) -> tuple[int, int] | None:
    """Lowest and highest stored value of padding, or None where `ds` names none (PS3.3 C.7.5.1.1.2)."""
    first = _stored_value(ds, "PixelPaddingValue", fmt)
    if first is None:
        return None
    second = _stored_value(ds, "PixelPaddingRangeLimit", fmt)
    second = first if second is None else second
    return min(first, second), max(first, second)


def decode(ds: Dataset, transfer_syntax: str, *, max_pixels: int = MAX_PIXELS) -> StoredImage:
    """The stored values of `ds`, which was read in `transfer_syntax`.

    Overlay bits above the stored ones are removed, two's complement is resolved at BitsStored, and values
    that stand above bit 0 (HighBit) are brought down. Raises :class:`Refused`.
    """
    fmt = pixel_format(ds, max_pixels=max_pixels)
    codec = codecs.codec_of(transfer_syntax)
    if codec is None:
        raise Refused(Reason.UNKNOWN_SYNTAX, f"No decoder here reads the transfer syntax {transfer_syntax}.")
    if fmt.photometric in colour.THREE_SAMPLES:
        return _grey(_colours(ds, codec, fmt), fmt)
    container = _compressed(ds, codec, fmt) if codec.encapsulated else _native(ds, codec, fmt)
    # A code stream holds samples of its own precision; only native and RLE containers have bits below them.
    shift = fmt.high_bit + 1 - fmt.bits_stored
    if codec.encapsulated and codec.uid != codecs.RLE_LOSSLESS:
        shift = 0
    may_overshoot = codec.encapsulated and (codec.lossy or codec.may_be_lossy) and not fmt.signed
    if may_overshoot and not _has_overlay_bits(ds):
        container = np.minimum(container, fmt.highest)  # a bit more than the brightest, not the darkest
    values = _stored(container, fmt, shift)
    if fmt.photometric == colour.PALETTE:
        big = codec.uid == codecs.EXPLICIT_VR_BIG_ENDIAN
        levels, bits = colour.palette_levels(ds, fmt.bits_stored, big_endian=big)
        return _single(colour.through_palette(values, levels, bits), bits)
    return StoredImage(values, fmt, padding_range(ds, fmt))


def _grey(samples: npt.NDArray[Any], fmt: PixelFormat) -> StoredImage:
    """UInt[H, W, 3] of `fmt` as the image of its one grey channel. Raises :class:`Refused` for colour."""
    if fmt.bits_stored < fmt.bits_allocated:
        samples = samples & np.array((1 << fmt.bits_stored) - 1, samples.dtype)
    luminance_first = fmt.photometric in colour.LUMINANCE_FIRST
    return _single(
        colour.grey_channel(samples, fmt.bits_stored, luminance_first=luminance_first), fmt.bits_stored
    )


def _single(grey: npt.NDArray[Any] | None, bits: int) -> StoredImage:
    """UInt[H, W] of `bits` as MONOCHROME2 without padding. Raises :class:`Refused` where there is none."""
    if grey is None:
        raise colour.coloured()
    rows, columns = grey.shape
    fmt = PixelFormat(rows, columns, grey.dtype.itemsize * 8, bits, bits - 1, False, "MONOCHROME2")
    return StoredImage(grey, fmt)


def _stored(container: npt.NDArray[Any], fmt: PixelFormat, shift: int) -> npt.NDArray[Any]:
    """UInt[H, W] of the container's bits -> stored values in `fmt.dtype`."""
    width = fmt.bits_allocated
    values = container.astype(f"u{width // 8}", copy=True)
    if shift:
        values >>= shift
    if fmt.signed:
        values <<= width - fmt.bits_stored
        signed = values.view(fmt.dtype)
        signed >>= width - fmt.bits_stored  # arithmetic: carries the sign down
        return signed
    if fmt.bits_stored < width:
        values &= (1 << fmt.bits_stored) - 1
    return values


def _native(ds: Dataset, codec: codecs.Codec, fmt: PixelFormat) -> npt.NDArray[Any]:
    return _plain(ds, codec, fmt, fmt.rows * fmt.columns).reshape(fmt.rows, fmt.columns)


def _plain(ds: Dataset, codec: codecs.Codec, fmt: PixelFormat, count: int) -> npt.NDArray[Any]:
    """UInt[count] of uncompressed samples. Raises :class:`Refused` where they end early."""
    data = ds.PixelData or b""
    needed = count * fmt.bits_allocated // 8
    if len(data) < needed:
        raise Refused(
            Reason.TRUNCATED, f"The pixels end early: {len(data)} bytes where the header promises {needed}."
        )
    big = codec.uid == codecs.EXPLICIT_VR_BIG_ENDIAN
    if fmt.bits_allocated == 8:
        if big and ds["PixelData"].VR == "OW":  # bytes travel in swapped pairs
            pairs = np.frombuffer(data, "u2", count=len(data) // 2).byteswap()
            return pairs.view("u1")[:count]
        return np.frombuffer(data, "u1", count=count)
    return np.frombuffer(data, ">u2" if big else "<u2", count=count)


def _colours(ds: Dataset, codec: codecs.Codec, fmt: PixelFormat) -> npt.NDArray[Any]:
    """UInt[H, W, 3] of an image with three samples a pixel, as they are stored."""
    if codec.encapsulated:
        return _compressed(ds, codec, fmt)
    rows, columns = fmt.rows, fmt.columns
    if fmt.photometric == "YBR_FULL_422":  # two luminances, then the chrominances that they share
        if columns % 2:
            raise Refused(Reason.BAD_GEOMETRY, "Subsampled colours need an even number of columns.")
        four = _plain(ds, codec, fmt, rows * columns * 2).reshape(rows, columns // 2, 4)
        shared = np.repeat(four[..., 2:], 2, axis=1)
        return np.concatenate([four[..., :2].reshape(rows, columns, 1), shared], axis=2)
    samples = _plain(ds, codec, fmt, rows * columns * 3)
    if _integer(ds, "PlanarConfiguration", 0) == 1:
        return samples.reshape(3, rows, columns).transpose(1, 2, 0)
    return samples.reshape(rows, columns, 3)


def _compressed(ds: Dataset, codec: codecs.Codec, fmt: PixelFormat) -> npt.NDArray[Any]:
    _check_stream(ds, codec, fmt)
    failure: BaseException | None = None
    for name in codec.installed:
        try:
            container = _DECODERS[name](ds, codec, fmt)
        except (MemoryError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - they raise anything, and panic; the next may manage
            failure = error
            continue
        if container.shape == _shape(fmt):
            return container
    raise Refused(Reason.BROKEN_STREAM, f"The {codec.name} code stream could not be decoded.") from failure


def _check_stream(ds: Dataset, codec: codecs.Codec, fmt: PixelFormat) -> None:
    """Refuse an empty, cut or other code stream than the header promises.

    Decoders of lossy JPEG fill what is missing with grey, silently."""
    stream = _stream(ds)
    if not stream:
        raise Refused(Reason.NO_PIXELS, "The object holds no pixels.")
    if codec.uid == codecs.RLE_LOSSLESS:
        return
    # The end marker cannot occur within coded data; some encoders pad after it with more than one zero.
    if b"\xff\xd9" not in stream[-256:]:
        raise Refused(Reason.TRUNCATED, f"The {codec.name} code stream ends early.")
    found = stream_header(stream)
    if found is None:
        raise Refused(Reason.BROKEN_STREAM, f"The {codec.name} code stream has no readable header.")
    components = _shape(fmt)[2:] or (1,)
    if (found.rows, found.columns, found.components) != (fmt.rows, fmt.columns, *components):
        raise Refused(
            Reason.BROKEN_STREAM,
            f"The code stream holds {found.columns} x {found.rows} pixels of {found.components} components"
            f" where the header promises {fmt.columns} x {fmt.rows} of {components[0]}.",
        )
    if found.precision > fmt.bits_allocated:
        raise Refused(
            Reason.BROKEN_STREAM,
            f"The code stream has {found.precision} bits, more than the header promises.",
        )


def _stream(ds: Dataset) -> bytes:
    try:
        return next(generate_frames(ds.PixelData, number_of_frames=1), b"")
    except Refused:
        raise
    except Exception as error:
        raise Refused(Reason.BROKEN_STREAM, "The fragments of the code stream cannot be followed.") from error


def _with_pydicom(plugin: str) -> Callable[[Dataset, codecs.Codec, PixelFormat], npt.NDArray[Any]]:
    def run(ds: Dataset, codec: codecs.Codec, fmt: PixelFormat) -> npt.NDArray[Any]:
        decoder = get_decoder(codec.uid)
        if fmt.photometric in colour.THREE_SAMPLES:
            samples, _ = decoder.as_array(ds, raw=True, decoding_plugin=plugin)
            return samples
        buffer, meta = decoder.as_buffer(ds, decoding_plugin=plugin)
        container = np.frombuffer(buffer, f"<u{int(meta['bits_allocated']) // 8}")
        return container[: fmt.rows * fmt.columns].reshape(fmt.rows, fmt.columns)

    return run


_IMAGECODECS = {
    codecs.JPEG_BASELINE: "jpeg8_decode",
    codecs.JPEG_EXTENDED: "jpeg8_decode",
    codecs.JPEG_LOSSLESS: "ljpeg_decode",
    codecs.JPEG_LOSSLESS_SV1: "ljpeg_decode",
    codecs.JPEG_LS_LOSSLESS: "jpegls_decode",
    codecs.JPEG_LS_NEAR_LOSSLESS: "jpegls_decode",
    codecs.JPEG_2000_LOSSLESS: "jpeg2k_decode",
    codecs.JPEG_2000: "jpeg2k_decode",
    codecs.HTJ2K_LOSSLESS: "htj2k_decode",
    codecs.HTJ2K_LOSSLESS_RPCL: "htj2k_decode",
    codecs.HTJ2K: "htj2k_decode",
}


def _with_imagecodecs(ds: Dataset, codec: codecs.Codec, fmt: PixelFormat) -> npt.NDArray[Any]:
    name = _IMAGECODECS[codec.uid]
    as_stored: dict[str, str] = {}
    if name == "jpeg8_decode" and fmt.photometric in colour.THREE_SAMPLES:
        as_stored = {
            "colorspace": "RGB",
            "outcolorspace": "RGB",
        }  # the channels as they are, whatever they mean
    function = getattr(importlib.import_module("imagecodecs"), name)
    decoded: npt.NDArray[Any] = np.asarray(function(_stream(ds), **as_stored))
    return decoded.view(f"u{decoded.dtype.itemsize}")


_DECODERS: dict[str, Callable[[Dataset, codecs.Codec, PixelFormat], npt.NDArray[Any]]] = {
    "imagecodecs": _with_imagecodecs,
    "gdcm": _with_pydicom("gdcm"),
    "jpeg_ls": _with_pydicom("pyjpegls"),
    "openjpeg": _with_pydicom("pylibjpeg"),
    "rle": _with_pydicom("pylibjpeg"),
    codecs.PYDICOM: _with_pydicom("pydicom"),
}


def _shape(fmt: PixelFormat) -> tuple[int, ...]:
    return (fmt.rows, fmt.columns, 3) if fmt.photometric in colour.THREE_SAMPLES else (fmt.rows, fmt.columns)


def _integer(ds: Dataset, keyword: str, default: int | None = None) -> int:
    try:
        value = ds.get(keyword)
        if value is not None and value != "":
            return int(value)
    except Exception as error:  # whatever pydicom makes of a wrong VR
        raise Refused(Reason.MISSING_ATTRIBUTE, f"{keyword} is not one number.") from error
    if default is None:
        raise Refused(Reason.MISSING_ATTRIBUTE, f"{keyword} is missing.")
    return default


def _word(ds: Dataset, keyword: str) -> str:
    try:
        return str(ds.get(keyword) or "").strip().upper()
    except Exception:  # noqa: BLE001 - whatever pydicom makes of a wrong VR
        return ""


def _has_overlay_bits(ds: Dataset) -> bool:
    """Whether bits above the stored ones may be an overlay's (PS3.5 8.1.2, retired)."""
    positions = (ds.get((group, 0x0102)) for group in range(0x6000, 0x6020, 2))
    return any(element is not None and element.value for element in positions)


def _stored_value(ds: Dataset, keyword: str, fmt: PixelFormat) -> int | None:
    """A value of VR US or SS as a stored value: devices write it with the wrong sign now and then."""
    try:
        value = ds.get(keyword)
        if value is None or value == "":
            return None
        number = int(value)
    except Exception:  # noqa: BLE001 - what cannot be read pads nothing
        return None
    if fmt.signed and number > fmt.highest:
        number -= 1 << 16 if number >= 1 << 15 else 0
    elif not fmt.signed and number < 0:
        number += 1 << 16
    return number if fmt.lowest <= number <= fmt.highest else None
