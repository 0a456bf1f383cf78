"""Answers of retrievals: one representation alone, or several in a multipart body, streamed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

import numpy as np
import structlog
from flask import Response, request

from db.intact import intact
from db.objects import ObjectStore, StoreError
from webui import multipart
from webui.dicomweb.media import MULTIPART
from webui.multipart import Outgoing

CHUNK = 256 << 10
log = structlog.get_logger(__name__)


def alone(part: Outgoing) -> Response:
    """One representation as the whole body."""
    body = part.chunks() if request.method != "HEAD" else []
    response = Response(body, content_type=part.content_type)
    if part.length is not None:
        response.content_length = part.length
    return response


def together(media: str, parts: Iterable[Outgoing]) -> Response:
    """A multipart/related body of representations of one media type."""
    boundary = multipart.new_boundary()
    listed = parts if isinstance(parts, list) else None
    body = multipart.write(parts, boundary) if request.method != "HEAD" else []
    response = Response(body, content_type=f'{MULTIPART}; type="{media}"; boundary={boundary}')
    if listed is not None and (length := multipart.length(listed, boundary)) is not None:
        response.content_length = length
    return response


def warn(response: Response, *texts: str) -> Response:
    """Add warnings in the form that PS3.18 asks for: `299 SERVICE: TEXT`."""
    service = f"{request.url_root}dicomweb"
    for text in texts:
        response.headers.add("Warning", f'299 {service} "{text}"')
    return response


def whole(store: ObjectStore, key: str) -> Iterator[bytes]:
    """The bytes of an object."""
    try:
        with store.open(key) as stream:
            while chunk := stream.read(CHUNK):
                yield chunk
    except StoreError:
        log.error("object missing", key=key)
        raise


def span(stream: BinaryIO, offset: int, length: int, *, swap: int = 1) -> Iterator[bytes]:
    """Bytes of a stream; `swap` turns words of that many bytes round."""
    stream.seek(offset)
    while length > 0 and (chunk := stream.read(min(CHUNK, length + -length % swap))):
        if swap > 1 and len(chunk) % swap == 0:
            chunk = np.frombuffer(chunk, f"u{swap}").byteswap().tobytes()
        yield chunk[:length]
        length -= len(chunk)


def check_whole(store: ObjectStore, objects: Iterable[tuple[str, str]]) -> None:
    """Look at objects, by key and digest, before an answer begins.

    Raises :class:`db.objects.ObjectMissing`, :class:`db.objects.ObjectDamaged`.
    """
    for key, sha256 in objects:
        with intact(store, key, sha256, lately=True):
            pass
