"""The first step with any object: decode it in a disposable child, and say what it is or why it is refused.

A child is started ahead of need, serves one object and ends; the next one is started while the result is
worked with. Pixels come back through memory that both share.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset

from pacs_node import codecs, facts, reading
from pacs_node.decode import MAX_PIXELS, PixelFormat, StoredImage
from pacs_node.errors import Reason, Refusal, Refused
from pacs_node.facts import HeaderFacts
from pacs_node.secondary import PictureContext, secondary_capture

_START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child may take for one object."""

    timeout_seconds: float = 60
    memory_bytes: int = 4 << 30
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True)
class Examination:
    """What an object is.

    header: its data set without pixels, to be read; of an uploaded picture, the Secondary Capture made of it.
    image: its stored values, or None where `refusal` says why there are none. stored_bytes: length of its
    encoded pixels. dropped: keywords of what could not be read. is_picture: it was not DICOM. encoded: the
    header's bytes, of which :meth:`untouched` makes a data set.
    """

    header: Dataset
    facts: HeaderFacts
    header_digest: str
    transfer_syntax: str
    image: StoredImage | None
    pixel_digest: str | None
    refusal: Refusal | None
    stored_bytes: int = 0
    dropped: tuple[str, ...] = ()
    is_picture: bool = False
    encoded: bytes = b""

    def untouched(self) -> Dataset:
        """The header once more, with every value in the bytes that came.

        Reading a value of `header` makes pydicom decode it, and writing it then encodes it again: a text that
        is not in the character set that it claims would come out as question marks.
        """
        if not self.encoded:
            return self.header
        ds = parse_header(self.encoded)
        ds.file_meta = self.header.file_meta
        return ds


class Examiner:
    """Examines objects one after another. Use as a context manager; safe to share between threads."""

    def __init__(self, limits: Limits | None = None, *, environment: dict[str, str] | None = None) -> None:
        self.limits = limits or Limits()
        self._environment = _environment() | (environment or {})
        self._lock = threading.Lock()
        self._spare: _Child | None = None
        self._closed = False

    def __enter__(self) -> Examiner:
        self.warm()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def warm(self) -> None:
        """Start the next child now, so that the next object does not wait for it."""
        with self._lock:
            if self._spare is None and not self._closed:
                self._spare = _Child(self._environment)

    def close(self) -> None:
        """End the waiting child."""
        with self._lock:
            self._closed = True
            spare, self._spare = self._spare, None
        if spare is not None:
            spare.end()

    def examine(self, path: Path, picture: PictureContext | None = None) -> Examination:
        """What the object at `path` is.

        picture: what is known of an upload, needed to make a Secondary Capture of a PNG, JPEG or TIFF;
        without it such a file is refused. Raises :class:`Refused` where not even a header can be read;
        otherwise the reason why there are no pixels stands in the examination.
        """
        with self._lock:
            child, self._spare = self._spare, None
        if child is not None and child.process.poll() is not None:  # somebody else ended it while it waited
            child.end()
            child = None
        if child is None:
            child = _Child(self._environment)
        try:
            messages, crash = child.ask(path, self.limits)
            self.warm()
            return _examination(child, messages, crash, picture)
        finally:
            child.end()


