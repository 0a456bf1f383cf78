"""Rules: pixels in the source's format, showing what it shows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from enhancer.consistency import window_rms
from enhancer.resample import reduced
from pacs_node import codecs, geometry, stored
from pacs_node.decode import StoredImage
from pacs_node.soundness.book import Rules
from pacs_node.soundness.pair import Pair, canonical, numbers, texts

RULES = Rules()
CLOSE = 0.12
"""How far the reduced result may be from the source, as part of its grey range: a mirrored chest is at 0.2,
what a trained model makes far below 0.01. How faithful it is says its consistency, not this rule..."""
WINDOWS, BESIDE_A_LABEL = 95, 50
"""...in so many of 100 windows: fewer where a label may cover the others."""
_SMALLEST = 8
"""Narrower images have nothing but edges, where reductions differ."""


@RULES.add("readable", "PS3.5 8", "The pixels of both can be decoded.")
def _readable(pair: Pair) -> Iterator[str]:
    for name, side in (("source", pair.source), ("result", pair.derived)):
        if side.image is None:
            yield f"the {name} cannot be decoded: {side.refusal.rstrip('.')}"


@RULES.add(
    "photometric", "PS3.3 C.7.6.3.1.2", "Grey stays as it was written; grey in colour becomes MONOCHROME2."
)
def _photometric(pair: Pair) -> Iterator[str]:
    wanted = ["MONOCHROME2"] if pair.was_in_colour else texts(pair.before, "PhotometricInterpretation")
    if texts(pair.after, "PhotometricInterpretation") != wanted:
        yield f"PhotometricInterpretation is not {wanted[0] if wanted else 'there'}"
    if numbers(pair.after, "SamplesPerPixel") != [1]:
        yield "SamplesPerPixel is not 1"


@RULES.add("bits", "PS3.3 C.7.6.3", "Stored values keep their depth, place and sign.")
def _bits(pair: Pair) -> Iterator[str]:
    was = pair.source.image
    wanted = {
        "BitsAllocated": was.format.bits_allocated if was else None,
        "BitsStored": was.format.bits_stored if was else None,
        "HighBit": was.format.high_bit if was else None,
        "PixelRepresentation": int(was.format.signed) if was else None,
    }
    for keyword, value in wanted.items():
        if value is not None and numbers(pair.after, keyword) != [value]:
            yield f"{keyword} is not {value}"


@RULES.add("length", "PS3.5 8.1.1, A.4", "PixelData holds one whole frame, or one lossless code stream.")
def _length(pair: Pair) -> Iterator[str]:
    syntax = codecs.CODECS.get(pair.derived.transfer_syntax)
    if syntax is None or syntax.lossy or syntax.may_be_lossy:
        yield "the result is in a transfer syntax that may lose something"
    elif not syntax.encapsulated:
        (rows,), (columns,) = numbers(pair.after, "Rows"), numbers(pair.after, "Columns")
        (allocated,) = numbers(pair.after, "BitsAllocated")
        expected = int(rows * columns * allocated / 8)
        if pair.derived.stored_bytes not in (expected, expected + expected % 2):
            yield "PixelData has another length than Rows, Columns and BitsAllocated make"


@RULES.add("extremes", "PS3.3 C.7.6.3", "Smallest and largest value are those of these pixels.")
def _extremes(pair: Pair) -> Iterator[str]:
    image = pair.derived.image
    if image is None:
        return
    for keyword, value in (
        ("SmallestImagePixelValue", int(image.values.min())),
        ("LargestImagePixelValue", int(image.values.max())),
    ):
        if keyword in pair.after and numbers(pair.after, keyword) != [value]:
            yield f"{keyword} is not that of the pixels"


@RULES.add("padding", "PS3.3 C.7.5.1.1.2", "What was padding is padding, and nothing else is.")
def _padding(pair: Pair) -> Iterator[str]:
    was, now, scale = pair.source.image, pair.derived.image, pair.scale
    if was is None or now is None or scale is None:
        return
    before = np.repeat(np.repeat(_is_padding(was), scale, 0), scale, 1)
    after = _is_padding(now)
    if np.any(after & ~before):
        yield "pixels of the image have become padding"
    if np.any(before & ~after) and not pair.has_burned_label:
        yield "pixels of the padding are no padding now"


@RULES.add("same-picture", "PS3.3 C.7.6.1.1.2", "Reduced again, the result shows what its source shows.")
def _same_picture(pair: Pair) -> Iterator[str]:
    was, now, scale = pair.source.image, pair.derived.image, pair.scale
    if was is None or now is None or scale is None or min(was.values.shape) < _SMALLEST:
        return
    shuttered = geometry.shutter_mask(pair.before, was.format.rows, was.format.columns)
    given = stored.to_network(was, inverted=False, shuttered=shuttered)
    sr = now.values.astype(np.float32)
    sr -= given.grey_map.lowest
    sr /= given.grey_map.span
    if given.kept_out is not None:
        kept = np.repeat(np.repeat(given.kept_out, scale, 0), scale, 1)
        sr[kept] = np.repeat(np.repeat(given.lr, scale, 0), scale, 1)[kept]
    again = reduced(sr, scale) if scale > 1 else sr
    off = window_rms(again.astype(np.float64) - given.lr)
    if float(np.percentile(off, BESIDE_A_LABEL if pair.has_burned_label else WINDOWS)) > CLOSE:
        yield "the result shows something else than its source"


@RULES.add(
    "lossy-history", "PS3.3 C.7.6.1.1.5", "Once lossy, always lossy, with every earlier ratio and method."
)
def _lossy_history(pair: Pair) -> Iterator[str]:
    syntax = codecs.CODECS.get(pair.source.transfer_syntax)
    said = texts(pair.before, "LossyImageCompression")
    was_lossy = said == ["01"] or (
        syntax is not None and (syntax.lossy or (syntax.may_be_lossy and said != ["00"]))
    )
    if was_lossy and texts(pair.after, "LossyImageCompression") != ["01"]:
        yield "LossyImageCompression is not 01 though the source was compressed with loss"
    if not was_lossy and texts(pair.after, "LossyImageCompression") != said:
        yield "LossyImageCompression is not the source's"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if keyword.endswith("Ratio") and not numbers(pair.before, keyword):
            continue  # none, or none that is a number
        earlier, now = (list(map(canonical, texts(ds, keyword))) for ds in (pair.before, pair.after))
        if now[: len(earlier)] != earlier:
            yield f"{keyword} has lost an earlier step"


def _is_padding(image: StoredImage) -> npt.NDArray[np.bool_]:
    if image.padding is None:
        return np.zeros(image.values.shape, np.bool_)
    inside: npt.NDArray[np.bool_] = (image.values >= image.padding[0]) & (image.values <= image.padding[1])
    return inside
