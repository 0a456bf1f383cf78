"""WADO-RS: rendered pictures and thumbnails (PS3.18, 8.3.5 and 10.4.1.1.3).

Native pixels that were examined are windowed here; of compressed ones there is the preview that the worker
made. Few pictures are made at a time: each needs a byte a pixel.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TypeVar

from flask import Blueprint, Response, request
from PIL import Image

from db.objects import ObjectStore
from webui import auth
from webui.api.operations import operation
from webui.dicomweb import answers, frames, header, picture, resources
from webui.dicomweb.header import NATIVE, Header
from webui.dicomweb.media import Offer, choose
from webui.dicomweb.picture import FORMATS, FUNCTIONS, Pixels, Viewport, Window
from webui.dicomweb.rows import Instance
from webui.errors import ApiProblem, Conflict, NotFound, Unavailable
from webui.multipart import Outgoing
from webui.services import services

blueprint = Blueprint("rendered", __name__)

THUMBNAIL_SIDE = 256
MAX_SIDE = 9216
"""Longest side of a picture that is made, in pixels: that of the largest result."""
PICTURES_AT_ONCE = 2
PATIENCE_SECONDS = 60
_turns = threading.BoundedSemaphore(PICTURES_AT_ONCE)
_SERIES = "/studies/<study>/series/<series>"
_INSTANCE = f"{_SERIES}/instances/<instance>"
_IGNORED = {"annotation", "iccprofile", "charset"}
_OPTIONS = {"accept", "viewport", "window", "quality", *_IGNORED}
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class Wanted:
    """What is asked for: media type, region and size, window, quality of a JPEG."""

    media: str
    viewport: Viewport | None = None
    window: Window | None = None
    quality: int = 90


@blueprint.get("/studies/<study>/rendered")
@auth.role("radiologist")
@operation("Render a study (WADO-RS)", tag="dicomweb", answers={200: "image/jpeg"}, problems=(406, 409))
def study_rendered(study: str) -> Response:
    """Each instance in a multipart body; one of them where only a picture is accepted."""
    return _several(resources.instances(study), study)


@blueprint.get(f"{_SERIES}/rendered")
@auth.role("radiologist")
@operation("Render a series (WADO-RS)", tag="dicomweb", answers={200: "image/jpeg"}, problems=(406, 409))
def series_rendered(study: str, series: str) -> Response:
    """Each instance in a multipart body; one of them where only a picture is accepted."""
    return _several(resources.instances(study, series), study)


@blueprint.get(f"{_INSTANCE}/rendered")
@auth.role("radiologist")
@operation(
    "Render an instance (WADO-RS)", tag="dicomweb", answers={200: "image/jpeg"}, problems=(406, 409, 410)
)
def rendered(study: str, series: str, instance: str) -> Response:
    """JPEG, PNG or GIF of 8 bits.

    `viewport=W,H[,X,Y,W,H]`, `window=CENTRE,WIDTH,FUNCTION`, `quality=1..100`.
    """
    one = resources.one(study, series, instance)
    wanted = _wanted(choose([Offer(media, multipart=False) for media in FORMATS]).media)
    resources.note("rendered", study, instance)
    return _warned(answers.alone(_made(one, wanted)), one)


@blueprint.get(f"{_INSTANCE}/frames/<numbers>/rendered")
@auth.role("radiologist")
@operation("Render a frame (WADO-RS)", tag="dicomweb", answers={200: "image/jpeg"}, problems=(406, 409, 410))
def frame_rendered(study: str, series: str, instance: str, numbers: str) -> Response:
    """The same: images here have one frame."""
    frames.frame_numbers(numbers)
    return rendered(study, series, instance)


@blueprint.get("/studies/<study>/thumbnail")
@auth.role("radiologist")
@operation("Thumbnail of a study", tag="dicomweb", answers={200: "image/jpeg"}, problems=(406, 409))
def study_thumbnail(study: str) -> Response:
    """Of one of its instances."""
    return _thumbnail(resources.instances(study))


@blueprint.get(f"{_SERIES}/thumbnail")
@auth.role("radiologist")
@operation("Thumbnail of a series", tag="dicomweb", answers={200: "image/jpeg"}, problems=(406, 409))
def series_thumbnail(study: str, series: str) -> Response:
    """Of one of its instances."""
    return _thumbnail(resources.instances(study, series))


@blueprint.get(f"{_INSTANCE}/thumbnail")
@auth.role("radiologist")
@operation("Thumbnail of an instance", tag="dicomweb", answers={200: "image/jpeg"}, problems=(406, 409, 410))
def instance_thumbnail(study: str, series: str, instance: str) -> Response:
    """At most 256 pixels on a side, or as large as `viewport=W,H` says; made of the stored preview."""
    return _thumbnail([resources.one(study, series, instance)])


@blueprint.get(f"{_INSTANCE}/frames/<numbers>/thumbnail")
@auth.role("radiologist")
@operation("Thumbnail of a frame", tag="dicomweb", answers={200: "image/jpeg"}, problems=(406, 409, 410))
def frame_thumbnail(study: str, series: str, instance: str, numbers: str) -> Response:
    """The same: images here have one frame."""
    frames.frame_numbers(numbers)
    return _thumbnail([resources.one(study, series, instance)])


def _thumbnail(found: list[Instance]) -> Response:
    one = _representative(found)
    media = choose([Offer(media, multipart=False) for media in FORMATS]).media
    given = _wanted(media)
    wanted = Wanted(media, given.viewport or Viewport(THUMBNAIL_SIDE, THUMBNAIL_SIDE), None, given.quality)
    if one.preview_key is None:
        raise NotFound("There is no picture of this object.")
    data = _from_preview(services().store, one, wanted)
    return answers.alone(Outgoing(media, lambda: [data], len(data)))


def _several(found: list[Instance], study: str) -> Response:
    one = _representative(found)
    offers = [Offer(media, several) for several in (True, False) for media in FORMATS]
    chosen = choose(offers)
    wanted = _wanted(chosen.media)
    resources.note("rendered", study, count=len(found) if chosen.multipart else 1)
    if not chosen.multipart:
        return _warned(answers.alone(_made(one, wanted)), one)
    store = services().store
    sound = [instance for instance in found if instance.accepted]
    parts = [
        Outgoing(chosen.media, lambda instance=instance: [_picture(store, instance, wanted)])  # type: ignore[misc]
        for instance in sound
    ]
    return answers.together(chosen.media, parts)


def _representative(found: list[Instance]) -> Instance:
    """The instance whose picture stands for all: a source if one has pixels, as it is the acquired image."""
    sound = [one for one in found if one.accepted]
    return resources.accepted(sound[0] if sound else found[0])


def _made(instance: Instance, wanted: Wanted) -> Outgoing:
    data = _picture(services().store, resources.accepted(instance), wanted)
    return Outgoing(wanted.media, lambda: [data], len(data))


def _warned(response: Response, instance: Instance) -> Response:
    ignored = sorted(_IGNORED & set(request.args))
    texts = [f"The {name} parameter is not supported and has been ignored." for name in ignored]
    if instance.transfer_syntax_uid not in NATIVE and not instance.is_result:
        texts.append("The picture was made of the stored preview.")
    return answers.warn(response, *texts)


def _picture(store: ObjectStore, instance: Instance, wanted: Wanted) -> bytes:
    """The picture of an instance: of its own pixels where they are native, else of its preview."""
    most = (instance.rows or 0) * (instance.columns or 0) * 2 + (8 << 20)
    try:
        with header.opened(store, instance.object_key, most=most, sha256=instance.sha256) as found:
            if found.syntax in NATIVE:
                return _from_pixels(found, wanted)
    except (header.Unreadable, AttributeError, TypeError, ValueError) as error:
        raise Conflict("The header of this object cannot be read.", kind="unreadable") from error
    if wanted.window is not None:
        raise ApiProblem(
            "These pixels are stored compressed: a window can be applied to the frame, not here.",
            status=406,
            kind="not-acceptable",
        )
    if instance.preview_key is None:
        raise NotFound("There is no picture of this object.")
    return _from_preview(store, instance, wanted)


def _from_pixels(found: Header, wanted: Wanted) -> bytes:
    pixels = Pixels.of(found.ds)
    length = frames.frame_length(found)
    with turn():
        shown = picture.render(pixels, lambda: frames.frame_chunks(found, length), wanted.window)
        return _fitted(Image.fromarray(shown), (pixels.columns, pixels.rows), wanted)


def _from_preview(store: ObjectStore, instance: Instance, wanted: Wanted) -> bytes:
    assert instance.preview_key is not None
    with store.open(instance.preview_key) as stream, turn():
        with Image.open(BytesIO(stream.read()), formats=["PNG"]) as preview:
            shown = preview.convert("L")
        size = (instance.columns or shown.width, instance.rows or shown.height)
        return _fitted(shown, size, wanted)


def _fitted(shown: Image.Image, size: tuple[int, int], wanted: Wanted) -> bytes:
    try:
        made = picture.fit(shown, wanted.viewport, size)
    except picture.OutsideImage:
        raise _bad("the region lies outside of the image") from None
    return picture.encode(made, wanted.media, wanted.quality)


@contextmanager
def turn() -> Iterator[None]:
    """Wait until one more picture may be made. Raises :class:`webui.errors.Unavailable`."""
    if not _turns.acquire(timeout=PATIENCE_SECONDS):
        raise Unavailable("Many pictures are being made; try again later.", kind="busy")
    try:
        yield
    finally:
        _turns.release()


def _wanted(media: str) -> Wanted:
    """The query of a rendering. Raises 400 for what cannot be understood."""
    unknown = set(request.args) - _OPTIONS
    if unknown:
        raise _bad("there is no such parameter")
    quality = 90
    if text := request.args.get("quality"):
        quality = _numbers(text, int)[0]
        if not 1 <= quality <= 100:
            raise _bad("quality is 1 to 100")
    return Wanted(media, _viewport(), _window(), quality)


def _viewport() -> Viewport | None:
    text = request.args.get("viewport")
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) not in (2, 6):
        raise _bad("viewport is W,H or W,H,X,Y,W,H")
    width, height = (_numbers(part, int)[0] for part in parts[:2])
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise _bad(f"a picture has 1 to {MAX_SIDE} pixels on a side")
    region = [_numbers(part, float)[0] if part.strip() else 0.0 for part in parts[2:]]
    if region and min(region[:2]) < 0:
        raise _bad("a region begins within the image")
    return Viewport(width, height, *region)


def _window() -> Window | None:
    text = request.args.get("window")
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    function = parts[2].lower() if len(parts) == 3 else "linear"
    if len(parts) not in (2, 3) or function not in FUNCTIONS:
        raise _bad(f"window is CENTRE,WIDTH and one of {', '.join(FUNCTIONS)}")
    centre, width = _numbers(",".join(parts[:2]), float)
    if width < 1 if function == "linear" else width <= 0:
        raise _bad("the width of a window is positive, of a linear one at least 1")
    return Window(centre, width, function)


def _numbers(text: str, kind: Callable[[str], _Number]) -> list[_Number]:
    try:
        found = [kind(part) for part in text.split(",")]
    except ValueError:
        raise _bad("a number is expected") from None
    if any(abs(number) > 1e9 or number != number for number in found):
        raise _bad("a number is too large")
    return found


def _bad(why: str) -> ApiProblem:
    return ApiProblem(f"The request cannot be understood: {why}.", status=400, kind="bad-query")
