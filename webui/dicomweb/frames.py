"""WADO-RS: frames, streamed from where they lie in the stored object.

Native pixels go out in little endian, whatever they are stored in; compressed ones as they are stored: to
decompress what others wrote is not for the process that serves everybody.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from flask import Blueprint, Response

from db.objects import ObjectStore
from webui import auth
from webui.api.operations import operation
from webui.dicomweb import answers, header, resources
from webui.dicomweb.header import IMPLICIT_LITTLE, NATIVE, Header
from webui.dicomweb.media import EXPLICIT_LITTLE, MULTIPART, OCTETS, Offer, choose
from webui.dicomweb.rows import Instance
from webui.errors import ApiProblem, Conflict, NotFound
from webui.multipart import Outgoing
from webui.services import services

blueprint = Blueprint("frames", __name__)

MEDIA = {
    "1.2.840.10008.1.2.4.50": "image/jpeg",
    "1.2.840.10008.1.2.4.51": "image/jpeg",
    "1.2.840.10008.1.2.4.57": "image/jpeg",
    "1.2.840.10008.1.2.4.70": "image/jpeg",
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.81": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.4.91": "image/jp2",
    "1.2.840.10008.1.2.4.201": "image/jphc",
    "1.2.840.10008.1.2.4.202": "image/jphc",
    "1.2.840.10008.1.2.4.203": "image/jphc",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
"""Media types of compressed frames (PS3.18, table 8.7.3-5)."""


@blueprint.get("/studies/<study>/series/<series>/instances/<instance>/frames/<numbers>")
@auth.role("radiologist")
@operation("Retrieve frames (WADO-RS)", tag="dicomweb", answers={200: MULTIPART}, problems=(406, 409, 410))
def of_instance(study: str, series: str, instance: str, numbers: str) -> Response:
    """Frames by their numbers, parted by commas; images here have one.

    Native pixels as application/octet-stream in little endian; compressed ones in the transfer syntax that
    they are stored in, for which the request must name it, `transfer-syntax=*` or the media type.
    """
    return answer(resources.one(study, series, instance), frame_numbers(numbers))


def frame_numbers(text: str) -> list[int]:
    """Numbers of frames, each once. Raises 400 for what is no list of numbers, 404 for frames beyond the
    first."""
    if not re.fullmatch(r"\d{1,9}(,\d{1,9}){0,99}", text):
        raise ApiProblem("Frames are told by their numbers, parted by commas.", status=400, kind="bad-frames")
    numbers = list(dict.fromkeys(int(number) for number in text.split(",")))
    if 0 in numbers:
        raise ApiProblem("Frames are numbered from 1.", status=400, kind="bad-frames")
    if numbers != [1]:
        raise NotFound("There is no such frame.")
    return numbers


def answer(instance: Instance, numbers: Sequence[int]) -> Response:
    """The frame of an instance in the representation that the request asks for."""
    resources.accepted(instance)
    with resources.opened(instance) as found:
        syntax, length = found.syntax, frame_length(found)
    if syntax in NATIVE:
        syntaxes: tuple[str, ...] = (EXPLICIT_LITTLE, IMPLICIT_LITTLE)
        offers = [Offer(OCTETS, several, syntaxes) for several in (True, False)]
        why = "Pixels are handed out as application/octet-stream in little endian."
        told = EXPLICIT_LITTLE
    else:
        media, syntaxes, told = MEDIA.get(syntax, OCTETS), (syntax,), syntax
        offers = [Offer(media, several, syntaxes) for several in (True, False)]
        offers += [Offer(OCTETS, several, syntaxes, needs_syntax=True) for several in (True, False)]
        why = f"These pixels are stored compressed: ask for transfer-syntax={syntax} or transfer-syntax=*."
    chosen = choose(offers, why)
    resources.note("frames", instance.uids[0], instance.uids[2])
    store, key = services().store, instance.object_key
    part = Outgoing(f"{chosen.media}; transfer-syntax={told}", lambda: _pixels(store, key, length), length)
    if not chosen.multipart:
        return answers.alone(part)
    return answers.together(chosen.media, [part for _number in numbers])


def frame_length(found: Header) -> int:
    """Bytes of the only frame. Raises 409 where the pixels do not lie as the header says."""
    if found.syntax not in NATIVE:
        if found.fragments:
            return sum(length for _offset, length in found.fragments)
    elif found.pixels is not None:
        ds = found.ds
        length = int(ds.Rows) * int(ds.Columns) * int(ds.get("SamplesPerPixel") or 1)
        length = length * int(ds.BitsAllocated) // 8
        if 0 < length <= found.pixels.length:
            return length
    raise Conflict("The pixels do not lie as the header says.", kind="pixels-refused")


def _pixels(store: ObjectStore, key: str, length: int) -> Iterator[bytes]:
    most = length + (8 << 20)
    with header.opened(store, key, most=most) as found:
        yield from frame_chunks(found, length)


def frame_chunks(found: Header, length: int) -> Iterator[bytes]:
    """The bytes of the frame, native ones in little endian."""
    if found.pixels is not None:
        place = found.pixels
        yield from answers.span(found.stream, place.offset, min(length, place.length), swap=place.swap)
    for offset, size in found.fragments:
        yield from answers.span(found.stream, offset, size)
