"""Bodies of `multipart/related`: read as they arrive, parts going to files; written as they are sent."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

CHUNK = 64 << 10
MAX_HEAD_BYTES = 8 << 10
MAX_PARTS = 1000


class Malformed(ValueError):
    """The body is not what its boundary promises."""


@dataclass(frozen=True)
class Part:
    """One part: its media type in lower case, without parameters, and the file with its bytes."""

    media_type: str
    file: Any


@dataclass(frozen=True)
class Outgoing:
    """One part of an answer: its content type, its bytes, and their number where it is known."""

    content_type: str
    chunks: Callable[[], Iterable[bytes]]
    length: int | None = None


def new_boundary() -> str:
    """A boundary that stands in no body."""
    return uuid.uuid4().hex


def write(outgoing: Iterable[Outgoing], boundary: str) -> Iterator[bytes]:
    """The body of an answer; each part is asked for when its turn comes."""
    for part in outgoing:
        yield _head(part, boundary)
        yield from part.chunks()
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


def length(outgoing: Iterable[Outgoing], boundary: str) -> int | None:
    """Bytes of the body that :func:`write` makes; None where a part does not know its own."""
    total = len(boundary) + 6
    for part in outgoing:
        if part.length is None:
            return None
        total += len(_head(part, boundary)) + part.length + 2
    return total


def _head(part: Outgoing, boundary: str) -> bytes:
    return f"--{boundary}\r\nContent-Type: {part.content_type}\r\n\r\n".encode()


def parts(stream: IO[bytes], boundary: str, new_file: Callable[[], Any]) -> Iterator[Part]:
    """Each part of a body, one after the other. Raises :class:`Malformed`."""
    if not 1 <= len(boundary) <= 70:
        raise Malformed("a boundary has 1 to 70 characters")
    reader = _Reader(stream, b"\r\n--" + boundary.encode("latin-1", "replace"))
    reader.skip_body()
    for _ in range(MAX_PARTS):
        head = reader.read_head()
        if head is None:
            return
        file = new_file()
        reader.read_body(file.write)
        yield Part(_media_type(head), file)
    raise Malformed("too many parts")


class _Reader:
    """A window on the stream that always holds enough to see a whole delimiter."""

    def __init__(self, stream: IO[bytes], delimiter: bytes) -> None:
        self.stream, self.delimiter = stream, delimiter
        self.window = b"\r\n"  # so that a body that begins with its boundary has a whole delimiter

    def skip_body(self) -> None:
        """Go to behind the next delimiter."""
        self.read_body(lambda _data: None)

    def read_body(self, write: Callable[[bytes], Any]) -> None:
        """Hand on what comes before the next delimiter, and go to behind it."""
        while (at := self.window.find(self.delimiter)) < 0:
            keep = len(self.delimiter) - 1
            if len(self.window) > keep:
                write(self.window[:-keep])
                self.window = self.window[-keep:]
            self._more()
        if at:
            write(self.window[:at])
        self.window = self.window[at + len(self.delimiter) :]

    def read_head(self) -> bytes | None:
        """Header lines of the part that begins here; None when the delimiter was the last."""
        while len(self.window) < 2:
            self._more()
        if self.window.startswith(b"--"):
            return None
        padding = self._through(b"\r\n")
        if padding.strip(b" \t\r\n"):
            raise Malformed("something follows a boundary on its line")
        while len(self.window) < 2:
            self._more()
        if self.window.startswith(b"\r\n"):
            self.window = self.window[2:]
            return b""
        return self._through(b"\r\n\r\n")

    def _through(self, ending: bytes) -> bytes:
        while (at := self.window.find(ending)) < 0:
            if len(self.window) > MAX_HEAD_BYTES:
                raise Malformed("the header of a part is too long")
            self._more()
        taken, self.window = self.window[:at], self.window[at + len(ending) :]
        return taken

    def _more(self) -> None:
        data = self.stream.read(CHUNK)
        if not data:
            raise Malformed("the body ends within a part")
        self.window += data


def _media_type(head: bytes) -> str:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-type":
            return value.decode("latin-1").split(";", 1)[0].strip().lower()
    return ""
