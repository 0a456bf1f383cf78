"""Request bodies that are too large for memory: each file of a form goes straight to the store's spool."""

from __future__ import annotations

import errno
import io
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar, cast

from flask import Flask, Request, current_app, g, request

from webui import errors
from webui.services import services

_TAKES_UPLOADS = "cxr_sr_upload"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LOOK_BYTES = 8 << 20
"""How much of a file is written between two looks at the room that is left."""

View = TypeVar("View", bound=Callable[..., Any])


def upload(view: View) -> View:
    """Declare that a view takes files: its body may be as large as `web.max_upload_bytes`."""
    setattr(view, _TAKES_UPLOADS, True)
    return view


class SpoolFile(io.FileIO):
    """A new private file in the spool; a full disk, or one at its reserve, becomes
    :class:`webui.errors.NoRoom`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / f"upload-{uuid.uuid4().hex}.part"
        self._unseen = 0
        try:
            super().__init__(self.path, "x+b")
        except OSError as error:
            if error.errno in _FULL:
                raise errors.no_room() from error
            raise
        self.path.chmod(0o600)

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        done = 0
        self._unseen += len(view)
        if self._unseen > _LOOK_BYTES:  # what is unpacked is larger than what was announced
            self._unseen = 0
            check_room(0)
        try:
            while done < len(view):
                done += super().write(view[done:]) or 0
        except OSError as error:
            if error.errno in _FULL:
                raise errors.no_room() from error
            raise
        return done


class UploadRequest(Request):
    """Files of a form are written to the spool as they arrive."""

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        if not takes_uploads(self):
            return super()._get_file_stream(total_content_length, content_type, filename, content_length)
        return cast("IO[bytes]", new_spool_file())


def takes_uploads(request: Request) -> bool:
    """Whether the view of this request declared that it takes files."""
    view = current_app.view_functions.get(request.endpoint or "")
    return getattr(view, _TAKES_UPLOADS, False)


def new_spool_file() -> SpoolFile:
    """A file in the spool that is removed when the request ends, unless the store has moved it away."""
    file = SpoolFile(services().store.spool)
    g.setdefault("spooled", []).append(file)
    return file


def check_room(incoming: int) -> None:
    """Refuse what would eat into the reserve before it is sent."""
    room = services().store.room()
    if room.free_bytes is not None and room.free_bytes - incoming < room.reserve_bytes:
        raise errors.no_room()


def register(app: Flask) -> None:
    """Allow large bodies where they are declared, and leave nothing in the spool."""

    @app.before_request
    def _limits() -> None:
        if takes_uploads(request):
            request.max_content_length = services().settings.web.max_upload_bytes
            if (request.content_length or 0) > request.max_content_length:
                raise errors.TooLarge(
                    "The upload is larger than allowed.", limit_bytes=request.max_content_length
                )
            check_room(request.content_length or 0)

    @app.teardown_request
    def _tidy(_error: BaseException | None) -> None:
        for file in g.pop("spooled", []):
            file.close()
            file.path.unlink(missing_ok=True)
