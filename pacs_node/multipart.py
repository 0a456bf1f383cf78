"""Reading a multipart answer as it comes, the body of each part in pieces.

Nothing is held but the piece at hand: a part may be as large as it likes.
"""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message

MAX_HEAD_BYTES = 16384


class MultipartError(ValueError):
    """The bytes are not the multipart message that the header of the answer says."""


def boundary_of(content_type: str) -> bytes | None:
    """The boundary that a Content-Type names; None where it is not multipart. Raises MultipartError."""
    message = Message()
    message["Content-Type"] = content_type
    if message.get_content_maintype() != "multipart":
        return None
    boundary = message.get_boundary()
    if not boundary or len(boundary) > 200 or not boundary.isascii():
        raise MultipartError("a multipart answer without a usable boundary")
    return boundary.encode()


class Parts:
    """Iterates over the parts of `chunks`: each is an iterator of its bytes.

    The bytes of a part must be read to their end before the next part is asked for. Raises
    :class:`MultipartError` where the message is cut off.
    """

    def __init__(self, chunks: Iterator[bytes], boundary: bytes) -> None:
        self._chunks = chunks
        self._delimiter = b"\r\n--" + boundary
        self._data = bytearray(b"\r\n")  # the first boundary need not stand on a new line

    def __iter__(self) -> Iterator[Iterator[bytes]]:
        for _ in self._until_delimiter():  # the preamble
            pass
        while not self._ended():
            self._skip_head()
            yield self._until_delimiter()

    def _more(self) -> None:
        chunk = next(self._chunks, None)
        if chunk is None:
            raise MultipartError("the answer was cut off")
        self._data += chunk

    def _ended(self) -> bool:
        """After a boundary: whether it was the last one."""
        while len(self._data) < 2:
            self._more()
        return self._data[:2] == b"--"

    def _skip_head(self) -> None:
        while (end := self._data.find(b"\r\n\r\n")) < 0:
            if len(self._data) > MAX_HEAD_BYTES:
                raise MultipartError("a part whose head has no end")
            self._more()
        del self._data[: end + 4]
        # a body without bytes is followed by its boundary at once, whose line break is that of the head
        if self._data.startswith(self._delimiter[2:]):
            self._data[:0] = b"\r\n"

    def _until_delimiter(self) -> Iterator[bytes]:
        while True:
            at = self._data.find(self._delimiter)
            if at >= 0:
                piece = bytes(self._data[:at])
                del self._data[: at + len(self._delimiter)]
                if piece:
                    yield piece
                return
            safe = len(self._data) - len(self._delimiter)
            if safe > 0:
                piece = bytes(self._data[:safe])
                del self._data[:safe]
                yield piece
            self._more()