class _Child:
    """One process, its two memory files and its answers."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.header_fd = os.memfd_create("header", os.MFD_CLOEXEC)
        self.pixels_fd = os.memfd_create("pixels", os.MFD_CLOEXEC)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore", "-m", "pacs_node.examine_child",
                 str(self.header_fd), str(self.pixels_fd)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # libraries print there what they find in the object
                pass_fds=(self.header_fd, self.pixels_fd),
                env=environment,
                text=True,
            )  # fmt: skip
        except OSError as error:
            self._close_files()
            raise Refused(Reason.DECODER_START, "The decoder process could not be started.") from error

    def ask(self, path: Path, limits: Limits) -> tuple[dict[str, dict[str, Any]], Refusal | None]:
        """The child's messages by kind, and why it ended badly if it did."""
        request = {
            "path": str(path.absolute()),
            "max_pixels": limits.max_pixels,
            "memory_bytes": limits.memory_bytes,
            "cpu_seconds": max(1, round(limits.timeout_seconds)),
        }
        slow = Refusal(
            Reason.DECODER_TIMEOUT,
            f"Decoding the object took longer than {limits.timeout_seconds:g} seconds.",
        )
        crash: Refusal | None = None
        self._wait_until_ready()
        try:
            output, _ = self.process.communicate(json.dumps(request) + "\n", timeout=limits.timeout_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            output, _ = self.process.communicate()
            crash = slow
        except BrokenPipeError:
            output = ""
        messages = {message["kind"]: message for message in _whole_lines(output)}
        status = self.process.wait()
        if crash is None and status != 0:
            crash = slow if -status == signal.SIGXCPU else _crash(status)
        return messages, crash

    def _wait_until_ready(self) -> None:
        """Wait for the child to have started: on a busy machine that is no fault of the object."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], _START_SECONDS)
        if not ready or not self.process.stdout.readline():
            raise Refused(Reason.DECODER_START, "The decoder process did not start.")

    def end(self) -> None:
        """Let the child go and free what was shared (mapped pixels live on)."""
        if self.process.poll() is None:
            self.process.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None and not stream.closed:
                stream.close()
        self.process.wait()
        self._close_files()

    def header(self) -> bytes:
        size = min(os.fstat(self.header_fd).st_size, reading.MAX_HEADER + reading.MAX_ELEMENT)
        return os.pread(self.header_fd, size, 0)

    def pixels(self, rows: int, columns: int, dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[Any]]:
        """Int[rows, columns] on the shared memory itself; nothing is copied."""
        if os.fstat(self.pixels_fd).st_size < rows * columns * dtype.itemsize:
            raise Refused(Reason.DECODER_CRASHED, "The decoder ended before it had written all pixels.")
        shared = mmap.mmap(self.pixels_fd, rows * columns * dtype.itemsize, access=mmap.ACCESS_READ)
        return np.frombuffer(shared, dtype, count=rows * columns).reshape(rows, columns)

    def _close_files(self) -> None:
        for descriptor in (self.header_fd, self.pixels_fd):
            try:
                os.close(descriptor)
            except OSError:
                pass


def _whole_lines(output: str) -> Iterator[dict[str, Any]]:
    """The messages; the last line may have been cut off by the child's death."""
    for line in output.splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


def _examination(
    child: _Child,
    messages: dict[str, dict[str, Any]],
    crash: Refusal | None,
    context: PictureContext | None,
) -> Examination:
    refusal = crash
    if "refused" in messages:
        refusal = Refusal(Reason(messages["refused"]["reason"]), messages["refused"]["sentence"])
    if "picture" in messages:
        return _of_picture(child, messages["picture"], context)
    if "header" not in messages:
        failed = refusal or Refusal(Reason.DECODER_CRASHED, "The decoder ended without an answer.")
        raise Refused(failed.reason, failed.sentence)
    told = messages["header"]
    encoded = child.header()
    header = parse_header(encoded, told["meta"])
    image: StoredImage | None = None
    if "image" in messages and refusal is None:
        said = messages["image"]
        fmt = PixelFormat(
            said["rows"], said["columns"], said["bits_allocated"], said["bits_stored"], said["high_bit"],
            said["signed"], said["photometric"],
        )  # fmt: skip
        padding = tuple(said["padding"]) if said["padding"] else None
        image = StoredImage(child.pixels(fmt.rows, fmt.columns, fmt.dtype), fmt, padding)
    elif refusal is None:
        refusal = Refusal(Reason.DECODER_CRASHED, "The decoder ended without an answer.")
    if refusal is None:
        refusal = unnamed(header)
        image = None if refusal is not None else image
    return Examination(
        header=header,
        facts=facts.header_facts(header),
        header_digest=facts.header_digest(header),
        transfer_syntax=str(told["transfer_syntax"]),
        image=image,
        pixel_digest=facts.pixel_digest(header, image) if image is not None else None,
        refusal=refusal,
        stored_bytes=int(told["stored_bytes"]),
        dropped=tuple(told["dropped"]),
        encoded=encoded,
    )


def _of_picture(child: _Child, said: dict[str, Any], context: PictureContext | None) -> Examination:
    if context is None:
        raise Refused(Reason.NOT_AN_IMAGE, "The file is a picture, not a DICOM object.")
    values = child.pixels(said["rows"], said["columns"], np.dtype(said["dtype"]))
    full, fmt = secondary_capture(values, context, lossy_ratio=said["lossy_ratio"])
    del full.PixelData
    image = StoredImage(values, fmt)
    return Examination(
        header=full,
        facts=facts.header_facts(full),
        header_digest=facts.header_digest(full),
        transfer_syntax=codecs.EXPLICIT_VR_LITTLE_ENDIAN,
        image=image,
        pixel_digest=facts.pixel_digest(full, image),
        refusal=None,
        stored_bytes=values.nbytes,
        is_picture=True,
    )


def parse_header(header: bytes, meta: Mapping[str, str] | None = None) -> Dataset:
    """The data set that `pacs_node.reading.clean_header` wrote, with values of its file meta information."""
    reading.be_tolerant()
    ds = read_dataset(BytesIO(header), False, True, bytelength=len(header))
    ds.file_meta = FileMetaDataset()
    for keyword, value in (meta or {}).items():
        if value:
            setattr(ds.file_meta, keyword, value)
    return ds


def unnamed(header: Dataset) -> Refusal | None:
    """Why the object cannot be referred to: a derived object names its source, series and study."""
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        uid = facts.text(header, keyword)
        if not uid:
            return Refusal(Reason.MISSING_ATTRIBUTE, f"{keyword} is missing.")
        if len(uid) > 64 or not all(part.isdecimal() for part in uid.split(".")):
            return Refusal(Reason.MISSING_ATTRIBUTE, f"{keyword} is not a UID.")
    return None


def _crash(status: int) -> Refusal:
    if status < 0:
        try:
            how = f" ({signal.Signals(-status).name})"
        except ValueError:
            how = f" (signal {-status})"
        if -status == signal.SIGKILL:
            how = " (killed, perhaps for want of memory)"
    else:
        how = f" (exit status {status})"
    return Refusal(Reason.DECODER_CRASHED, f"The decoder broke down on this object{how}.")


def _environment() -> dict[str, str]:
    """The child's environment: our own modules, one thread in each library, and no secrets of ours."""
    kept = {
        name: os.environ[name]
        for name in ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
        if name in os.environ
    }
    paths = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return (
        kept | threads | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONDONTWRITEBYTECODE": "1"}
    )
